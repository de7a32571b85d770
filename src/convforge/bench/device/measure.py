"""One layer: every algorithm of ours and every rival, checked, then raced."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from convforge import functional
from convforge.bench.check import Judge
from convforge.bench.device.probes import Ceilings
from convforge.bench.device.timing import STANDARD, Laboratory, Method, Run, race, sets_wanted
from convforge.bench.rows import Array, Unable
from convforge.bench.suites import Layer, tiny
from convforge.bench.timer import Timing, speedup
from convforge.contract import UnsupportedProblem
from convforge.plan import Plan, Policy, plan
from convforge.problem import ConvProblem, Direction, Problem
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing.data import Operands, operands, result

OURS = "convforge "
_ROOM = 4
"""One part of so many of the device's memory is for the arrays of one layer."""
_RIVALS_UNITS = 512.0
"""What a rival may err by, by plane: its transforms may cost it that, its TF32 costs far more."""
_BATCH = 20
"""Launches of one graph, and of one measurement of the host's time."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What a rival enters a race with.

    Attributes:
        calls: Each computes the layer from another set of arrays.
        read: Turns what a call returns into a host array in the problem's memory order.
    """

    calls: Sequence[Run]
    read: Callable[[Any], Array]


class Rival(Protocol):
    """Somebody else's code on the same device."""

    name: str

    def contest(self, problem: Problem, data: Operands, sets: int) -> Contest:
        """Calls for so many sets of arrays.

        Raises:
            Unable: It does not compute this.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One layer.

    Attributes:
        label: Its name. problem: Spelled.
        flops, nbytes: Of the problem, every array touched once.
        timings: By contestant; ours are called ``convforge`` and the algorithm.
        errors: Units by plane, by contestant.
        chosen: The algorithm that the dispatcher takes.
        bound_s, bound_by: The least time at the device's ceilings, and which one sets it.
        notes: Who did not run, or was wrong, and why.
    """

    label: str
    problem: str
    flops: int
    nbytes: int
    timings: dict[str, Timing]
    errors: dict[str, float]
    chosen: str
    bound_s: float
    bound_by: str
    notes: tuple[str, ...]

    def best(self, ours: bool) -> str | None:
        """The fastest of us, or of the rivals."""
        names = [name for name in self.timings if name.startswith(OURS) == ours]
        return min(names, key=lambda name: self.timings[name].median_s, default=None)

    def ratio(self) -> float:
        """How many times faster our best is than the best rival; NaN where one is missing."""
        ours, theirs = self.best(True), self.best(False)
        if ours is None or theirs is None:
            return float("nan")
        return speedup(self.timings[ours], self.timings[theirs])

    def share(self) -> float:
        """Of the bound that our best comes to; NaN where none of ours ran."""
        ours = self.best(True)
        return float("nan") if ours is None else self.bound_s / self.timings[ours].median_s


