"""What was measured on a device, as tables for the screen and as a record for a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from convforge.bench.device.measure import OURS, Measurement, Overhead
from convforge.bench.device.probes import Ceilings
from convforge.bench.timer import geometric_mean


def layers_table(measured: Sequence[Measurement], title: str) -> Table:
    """A line a layer: our best, what the device allows, the rivals, the others of ours."""
    rivals = list(
        dict.fromkeys(n for one in measured for n in one.timings if not n.startswith(OURS))
    )
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    view.add_column("layer")
    view.add_column("our fastest")
    for heading in ("ms", "TFLOP/s", "GB/s", "of what\nit may", "spread", *rivals, "ratio"):
        view.add_column(heading, justify="right")
    view.add_column("others of ours, ms")
    for one in measured:
        best = one.best(ours=True)
        if best is None:
            times = [_ms(one, rival) for rival in rivals]
            view.add_row(one.label, "–", "–", "–", "–", "–", "–", *times, "–", "")
            continue
        seconds = one.timings[best].median_s
        name = best.removeprefix(OURS).partition(".")[2]
        others = sorted(n for n in one.timings if n.startswith(OURS) and n != best)
        view.add_row(
            one.label,
            name if best == OURS + one.chosen else Text(f"{name} (not chosen)", style="yellow"),
            f"{seconds * 1e3:.3g}",
            f"{one.flops / seconds / 1e12:.3g}",
            f"{one.nbytes / seconds / 1e9:.4g}",
            f"{one.share():.0%} {one.bound_by}",
            f"{one.timings[best].spread:.1%}",
            *[_ms(one, rival) for rival in rivals],
            _ratio(one.ratio()),
            ", ".join(f"{n.partition('.')[2]} {_ms(one, n)}" for n in others),
        )
    ratios = [r for one in measured if not math.isnan(r := one.ratio())]
    view.caption = (
        f"ratio: the fastest rival's time over ours, geometric mean {geometric_mean(ratios):.2f} "
        f"of {len(ratios)}. float32 without TF32; every call has other arrays than the last"
    )
    return view


def overheads_table(found: Iterable[Overhead]) -> Table:
    """What a launch of almost nothing takes."""
    view = Table(title="a launch of almost nothing, µs", title_justify="left", box=box.SIMPLE_HEAD)
    view.add_column("what")
    view.add_column("host", justify="right")
    view.add_column("device, in a row", justify="right")
    for one in found:
        view.add_row(one.what, f"{one.host_us:.2f}", f"{one.device_us:.2f}")
    return view


def ceilings_line(ceilings: Ceilings) -> str:
    """The rates that shares are of."""
    fma = ", ".join(f"{name} {rate / 1e3:.3g}" for name, rate in ceilings.fma_gflops.items())
    return f"measured ceilings: copy {ceilings.copy_gbytes:.0f} GB/s, FMA {fma} TFLOP/s"


def notes(measured: Iterable[Measurement]) -> list[str]:
    """Who did not take part where, and why; what is the same for many layers is said once."""
    where: dict[str, list[str]] = {}
    for one in measured:
        for note in one.notes:
            where.setdefault(note, []).append(one.label)
    return [
        f"{note} ({labels[0]}{f' and {len(labels) - 1} more' if labels[1:] else ''})"
        for note, labels in where.items()
    ]


def record(
    measured: Iterable[Measurement], overheads: Iterable[Overhead], ceilings: Ceilings
) -> dict[str, Any]:
    """Every number, for JSON."""
    layers = [
        {
            "label": one.label,
            "problem": one.problem,
            "chosen": one.chosen,
            "flops": one.flops,
            "bytes": one.nbytes,
            "bound": {"by": one.bound_by, "ms": one.bound_s * 1e3, "share": one.share()},
            "times": {
                who: {
                    "median_ms": timing.median_s * 1e3,
                    "spread": timing.spread,
                    "blocks_ms": [block * 1e3 for block in timing.blocks],
                    "error_units": one.errors[who],
                }
                for who, timing in one.timings.items()
            },
            "ratio": one.ratio(),
            "notes": list(one.notes),
        }
        for one in measured
    ]
    return {
        "ceilings": asdict(ceilings),
        "overheads": [asdict(one) for one in overheads],
        "layers": layers,
    }


def plain(value: Any) -> Any:
    """A record for JSON, which has neither NaN nor infinity, in numbers of five digits."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def write(path: Path, found: dict[str, Any], kind: str = "device") -> Path:
    """Write a record; into a folder it goes by kind and device's name. Returns where it is."""
    if path.suffix != ".json":
        name = re.sub(r"[^a-z0-9]+", "-", str(found["device"]["name"]).lower()).strip("-")
        path = path / f"{kind}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(found), indent=1) + "\n", encoding="utf-8")
    return path


def _ms(one: Measurement, who: str) -> str:
    timing = one.timings.get(who)
    return "–" if timing is None else f"{timing.median_s * 1e3:.3g}"


def _ratio(value: float) -> Text:
    if math.isnan(value):
        return Text("–")
    return Text(f"{value:.2f}", style="green" if value >= 1 else "red")
