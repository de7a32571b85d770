"""The page of what was measured, ``docs/performance.md``, from the results alone.

Needs the ``report`` extra. Every table carries its date, machine and command; nothing on the page
is typed by hand but the explanations in ``performance.md.j2``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2

from convforge.bench.measure import OURS
from convforge.bench.rows import Row

_TEMPLATE = "performance.md.j2"
_NONE = "–"
_PEER_TITLES = {
    "torch": "PyTorch",
    "torch-nhwc": "PyTorch NHWC",
    "torch-nchw": "PyTorch NCHW",
    "torch-linear": "PyTorch linear",
    "openvino": "OpenVINO",
    "mnn": "MNN",
}

Record = Mapping[str, Any]


def render(measured: Record) -> str:
    """Markdown of everything in :mod:`convforge.bench.results`'s file."""
    environment = jinja2.Environment(
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = (files("convforge.bench") / _TEMPLATE).read_text(encoding="utf-8")
    machines = [_machine(kind, kept) for kind, kept in measured["machines"].items()]
    return environment.from_string(text).render(machines=machines)


def _machine(kind: str, kept: Record) -> dict[str, Any]:
    machine = kept["machine"]
    return {
        "kind": kind,
        "about": (
            f"{machine['cores']} cores of {machine['cpu']}, {machine['isa']}; "
            f"{machine['l1_bytes'] // 1024} KB L1 and {machine['l2_bytes'] // 1024} KB L2 a core, "
            f"{machine['l3_bytes'] >> 20} MB L3; {machine['threading_layer']} threads"
        ),
        "overview": markdown(
            ["group", "promises met", "date", "command"],
            [_overview(name, group) for name, group in _in_order(kept["groups"])],
        ),
        "groups": [_group(name, group, kind) for name, group in _in_order(kept["groups"])],
    }


def _in_order(groups: Mapping[str, Record]) -> list[tuple[str, Record]]:
    """As the catalogue has them, the foundation first."""
    from convforge.bench.catalogue import GROUPS

    known = ["foundation", "models", *GROUPS]
    return sorted(groups.items(), key=lambda item: (*_place(item[0], known), item[0]))


def _place(name: str, known: Sequence[str]) -> tuple[int]:
    return (known.index(name) if name in known else len(known),)


def _overview(name: str, group: Record) -> list[str]:
    goals = group["goals"]
    met = f"{sum(goal['met'] for goal in goals)} of {len(goals)}" if goals else _NONE
    return [name, met, _date(group), f"`{group['command']}`"]


def _group(name: str, group: Record, kind: str) -> dict[str, Any]:
    tables = [*group["tables"], *([group["tiny"]] if "tiny" in group else [])]
    return {
        "name": name,
        "title": group["title"][:1].upper() + group["title"][1:],
        "about": group["about"],
        "caption": f"{_date(group)} · {kind} · `{group['command']}`",
        "commit": group["commit"],
        "versions": ", ".join(f"{what} {which}" for what, which in group["versions"].items()),
        "rounds": group["method"]["rounds"],
        "most_rounds": group["method"]["most_rounds"],
        "block_ms": round(1e3 * group["method"]["block_s"]),
        "itself": ", ".join(
            f"{_threads(int(words.split()[0]))} {_NONE if ratio is None else f'{ratio:.3f}'}"
            for words, ratio in group["harness_against_itself"].items()
        ),
        "goals": markdown(
            ["number", "measured", "wanted", "met", "of"],
            [_goal(goal) for goal in group["goals"]],
        ),
        "tables": [_table(table) for table in tables],
        "plot": _plot(kind) if "series" in group else "",
        "models": _models(group["models"]) if "models" in group else "",
        "series": [_series(*pair) for pair in _by_quantity(group.get("series", ()))],
    }


def plots(measured: Record) -> dict[str, Sequence[Record]]:
    """File names of the pictures on the page, and the series of each."""
    return {
        _plot(kind): group["series"]
        for kind, kept in measured["machines"].items()
        for group in kept["groups"].values()
        if "series" in group
    }


def _plot(kind: str) -> str:
    return f"scaling-{re.sub('[^a-z0-9]+', '-', kind.lower())}.svg"


def _by_quantity(series: Sequence[Record]) -> list[tuple[str, list[Record]]]:
    grouped = itertools.groupby(series, key=lambda one: one["quantity"])
    return [(quantity, list(members)) for quantity, members in grouped]


def _series(quantity: str, members: Sequence[Record]) -> str:
    """Milliseconds of each algorithm, and those on the straight line."""
    rows = []
    for one in members:
        for what, key in (("", "median_ms"), (", straight", "expected_ms")):
            times = [_digits(point[key]) for point in one["points"]]
            rows.append([f"`{one['algorithm']}`{what}, ms", *times])
    return markdown([quantity, *(str(point["at"]) for point in members[0]["points"])], rows)


def _models(models: Sequence[Record]) -> str:
    """Milliseconds of whole networks, ratios and memory."""
    contestants = list(dict.fromkeys(who for one in models for who in one["times"]))
    ratios = list(dict.fromkeys(name for one in models for name in one["ratios"]))
    ratios = [name for name in ratios if any(one["ratios"][name] for one in models)]
    rows = [
        [
            one["title"],
            *(
                _digits(one["times"][w]["median_ms"]) if w in one["times"] else _NONE
                for w in contestants
            ),
            *(f"{ratio:.2f}" if (ratio := one["ratios"][name]) else _NONE for name in ratios),
            f"{max(timing['spread'] for timing in one['times'].values()):.0%}",
            _digits(one["weights_bytes"] / 1e6),
            _digits(one["prepared_bytes"] / 1e6) if one["prepared_bytes"] else _NONE,
            ", ".join(f"{who} {nbytes / 1e6:.0f}" for who, nbytes in one["peak_bytes"].items())
            or _NONE,
        ]
        for one in models
    ]
    headings = [f"{who}, ms" for who in contestants]
    memory = ["weights, MB", "prepared, MB", "peak, MB"]
    return markdown(["model", *headings, *ratios, "spread", *memory], rows)


def _goal(goal: Record) -> list[str]:
    value, unit = goal["value"], goal["unit"]
    return [
        goal["name"],
        _NONE if value is None else f"{_digits(value)}{unit}",
        f"{'≤' if goal['at_most'] else '≥'} {goal['wanted']:g}{unit}",
        "yes" if goal["met"] else "**no**",
        goal.get("note", ""),
    ]


def _table(table: Record) -> dict[str, Any]:
    threads, peak = table["threads"], table["peak_gflops"]
    title = f"{table['title']}, {_threads(threads)}"
    unit = table.get("unit", "GFLOP/s")
    what = "of the operands" if unit == "GB/s" else "of the direct form"
    return {
        "title": title[:1].upper() + title[1:],
        "unit": f"{unit} {what}" + (f"; measured peak {peak:.0f}" if peak else ""),
        "body": markdown(*_columns(table)) if table["layers"] else "",
        "notes": table["notes"],
    }


def _columns(table: Record) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, without the columns that nobody has."""
    columns = [(heading, cells) for heading, cells in _all_columns(table) if any(cells)]
    rows = zip(*(cells for _, cells in columns), strict=True)
    return [heading for heading, _ in columns], [[cell or _NONE for cell in row] for row in rows]


def _all_columns(table: Record) -> Iterator[tuple[str, list[str]]]:
    layers = table["layers"]
    yield "layer", [layer["label"] for layer in layers]
    yield "algorithm", [f"`{layer['algorithm'].partition('.')[2]}`" for layer in layers]
    for row in Row:
        yield f"{OURS} {row}", [_rate(table, layer, f"{OURS} {row}") for layer in layers]
    for peer in table["peers"]:
        heading = _PEER_TITLES.get(peer, peer)
        yield heading, [_rate(table, layer, f"{peer} {Row.WARM}") for layer in layers]
    for row in Row:
        yield f"{row} × best", [_ratio(layer, row) for layer in layers]
    yield "best peer", [_best_peer(layer) for layer in layers]
    yield "of bound", [_share_of_bound(layer) for layer in layers]
    yield "bound by", [_bound_by(layer) for layer in layers]
    yield "spread", [_spread(layer) for layer in layers]


def _rate(table: Record, layer: Record, who: str) -> str:
    timing = layer["times"].get(who)
    if timing is None or not timing["median_ms"]:
        return ""
    amount = layer["bytes"] if table.get("unit") == "GB/s" else layer["flops"]
    return _digits(amount / timing["median_ms"] / 1e6)


def _ratio(layer: Record, row: Row) -> str:
    best = layer["best"].get(row)
    return f"{best['ratio']:.2f}" if best and best["ratio"] is not None else ""


def _best_peer(layer: Record) -> str:
    """On warm weights, or on the only row there is."""
    best = layer["best"].get(Row.WARM) or next(iter(layer["best"].values()), None)
    return _PEER_TITLES.get(best["peer"], best["peer"]) if best else ""


def _share_of_bound(layer: Record) -> str:
    """Empty in results that are older than the bound."""
    share = layer.get("bound", {}).get("share")
    return f"{share:.0%}" if share else ""


def _bound_by(layer: Record) -> str:
    return str(layer["bound"]["by"]) if _share_of_bound(layer) else ""


def _spread(layer: Record) -> str:
    """Of the contestant whose blocks differ most."""
    return f"{max(timing['spread'] for timing in layer['times'].values()):.0%}"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; text to the left, numbers to the right."""
    numeric = [all(_is_number(row[i]) for row in rows) and i > 0 for i in range(len(headings))]
    lines = [headings, ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_number(cell: str) -> bool:
    cell = cell.removesuffix("%")
    return cell == _NONE or cell.replace(".", "", 1).replace("e-", "", 1).isdigit()


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.3g}"


def _date(group: Record) -> str:
    return str(group["date"]).partition("T")[0]