def measure(
    laboratory: Laboratory,
    layer: Layer,
    rivals: Iterable[Rival],
    ceilings: Ceilings,
    method: Method = STANDARD,
) -> Measurement:
    """Check and race everybody on one layer. Whoever is wrong gets no number."""
    device, problem = laboratory.device, layer.problem
    data = operands(problem)
    judge = Judge(problem, data)
    memory = device.facts().get("memory_bytes", 1 << 30)
    sets = sets_wanted(problem.bytes, device.machine.l2_bytes, memory // _ROOM, method)
    contests: dict[str, list[Run]] = {}
    errors: dict[str, float] = {}
    notes = []
    chosen = ""

    def enter(name: str, contest: Contest, limit: float, planewise: bool) -> None:
        worst = judge.worst(contest.read(contest.calls[0]()), planewise=planewise)
        if not worst.units <= limit:
            notes.append(
                f"{name} is wrong by {worst.units:.3g} units at {worst.at} (limit {limit:g}): not "
                "timed"
            )
            return
        errors[name] = worst.units
        contests[name] = list(contest.calls)

    try:
        explained = plan(problem, Policy(prepared=True), device).explain()
        chosen = explained.chosen
        names = [candidate.algorithm.name for candidate in explained.candidates]
    except UnsupportedProblem as error:
        notes.append(str(error))
        names = []
    for name in names:
        run = plan(problem, Policy(algorithm=name, prepared=True), device)
        tolerance = run.tolerance
        with _noting(notes, name):
            enter(OURS + name, _ours(run, data, sets), tolerance.growth, tolerance.planewise)
    for rival in rivals:
        with _noting(notes, rival.name):
            enter(rival.name, rival.contest(problem, data, sets), _RIVALS_UNITS, True)
    bound_s, bound_by = bound(problem, ceilings)
    return Measurement(
        label=layer.label,
        problem=str(problem),
        flops=problem.flops,
        nbytes=problem.bytes,
        timings=race(laboratory, contests, method),
        errors=errors,
        chosen=chosen,
        bound_s=bound_s,
        bound_by=bound_by,
        notes=tuple(notes),
    )


class _noting:
    """Whatever one contestant comes up with is its own affair, and noted."""

    def __init__(self, notes: list[str], name: str) -> None:
        self.notes, self.name = notes, name

    def __enter__(self) -> None:
        """Nothing is opened."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, Unable):
            self.notes.append(f"{self.name}: {error}")
        elif isinstance(error, Exception):
            self.notes.append(f"{self.name}: {type(error).__name__}: {error}")
        return error is None or isinstance(error, Exception)


def bound(problem: Problem, ceilings: Ceilings) -> tuple[float, str]:
    """The least seconds of a problem, each of its arrays touched once, and what takes them."""
    acc = "f64" if problem.x.dtype == "f64" else "f32"
    flops = problem.flops if isinstance(problem, ConvProblem) else 0
    return max(
        (flops / ceilings.fma_gflops[acc] / 1e9, "flops"),
        (problem.bytes / ceilings.copy_gbytes / 1e9, "bytes"),
    )


def _ours(run: Plan, data: Operands, sets: int) -> Contest:
    """Calls of a plan into arrays that are there, with weights prepared."""
    device, problem = run.device, run.problem
    assert device is not None
    shape, operand = result(problem)
    dtype = numpy_dtype(operand.dtype)
    originals: list[Any] = [device.put(array) for array in data.arrays]
    reads_weights = isinstance(problem, ConvProblem) and problem.direction is not Direction.WGRAD
    calls = []
    for _ in range(sets):
        arrays = [device.copy(array) for array in originals]
        if reads_weights and run.weight_format is not None:
            arrays[1] = run.prepare(arrays[1])
        calls.append(partial(run, *arrays, out=device.empty(shape, dtype)))

    def read(returned: Any) -> Array:
        return device.get(returned[0] if isinstance(returned, tuple) else returned)

    return Contest(calls, read)


@dataclass(frozen=True, slots=True)
class Overhead:
    """What one launch of almost nothing takes.

    Attributes:
        what: Who launches. host_us: Of the host, until it is enqueued.
        device_us: Of the device, launches in a row.
    """

    what: str
    host_us: float
    device_us: float


def overheads(laboratory: Laboratory, rounds: int = 15) -> Iterator[Overhead]:
    """Of our calls, of a graph of them, and of a launch with nothing around it."""
    device = laboratory.device
    problem = tiny()
    data = operands(problem)
    x, w = map(device.put, data.arrays)
    out = device.empty(problem.y_shape, np.dtype(np.float32))
    run = plan(problem, None, device)
    pointers = [device.address(array) for array in (x, w, out)]

    def call() -> Any:
        return run(x, w, out=out)

    runs: dict[str, Run] = {
        "bare launch by CuPy": laboratory.bare_launch(),
        "Plan.launch": lambda: run.launch(pointers),
        "plan(x, w, out=out)": call,
        "functional.conv2d(x, w)": lambda: functional.conv2d(x, w, padding=1),
    }
    for what, one in runs.items():
        yield _overhead(laboratory, what, _repeated(one), rounds)
    try:
        yield _overhead(
            laboratory, "plan in a CUDA graph", laboratory.captured(_repeated(call)), rounds
        )
    except Exception as error:  # what a driver says of a capture is worth a row
        yield Overhead(f"plan in a CUDA graph: {type(error).__name__}: {error}", np.nan, np.nan)


def _repeated(run: Run) -> Run:
    def several() -> None:
        for _ in range(_BATCH):
            run()

    return several


def _overhead(laboratory: Laboratory, what: str, batch: Run, rounds: int) -> Overhead:
    batch()
    host, on_device = (
        statistics.median(measure(batch) for _ in range(rounds)) / _BATCH * 1e6
        for measure in (laboratory.host_seconds, laboratory.seconds)
    )
    return Overhead(what, host, on_device)


def run_all(
    laboratory: Laboratory,
    every: Iterable[Layer],
    rivals: Sequence[Rival],
    ceilings: Ceilings,
    method: Method = STANDARD,
    *,
    seconds: float,
    before_each: Callable[[str], None] = lambda label: None,
    clock: Callable[[], float] = time.monotonic,
    begin: float | None = None,
) -> Iterator[Measurement]:
    """Measure layers, as long as there is time to begin another."""
    begin = clock() if begin is None else begin
    for layer in every:
        if clock() - begin > seconds:
            return
        before_each(layer.label)
        yield measure(laboratory, layer, rivals, ceilings, method)
