"""Whether time grows as the work does: with N, C, K and H*W, and with threads.

All points of a quantity race each other, so that a drift of the machine bends no line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from convforge.bench.check import Judge
from convforge.bench.measure import OURS, agree
from convforge.bench.ours import Convforge
from convforge.bench.rows import Row
from convforge.bench.timer import Method, race
from convforge.plan import Policy
from convforge.problem import Problem, parse
from convforge.testing.data import operands

GROUP = "scaling"
ALGORITHMS = ("conv_direct", "conv_winograd3x3.f4")
QUANTITIES = {
    "N": (1, 2, 3, 4, 6, 8),
    "C": (64, 128, 192, 256, 384, 512),
    "K": (64, 128, 192, 256, 384, 512),
    "H*W": (28, 56, 84, 112, 140),  # sides of square images
}
"""What grows, one at a time, from 128 channels to as many on one image of 56x56, by a 3x3 filter.

All are multiples of the tiles' extents: what is left over at an edge is another question.
"""
THREADS = "threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One time.

    Attributes:
        at: The quantity. problem: Its spelling.
        median_s: Of a call with prepared weights. spread: Of its blocks, as a share.
    """

    at: int
    problem: str
    median_s: float
    spread: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Times of one algorithm while one quantity grows.

    Attributes:
        quantity: One of :data:`QUANTITIES`, or threads. algorithm: The only one allowed.
        threads: Of the calls; 0 where they are the quantity. points: In order.
    """

    quantity: str
    algorithm: str
    threads: int
    points: tuple[Point, ...]

    @property
    def line(self) -> tuple[float, float]:
        """Seconds at nothing, and seconds for each more: the line from which times differ least.

        Differences count as shares, or the longest time alone would decide. Threads ought to
        divide the time of one, and leave nothing to fit: 0 and the time of one.
        """
        if self.quantity == THREADS:
            return 0.0, self.points[0].median_s * self.points[0].at
        times = np.array([point.median_s for point in self.points])
        rows = np.array([[1.0, point.at] for point in self.points]) / times[:, None]
        start, each = np.linalg.lstsq(rows, np.ones(len(times)), rcond=None)[0]
        return float(start), float(each)

    def expected_s(self, at: float) -> float:
        """Time on the line."""
        start, each = self.line
        return each / at if self.quantity == THREADS else start + each * at

    def deviation(self) -> tuple[float, int]:
        """The largest distance from the line, as a share of it, and where."""
        return max(
            (abs(point.median_s / self.expected_s(point.at) - 1), point.at) for point in self.points
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Results of a run: the series, and the seconds it took."""

    series: tuple[Series, ...]
    seconds: float


def run(
    *,
    threads: int,
    method: Method,
    before_each: Callable[[str], None] = lambda label: None,
) -> Scaling:
    """Measure each quantity on so many threads, and up to as many.

    Raises:
        Wrong: An algorithm disagrees with the reference.
    """
    begun = time.monotonic()
    series: list[Series] = []
    for quantity, values in (QUANTITIES | {THREADS: _up_to(threads)}).items():
        before_each(quantity)
        series += _race(quantity, values, threads, method)
    return Scaling(series=tuple(series), seconds=time.monotonic() - begun)


def problem(quantity: str, value: int) -> Problem:
    """A layer of which one quantity has this value."""
    sizes = {"N": 1, "C": 128, "K": 128, "H*W": 56} | {quantity: value}
    side = sizes["H*W"]
    return parse(
        f"fprop:f32:nhwc-krsc:n{sizes['N']}c{sizes['C']}h{side}w{side}_k{sizes['K']}r3s3_p1x1"
    )


def _up_to(threads: int) -> tuple[int, ...]:
    """Powers of two, and all of them."""
    powers = {1 << bit for bit in range(threads.bit_length())}
    return tuple(sorted(powers | {threads}))


def _race(quantity: str, values: Sequence[int], threads: int, method: Method) -> Iterator[Series]:
    problems, calls = {}, {}
    for value in values:
        layer = problem(quantity, value)
        data = operands(layer)
        judge = Judge(layer, data)
        problems[value] = layer
        for algorithm in ALGORITHMS:
            count = value if quantity == THREADS else threads
            runner = Convforge(Policy(algorithm=algorithm, threads=count))
            call = runner.calls(layer, data, [Row.WARM])[Row.WARM]
            agree(OURS, judge, call, runner.plan(layer).tolerance)
            calls[algorithm, value] = call.run
    raced = race({f"{name} {value}": call for (name, value), call in calls.items()}, method)
    for algorithm in ALGORITHMS:
        yield Series(
            quantity=quantity,
            algorithm=algorithm,
            threads=0 if quantity == THREADS else threads,
            points=tuple(
                Point(
                    at=value**2 if quantity == "H*W" else value,
                    problem=str(layer),
                    median_s=raced[f"{algorithm} {value}"].median_s,
                    spread=raced[f"{algorithm} {value}"].spread,
                )
                for value, layer in problems.items()
            ),
        )
