"""Measure layers: every contestant must agree with the reference before it is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from convforge.bench.bound import NONE, Bound, bound
from convforge.bench.check import Judge
from convforge.bench.ours import Convforge
from convforge.bench.rows import Call, Row, Runner, Unable
from convforge.bench.suites import Layer
from convforge.bench.timer import Method, Timing, race, speedup
from convforge.contract import Tolerance
from convforge.plan import Plan
from convforge.problem import PoolProblem, Problem
from convforge.runtime import machine, threads
from convforge.testing.data import operands

OURS = Convforge.name
PEERS_TOLERANCE = Tolerance(growth=512, planewise=True)
"""Wide: it finds a peer that was told to compute something else, and judges nobody. Transforms of
8x8 tiles have erred by 20; a wrong answer errs by millions."""


class Wrong(Exception):
    """A contestant computed something else than the reference; it gets no number."""


class Ours(Runner, Protocol):
    """The contestant whose plans are measured: :class:`Convforge`, or something made of it."""

    def plans(self, problem: Problem) -> tuple[Plan, ...]:
        """Those that one call runs; the first is the one that tables name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One layer on one number of threads.

    Attributes:
        label: What people call it. problem: Its spelling.
        flops: Of its direct form. bytes: Of its operands, each touched once.
        algorithm: What convforge ran.
        error_units: Largest error of convforge, in units of :mod:`convforge.testing.oracle`.
        timings: By contestant, such as ``torch cold``: see :func:`key`.
        errors: Largest error of every contestant, in the same units.
        bound: Least time of what convforge ran, and what takes it.
    """

    label: str
    problem: str
    flops: int
    algorithm: str
    error_units: float
    timings: dict[str, Timing]
    bytes: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    bound: Bound = NONE

    def share_of_bound(self) -> float:
        """Of the time of a call with the weights that :attr:`bound` counts; NaN if not known."""
        timing = self.timings.get(key(OURS, Row.WARM)) or self.timings.get(key(OURS, Row.PLAIN))
        return math.nan if timing is None else self.bound.seconds / timing.median_s

    def gbytes(self, who: str, row: Row) -> float:
        """Rate of its operands in GB/s; NaN if it was not measured."""
        timing = self.timings.get(key(who, row))
        return math.nan if timing is None else self.bytes / timing.median_s / 1e9

    def gflops(self, who: str, row: Row) -> float:
        """Rate of the direct form in GFLOP/s; NaN if it was not measured."""
        timing = self.timings.get(key(who, row))
        return math.nan if timing is None else self.flops / timing.median_s / 1e9

    def ratio(self, row: Row, peer: str) -> float:
        """How many times faster than the peer; NaN if one of them was not measured.

        A functional call prepares its weights every time. Peers without such a call are
        compared by the one they have.
        """
        ours = self.timings.get(key(OURS, row))
        theirs = self.timings.get(key(peer, Row.COLD if row is Row.COLD else Row.WARM))
        return math.nan if ours is None or theirs is None else speedup(ours, theirs)

    def best(self, row: Row, peers: Iterable[str]) -> tuple[float, str]:
        """The ratio to the fastest of these peers, and which it is; NaN if none has a number."""
        ratios = [(ratio, peer) for peer in peers if not math.isnan(ratio := self.ratio(row, peer))]
        return min(ratios, default=(math.nan, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Layers measured alike.

    Attributes:
        name: For files: ``fprop_nhwc``. title: For people.
        threads: Of every contestant. peak_gflops: Measured, on these threads.
        peers: Names of those compared with.
        measured: One entry a layer. notes: What is missing, and why.
        unit: Of rates: GFLOP/s, or GB/s where little is computed.
        asked: Layers that were to be measured; 0 if nobody counted.
    """

    name: str
    title: str
    threads: int
    peak_gflops: float
    peers: tuple[str, ...]
    measured: tuple[Measurement, ...]
    notes: tuple[str, ...] = field(default=())
    unit: str = "GFLOP/s"
    asked: int = 0

    def rate(self, one: Measurement, who: str, row: Row) -> float:
        """Of one layer, in this table's unit."""
        return one.gbytes(who, row) if self.unit == "GB/s" else one.gflops(who, row)

    def best_ratios(self, row: Row, peers: Iterable[str] | None = None) -> dict[str, float]:
        """Ratios to the fastest of these peers, or of all, by layer; of layers that have one."""
        among = self.peers if peers is None else tuple(peers)
        found = {one.label: one.best(row, among)[0] for one in self.measured}
        return {label: ratio for label, ratio in found.items() if not math.isnan(ratio)}

    def ratios(self, row: Row, peer: str) -> list[float]:
        """Of all layers that have one."""
        every = (one.ratio(row, peer) for one in self.measured)
        return [ratio for ratio in every if not math.isnan(ratio)]


def key(who: str, row: Row) -> str:
    """Name of a contestant."""
    return f"{who} {row}"


