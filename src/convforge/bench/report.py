"""Tables of measurements, for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from convforge.bench.goals import Goal
from convforge.bench.measure import OURS, Measurement, Table
from convforge.bench.models import CONVERT, ONNXRUNTIME, OPTIMIZE, TORCH, Model
from convforge.bench.rows import Row
from convforge.bench.scaling import Series
from convforge.bench.timer import geometric_mean

_SHORT = {
    "onnxruntime": "ort",
    "openvino": "ov",
    "torch-nhwc": "torch\nnhwc",
    "torch-nchw": "torch\nnchw",
    "torch-linear": "torch",
}
_FEW = ("torch", "onnxruntime")
"""Beyond these, ratios are to the fastest of all: one column instead of six."""
_SLOWER = 0.95
"""Ratios below this are red: slower than the peer by more than the harness errs."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a number of each measurement, NaN where there is none.

    Attributes:
        heading: Two lines. value: The number. spell: How it is written.
        summarised: Has a geometric mean and a lowest value.
    """

    heading: str
    value: Callable[[Measurement], float]
    spell: Callable[[float], Text]
    summarised: bool = False


def render(table: Table) -> RenderableType:
    """Rates, shares of the peak, and ratios to each peer: above 1, convforge is faster."""
    if not table.measured:
        return _titled(_title(table), "", table.notes)
    view = _blank()
    view.add_column("layer", no_wrap=True)
    algorithms = {one.algorithm for one in table.measured}
    if len(algorithms) > 1:
        view.add_column("algorithm", no_wrap=True)
    shown = [c for c in columns(table) if not all(math.isnan(c.value(m)) for m in table.measured)]
    for column in shown:
        view.add_column(column.heading, justify="right", no_wrap=True)
    for one in table.measured:
        names = [one.label] if len(algorithms) == 1 else [one.label, one.algorithm]
        view.add_row(*names, *(column.spell(column.value(one)) for column in shown))
    if len(table.measured) > 1:
        view.add_section()
        blank = [""] * (len(algorithms) > 1)
        view.add_row("geometric mean", *blank, *(_summary(table, c, geometric_mean) for c in shown))
        view.add_row("lowest", *blank, *(_summary(table, c, min) for c in shown))
    return _titled(_title(table), view, table.notes)


def render_calls(table: Table) -> RenderableType:
    """Microseconds a call, for a layer with next to no work."""
    view = _blank()
    view.add_column("who")
    for heading in ("µs", "spread"):
        view.add_column(heading, justify="right")
    for one in table.measured:
        for who, timing in one.timings.items():
            view.add_row(who, f"{timing.median_s * 1e6:.1f}", f"{timing.spread:.0%}")
    return _titled(_title(table), view, table.notes)


def render_series(series: Iterable[Series]) -> RenderableType:
    """Milliseconds, and those on the straight line."""
    view = _blank()
    for heading in ("quantity", "algorithm"):
        view.add_column(heading)
    for heading in ("at", "ms", "straight", "spread"):
        view.add_column(heading, justify="right")
    for one in series:
        for point in one.points:
            view.add_row(
                one.quantity,
                one.algorithm,
                str(point.at),
                f"{point.median_s * 1e3:.3g}",
                f"{one.expected_s(point.at) * 1e3:.3g}",
                f"{point.spread:.0%}",
            )
        view.add_section()
    return _titled("time and work", view)


def render_goals(goals: Iterable[Goal]) -> RenderableType:
    """What is promised, and what came."""
    view = _blank()
    view.add_column("number")
    for heading in ("measured", "wanted", "met"):
        view.add_column(heading, justify="right")
    view.add_column("of")
    for goal in goals:
        sign = "≤" if goal.at_most else "≥"
        view.add_row(
            goal.name,
            f"{goal.value:.4g}{goal.unit}",
            f"{sign} {goal.wanted:g}{goal.unit}",
            "[green]yes" if goal.met else "[red]no",
            goal.note,
        )
    return _titled("promised and measured", view)


def columns(table: Table) -> Iterator[Column]:
    """Every column that a table of this kind may have; rates are in the table's unit."""
    main = table.peers[0] if table.peers else None
    for peer in table.peers:
        yield _rate(table, _SHORT.get(peer, peer), peer, Row.WARM)
    if not set(table.peers) <= set(_FEW):
        yield from _against_the_best(table)
        return
    yield _rate(table, "plan", OURS, Row.WARM)
    yield Column("of\npeak", partial(share_of_peak, table), _percent, summarised=True)
    yield Column("of\nbound", Measurement.share_of_bound, _percent, summarised=True)
    for peer in table.peers:
        yield _ratio("plan", peer, Row.WARM)
    if main:
        yield Column(f"ceiling\n/{main}", partial(ceiling, table, main), _plain_ratio, True)
    yield _rate(table, "cold", OURS, Row.COLD)
    for peer in table.peers:
        yield _ratio("cold", peer, Row.COLD)
    yield _rate(table, "call", OURS, Row.FUNCTIONAL)
    if main:
        yield _ratio("call", main, Row.FUNCTIONAL)
    yield Column("spread", spread, _percent)
    yield Column("error\nunits", lambda one: one.error_units, _two_digits)


