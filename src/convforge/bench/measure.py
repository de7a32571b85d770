"""Measure layers: every contestant must agree with the reference before it is timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from convforge.bench.ours import Convforge
from convforge.bench.rows import Call, Row, Runner, Unable
from convforge.bench.suites import Layer
from convforge.bench.timer import Method, Timing, race, speedup
from convforge.contract import Tolerance
from convforge.problem import Problem
from convforge.runtime import machine
from convforge.testing import oracle
from convforge.testing.data import Operands, operands

OURS = Convforge.name
_PEERS = Tolerance(growth=32, planewise=True)
"""Wide: it finds a peer that was told to compute something else, and judges nobody."""


class Wrong(Exception):
    """A contestant computed something else than the reference; it gets no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One layer on one number of threads.

    Attributes:
        label: What people call it. problem: Its spelling. flops: Of its direct form.
        algorithm: What convforge ran.
        error_units: Largest error of convforge, in units of :mod:`convforge.testing.oracle`.
        timings: By contestant, such as ``torch cold``: see :func:`key`.
    """

    label: str
    problem: str
    flops: int
    algorithm: str
    error_units: float
    timings: dict[str, Timing]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Layers measured alike.

    Attributes:
        name: For files: ``fprop_nhwc``. title: For people.
        threads: Of every contestant. peak_gflops: Measured, on these threads.
        peers: Names of those compared with.
        measured: One entry a layer. notes: What is missing, and why.
    """

    name: str
    title: str
    threads: int
    peak_gflops: float
    peers: tuple[str, ...]
    measured: tuple[Measurement, ...]
    notes: tuple[str, ...] = field(default=())

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
    ours: Convforge,
    peers: Sequence[Runner],
    rows: Iterable[Row],
    threads: int,
    method: Method,
    before_each: Callable[[str], None] = lambda label: None,
) -> Table:
    """Measure layers one after another. What cannot run, or ran wrong, becomes a note."""
    rows = tuple(rows)
    for runner in (ours, *peers):
        runner.set_threads(threads)
    dtypes = {layer.problem.x.dtype for layer in layers}
    peak = machine.peak_gflops(str(dtypes.pop()), threads) if len(dtypes) == 1 else math.nan
    measured, notes = [], []
    for layer in layers:
        before_each(f"{title}: {layer.label}")
        try:
            one, remarks = measure(layer, ours, peers, rows, method)
        except (Unable, Wrong) as error:
            notes.append(f"{layer.label}: {error}")
        else:
            measured.append(one)
            notes += [f"{layer.label}: {remark}" for remark in remarks]
    return Table(
        name=name,
        title=title,
        threads=threads,
        peak_gflops=peak,
        peers=tuple(peer.name for peer in peers),
        measured=tuple(measured),
        notes=tuple(notes),
    )


def measure(
    layer: Layer, ours: Convforge, peers: Sequence[Runner], rows: Iterable[Row], method: Method
) -> tuple[Measurement, list[str]]:
    """Race convforge and its peers on one layer; also says which peers could not take part.

    Raises:
        Unable: convforge has no algorithm for it.
        Wrong: A contestant disagrees with the reference.
    """
    rows = tuple(rows)
    problem, data = layer.problem, operands(layer.problem)
    chosen = ours.plan(problem)
    calls: dict[str, Call] = {}
    remarks, units = [], 0.0
    with ExitStack() as quiet:
        for runner in (ours, *peers):
            quiet.enter_context(runner.quiet())
            tolerance = chosen.tolerance if runner is ours else _PEERS
            try:
                made = runner.calls(problem, data, rows)
            except Unable as error:
                if runner is ours:
                    raise
                remarks.append(f"no {runner.name}: {error}")
                continue
            for row, call in made.items():
                error_units = _agree(key(runner.name, row), problem, data, call, tolerance)
                units = max(units, error_units) if runner is ours else units
                calls[key(runner.name, row)] = call
        raced = race({who: call.run for who, call in calls.items()}, method)
    timings = {
        who: Timing(tuple(seconds / calls[who].layers for seconds in timing.blocks))
        for who, timing in raced.items()
    }
    measurement = Measurement(
        label=layer.label,
        problem=str(problem),
        flops=problem.flops,
        algorithm=chosen.algorithm,
        error_units=units,
        timings=timings,
    )
    return measurement, remarks


def against_itself(layer: Layer, runner: Runner, others: Sequence[Runner], method: Method) -> float:
    """The harness on identical code: the same runner twice, with others in between. About 1."""
    data = operands(layer.problem)
    calls = {}
    with ExitStack() as quiet:
        for name, one in (("one", runner), ("same", runner), *((o.name, o) for o in others)):
            quiet.enter_context(one.quiet())
            calls[name] = one.calls(layer.problem, data, (Row.WARM,))[Row.WARM].run
        raced = race(calls, method)
    return speedup(raced["one"], raced["same"])


def _agree(who: str, problem: Problem, data: Operands, call: Call, tolerance: Tolerance) -> float:
    """The largest error in units; raises ``Wrong`` beyond the tolerance."""
    got = np.ascontiguousarray(call.read(call.run()))
    worst = oracle.worst(problem, got, data, planewise=tolerance.planewise)
    if not worst.units <= tolerance.growth:
        raise Wrong(
            f"{who} is wrong by {worst.units:.3g} units at {worst.at} (limit "
            f"{tolerance.growth:g}): got {worst.got}, wanted {worst.wanted}; not timed"
        )
    return worst.units