def tabulate(
    name: str,
    title: str,
    layers: Sequence[Layer],
    *,
    ours: Ours,
    peers: Sequence[Runner],
    rows: Iterable[Row],
    threads: int,
    method: Method,
    before_each: Callable[[str], None] = lambda label: None,
    until: float = math.inf,
) -> Table:
    """Measure layers one after another. What cannot run, or ran wrong, becomes a note.

    Nothing is begun after the moment ``until`` of ``time.monotonic``.
    """
    rows = tuple(rows)
    for runner in (ours, *peers):
        runner.set_threads(threads)
    pools = all(isinstance(layer.problem, PoolProblem) for layer in layers)
    dtypes = {layer.problem.x.dtype for layer in layers}
    known = len(dtypes) == 1 and not pools
    peak = machine.peak_gflops(str(dtypes.pop()), threads) if known else math.nan
    measured, notes = [], []
    remarks: dict[str, list[str]] = {}
    for layer in layers:
        if time.monotonic() > until:
            remarks.setdefault("not measured: the time was over", []).append(layer.label)
            continue
        before_each(f"{title}: {layer.label}")
        try:
            one, missing = measure(layer, ours, peers, rows, method)
        except (Unable, Wrong) as error:
            notes.append(f"{layer.label}: {error}")
        else:
            measured.append(one)
            for remark in missing:
                remarks.setdefault(remark, []).append(layer.label)
    for remark, labels in remarks.items():
        every = 1 < len(layers) == len(labels)
        notes.append(f"{'every layer' if every else ', '.join(labels)}: {remark}")
    return Table(
        name=name,
        title=title,
        threads=threads,
        peak_gflops=peak,
        peers=tuple(peer.name for peer in peers),
        measured=tuple(measured),
        notes=tuple(notes),
        unit="GB/s" if pools and layers else "GFLOP/s",
        asked=len(layers),
    )


def measure(
    layer: Layer, ours: Ours, peers: Sequence[Runner], rows: Iterable[Row], method: Method
) -> tuple[Measurement, list[str]]:
    """Race convforge and its peers on one layer; also says which peers could not take part.

    Raises:
        Unable: convforge has no algorithm for it.
        Wrong: convforge disagrees with the reference. A peer that does is left out, and said.
    """
    rows = tuple(rows)
    problem, data = layer.problem, operands(layer.problem)
    judge = Judge(problem, data)
    plans = ours.plans(problem)
    chosen = plans[0]
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    remarks = []
    with ExitStack() as quiet:
        for runner in (ours, *peers):
            quiet.enter_context(runner.quiet())
            tolerance = chosen.tolerance if runner is ours else PEERS_TOLERANCE
            try:
                made = runner.calls(problem, data, rows)
                named = {key(runner.name, row): call for row, call in made.items()}
                units = {who: agree(who, judge, call, tolerance) for who, call in named.items()}
            except (Unable, Wrong) as error:
                if runner is ours:
                    raise
                absent = isinstance(error, Unable)
                remarks.append(f"no {runner.name}: {error}" if absent else str(error))
                continue
            calls |= named
            errors |= units
        raced = race({who: call.run for who, call in calls.items()}, method)
    timings = {
        who: Timing(tuple(seconds / calls[who].layers for seconds in timing.blocks))
        for who, timing in raced.items()
    }
    measurement = Measurement(
        label=layer.label,
        problem=str(problem),
        flops=layer.passes * problem.flops,
        bytes=layer.passes * problem.bytes,
        algorithm=chosen.algorithm,
        error_units=max(
            errors[key(ours.name, row)] for row in Row if key(ours.name, row) in errors
        ),
        errors=errors,
        timings=timings,
        bound=bound(plans, threads.get_num_threads()),
    )
    return measurement, remarks


def against_itself(layer: Layer, runner: Runner, others: Sequence[Runner], method: Method) -> float:
    """The harness on identical code: the same runner twice, with others in between. About 1.

    Others that cannot run the layer stay away.
    """
    data = operands(layer.problem)
    calls = {}
    with ExitStack() as quiet:
        for name, one in (("one", runner), ("same", runner), *((o.name, o) for o in others)):
            quiet.enter_context(one.quiet())
            try:
                made = one.calls(layer.problem, data, (Row.WARM,))
            except Unable:
                if one is runner:
                    raise
                continue
            calls[name] = next(iter(made.values())).run
        raced = race(calls, method)
    return speedup(raced["one"], raced["same"])


def agree(who: str, judge: Judge, call: Call, tolerance: Tolerance) -> float:
    """The largest error in units; raises ``Wrong`` beyond the tolerance."""
    worst = judge.worst(call.read(call.run()), planewise=tolerance.planewise)
    if not worst.units <= tolerance.growth:
        raise Wrong(
            f"{who} is wrong by {worst.units:.3g} units at {worst.at} (limit "
            f"{tolerance.growth:g}): got {worst.got}, wanted {worst.wanted}; not timed"
        )
    return worst.units