def _against_the_best(table: Table) -> Iterator[Column]:
    for what, row in (
        ("plan", Row.WARM),
        ("cold", Row.COLD),
        ("call", Row.FUNCTIONAL),
        ("step", Row.PLAIN),
    ):
        yield _rate(table, what, OURS, row)
        yield Column(f"{what}\n/best", partial(_best, table, row), _judged_ratio, summarised=True)
        if row is Row.WARM:
            yield Column("of\npeak", partial(share_of_peak, table), _percent, summarised=True)
            yield Column("of\nbound", Measurement.share_of_bound, _percent, summarised=True)
    yield Column("spread", spread, _percent)
    yield Column("error\nunits", lambda one: one.error_units, _two_digits)


def _best(table: Table, row: Row, one: Measurement) -> float:
    return one.best(row, table.peers)[0]


def share_of_peak(table: Table, one: Measurement) -> float:
    """Rate of the direct form over the machine's; algorithms that multiply less exceed 1."""
    return one.gflops(OURS, Row.WARM) / table.peak_gflops


def ceiling(table: Table, peer: str, one: Measurement) -> float:
    """The best ratio to the peer that an algorithm with all the multiplications can reach."""
    return table.peak_gflops / one.gflops(peer, Row.WARM)


def spread(one: Measurement) -> float:
    """Largest distance between quartiles among the contestants, as a share of the median."""
    return max(timing.spread for timing in one.timings.values())


def _blank() -> RichTable:
    return RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _titled(title: str, view: RichTable | str, notes: Sequence[str] = ()) -> RenderableType:
    """A table between its title and its notes, neither of which is as narrow as the table."""
    return Group(
        Text(title, style="bold"), view, *(Text(f"  {note}", style="dim") for note in notes)
    )


def _title(table: Table) -> str:
    parts = [f"{table.title}, {table.threads} thread{'s' * (table.threads != 1)}"]
    algorithms = {one.algorithm for one in table.measured}
    if len(algorithms) == 1:
        parts += algorithms
    if math.isnan(table.peak_gflops):
        parts.append(table.unit)
    else:
        parts.append(f"GFLOP/s of a measured peak of {table.peak_gflops:.0f}")
    return " · ".join(parts)


def _rate(table: Table, heading: str, who: str, row: Row) -> Column:
    return Column(heading, lambda one: table.rate(one, who, row), _three_digits)


def _ratio(what: str, peer: str, row: Row) -> Column:
    heading = f"{what}\n/{_SHORT.get(peer, peer)}"
    return Column(heading, lambda one: one.ratio(row, peer), _judged_ratio, summarised=True)


def _summary(table: Table, column: Column, reduce: Callable[[list[float]], float]) -> Text:
    values = [column.value(one) for one in table.measured]
    known = [value for value in values if not math.isnan(value)]
    if not column.summarised or not known:
        return Text()
    text = column.spell(reduce(known))
    text.stylize("bold")
    return text


def _spelled(text: str, value: float, style: str = "") -> Text:
    return Text("–", style="dim") if math.isnan(value) else Text(text, style=style)


def _three_digits(value: float) -> Text:
    return _spelled(f"{value:.0f}" if value >= 99.5 else f"{value:.3g}", value)


def _two_digits(value: float) -> Text:
    return _spelled(f"{value:.2g}", value)


def _percent(value: float) -> Text:
    return _spelled(f"{value:.0%}", value)


def _plain_ratio(value: float) -> Text:
    return _spelled(f"{value:.2f}", value, "dim")


def _judged_ratio(value: float) -> Text:
    style = "green" if value >= 1 else "red" if value < _SLOWER else ""
    return _spelled(f"{value:.2f}", value, style)


def render_models(found: Iterable[Model]) -> RenderableType:
    """Milliseconds of whole networks, and how many times faster than PyTorch and onnxruntime."""
    view = _blank()
    view.add_column("model", no_wrap=True)
    contestants = (*TORCH, CONVERT, OPTIMIZE, ONNXRUNTIME)
    ratios = ("convert\n× torch", "optimize\n× torch", "optimize\n× ort")
    for heading in (*contestants, *ratios, "spread", "prepared MB", "peak MB"):
        view.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    for one in found:
        times = [one.timings.get(who) for who in contestants]
        values = one.ratio(CONVERT), one.ratio(OPTIMIZE), one.ratio(OPTIMIZE, (ONNXRUNTIME,))
        view.add_row(
            one.title,
            *("" if timing is None else f"{timing.median_s * 1e3:.1f}" for timing in times),
            *("" if math.isnan(value) else f"{value:.2f}" for value in values),
            f"{max(timing.spread for timing in one.timings.values()):.0%}",
            f"{one.prepared_bytes / 1e6:.0f}",
            " ".join(f"{nbytes / 1e6:.0f}" for nbytes in one.peak_bytes.values()),
        )
    return view
