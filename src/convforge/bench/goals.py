"""Numbers that the package promises itself, next to what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from convforge.bench.foundation import Foundation
from convforge.bench.measure import OURS, Table, key
from convforge.bench.rows import Row
from convforge.bench.startup import Startup
from convforge.bench.timer import geometric_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One number, and what it should be.

    Attributes:
        name: What is measured. value: What came; NaN if it could not be measured.
        wanted: The limit. at_most: Smaller is better.
        unit: Behind both numbers.
    """

    name: str
    value: float
    wanted: float
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the number is on the right side of its limit."""
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


_RATIOS: dict[str, dict[tuple[Row, int], tuple[float, float | None]]] = {
    # table: {(row, 1 thread or more): (geometric mean, lowest layer)}
    "fprop_nhwc": {
        (Row.WARM, 2): (1.10, 0.95),
        (Row.WARM, 1): (1.30, 0.95),
        (Row.FUNCTIONAL, 2): (1.0, None),
        (Row.FUNCTIONAL, 1): (1.0, None),
    },
    "fprop_nchw": {(Row.FUNCTIONAL, 2): (1.1, 0.9), (Row.FUNCTIONAL, 1): (1.1, 0.9)},
    "dgrad_nhwc": {(Row.WARM, 2): (0.9, None), (Row.WARM, 1): (0.9, None)},
    "wgrad_nhwc": {(Row.WARM, 2): (0.9, None), (Row.WARM, 1): (0.9, None)},
}


def of(found: Foundation) -> list[Goal]:
    """All of them."""
    return [*of_tables(found.tables), *of_startup(found.startup), *of_calls(found.tiny)]


def of_tables(tables: Iterable[Table], peer: str = "torch") -> Iterator[Goal]:
    """Geometric mean and lowest ratio of each table that promises something."""
    for table in tables:
        for (row, threads), (mean, lowest) in _RATIOS.get(table.name, {}).items():
            if min(table.threads, 2) != threads or peer not in table.peers:
                continue
            ratios = table.ratios(row, peer)
            name = f"{table.title}, {row}, {table.threads} thread{'s' * (table.threads != 1)}"
            yield Goal(name=f"{name}: × {peer}", value=geometric_mean(ratios), wanted=mean)
            if lowest is not None:
                value = min(ratios, default=math.nan)
                yield Goal(name=f"{name}: slowest layer", value=value, wanted=lowest)


def of_startup(startup: Startup) -> Iterator[Goal]:
    """Import, first call ever, first call of a process."""
    above = (startup.new_process_s - startup.trivial_s) * 1e3
    for name, value, wanted, unit in (
        ("import convforge, NumPy imported", startup.import_s * 1e3, 50, " ms"),
        ("first conv2d ever, nothing compiled", startup.first_ever_s, 4, " s"),
        ("first conv2d of a process, above a trivial cached Numba call", above, 250, " ms"),
    ):
        yield Goal(name=name, value=value, wanted=wanted, unit=unit, at_most=True)


def of_calls(tiny: Table) -> Iterator[Goal]:
    """Microseconds of a call with next to no work."""
    for row, name, wanted in ((Row.WARM, "plan", 6), (Row.FUNCTIONAL, "function", 12)):
        for one in tiny.measured:
            timing = one.timings.get(key(OURS, row))
            value = math.nan if timing is None else timing.median_s * 1e6
            name = f"warm call on 1x1x4x4, {name}"
            yield Goal(name=name, value=value, wanted=wanted, unit=" µs", at_most=True)
