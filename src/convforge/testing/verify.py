"""Every algorithm of a GPU on its cases: against the reference, and against the emulator.

The same seeds go to the device and to the emulator, which runs the same PTX: where both agree, what
the emulator finds right elsewhere is right on such a device too. What is most worth knowing comes
first: one case of each algorithm, direction, type and memory order, then another of each, as long
as there is time.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from convforge import reference
from convforge.contract import Algorithm
from convforge.plan import Policy, plan
from convforge.problem import (
    ConvProblem,
    Direction,
    PadMode,
    PoolKind,
    PoolProblem,
    PostOp,
    Problem,
    parse,
)
from convforge.runtime.cuda.device import Device
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing import cases, oracle
from convforge.testing.data import Array, Operands, operands, result

LARGER = (
    "n8c64h28w28_k96r3s3_p1x1",
    "n8c128h14w14_k128r1s1",
    "n4c64h29w30_k64r3s3_st2x2_p1x1",
    "n8c96h30w31_k96r3s3_p1x1_g96",
    "n4c48h28w28_k48r7s7_p3x3_g48",
    "n2c3h64w65_k64r7s7_st2x2_p3x3",
)
"""Layers of many blocks, whose races and tails small ones do not have."""
LARGER_WINDOWS = ("n8c64h56w57_r3s3_st2x2_p1x1", "n8c65h28w28_r2s2_st2x2")
_SMOOTH = {PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH}
_EMULATED_SHARE = 0.4
"""Of the time, what the emulator may take: it is the slower leg by far."""
_LONG_FLOPS = 10**7
_LONG_ELEMENTS = 10**5
"""What takes the emulator seconds."""
_MOST_CRASHES = 5
"""Errors in a row after which a device is taken for lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one case.

    Attributes:
        algorithm: Its name. problem: The case, spelled.
        units: The largest error against the reference. promised: What the algorithm promises.
        exact: Whether small integers gave what the reference gives; None where they need not.
        emulated: Units that device and emulator are apart, 0 for the same bits; None where the
            emulator did not run.
        wrong: What is wrong, in words; None where nothing is.
    """

    algorithm: str
    problem: str
    units: float
    promised: float
    exact: bool | None
    emulated: float | None
    wrong: str | None


def problems(*, larger: bool = True) -> tuple[Problem, ...]:
    """Every shared case, and a few larger layers, which are nothing for an emulator."""
    spelled = [*cases.CONV, *cases.CONV_EPILOGUES, *cases.CONV_TYPES, *cases.POOL]
    if larger:
        spelled += [
            cases.spell(direction, dtype, order, layer)
            for layer in LARGER
            for dtype in ("f32", "f16")
            for direction in Direction
            for order in ("first", "last")
        ]
        spelled += [
            cases.spell(direction, f"{kind}:f32", order, window)
            for window in LARGER_WINDOWS
            for kind in PoolKind
            for direction in ("fprop", "dgrad")
            for order in ("first", "last")
        ]
    return tuple(map(parse, dict.fromkeys(spelled)))


Case = tuple[Algorithm, Problem]


def planned(
    device: Device, algorithms: Iterable[Algorithm], every: Iterable[Problem]
) -> list[Case]:
    """What each algorithm accepts, in the order of its worth: algorithms and kinds take turns."""
    every = tuple(every)
    of_each = []
    for algorithm in algorithms:
        kinds = defaultdict(list)
        for problem in every:
            if algorithm.supports(problem, device.machine) is None:
                kinds[_kind(problem)].append((algorithm, problem))
        of_each.append(_in_turns(kinds.values()))
    return _in_turns(of_each)


def _kind(problem: Problem) -> Hashable:
    """What sets problems apart; of its like one is as good as another."""
    more = (bool(problem.post), problem.groups > 1) if isinstance(problem, ConvProblem) else ()
    modes = any(axis.pad_mode is not PadMode.ZEROS for axis in problem.axes)
    return (problem.direction, problem.x.dtype, problem.x.order, modes, _is_long(problem), *more)


def _in_turns(lists: Iterable[Sequence[Case]]) -> list[Case]:
    turns = itertools.zip_longest(*lists)
    return [case for turn in turns for case in turn if case is not None]


def run(
    device: Device,
    every: Iterable[Case],
    *,
    emulator: Device | None = None,
    seconds: float = math.inf,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
    before_each: Callable[[str], None] = lambda label: None,
) -> Iterator[Verdict]:
    """Verdicts on as many cases as there is time for.

    Args:
        device: What is judged.
        every: The cases, in this order.
        emulator: Runs the same cases, those it is quick enough for, if there is one.
        seconds: Begin no case after this long.
        seed: Of the numbers.
        clock: Tells seconds.
        before_each: Told what comes next.
    """
    begin = clock()
    emulating = 0.0
    crashes = 0
    for algorithm, problem in every:
        now = clock()
        if now - begin > seconds or crashes >= _MOST_CRASHES:
            return
        before_each(f"{algorithm.name} {problem}")
        beside = emulator
        if emulating > _EMULATED_SHARE * min(seconds, now - begin + 1) or _is_long(problem):
            beside = None
        try:
            verdict, spent = _judge(device, beside, algorithm, problem, seed, clock)
            crashes = 0
        except Exception as error:  # whatever a driver, a compiler or a kernel comes up with
            crashes += 1
            spent = 0.0
            verdict = _verdict(algorithm, problem, wrong=f"{type(error).__name__}: {error}")
        emulating += spent
        yield verdict


def _judge(
    device: Device,
    emulator: Device | None,
    algorithm: Algorithm,
    problem: Problem,
    seed: int,
    clock: Callable[[], float],
) -> tuple[Verdict, float]:
    """A verdict, and the seconds that the emulator took for it."""
    tolerance = algorithm.tolerance
    complaints = []
    exact = None
    if tolerance.exact and _sums_only(problem):
        data = operands(problem, "integers", seed)
        exact = not _differs(problem, compute(device, algorithm, problem, data), data)
        if not exact:
            complaints.append("small integers are not exact")
    data = operands(problem, "normal", seed)
    got = compute(device, algorithm, problem, data)
    want, unit = oracle.wanted(problem, data), oracle.units(problem, data)
    units, apart, spent = 0.0, None, 0.0
    if problem.x.dtype.eps:
        bad = oracle.compare(problem, got, want, unit, planewise=tolerance.planewise)
        units = bad.units
        if not units <= tolerance.growth:
            complaints.append(
                f"error of {units:.3g} units at {bad.at}: got {bad.got}, wanted {bad.wanted}"
            )
    if emulator is not None:
        start = clock()
        beside = compute(emulator, algorithm, problem, data)
        spent = clock() - start
        apart = 0.0
        if got.tobytes() != beside.tobytes():
            apart = oracle.compare(
                problem, got, beside.astype(want.dtype), unit, planewise=tolerance.planewise
            ).units
        if not apart <= tolerance.growth:
            complaints.append(f"device and emulator are {apart:.3g} units apart")
    verdict = _verdict(
        algorithm, problem, units=units, exact=exact, emulated=apart, wrong="; ".join(complaints)
    )
    return verdict, spent


def compute(device: Device, algorithm: Algorithm, problem: Problem, data: Operands) -> Array:
    """What an algorithm computes on a device, in memory that is NaN before; indices are checked.

    Raises:
        AssertionError: Other indices of maxima than the reference's.
    """
    policy = Policy(algorithm=algorithm.name, accuracy="fast", deterministic=False)
    run = plan(problem, policy, device)
    shape, operand = result(problem)
    before = np.empty(shape, numpy_dtype(operand.dtype))
    before.reshape(-1).view(np.uint8)[...] = 0xFF
    if data.before is not None:
        before[...] = data.before
    arrays = [device.put(array) for array in data.arrays]
    epilogue = {name: device.put(array) for name, array in data.epilogue.items()}
    out = device.put(before)
    returned = run(*arrays, **epilogue, out=out)
    if isinstance(returned, tuple):
        places = reference.compute(problem, *data.arrays)[1]
        if not np.array_equal(device.get(returned[1]), places):
            raise AssertionError("other places of the maxima than the reference's")
    return device.get(out)


def _verdict(
    algorithm: Algorithm,
    problem: Problem,
    *,
    units: float = math.nan,
    exact: bool | None = None,
    emulated: float | None = None,
    wrong: str,
) -> Verdict:
    return Verdict(
        algorithm=algorithm.name,
        problem=str(problem),
        units=units,
        promised=algorithm.tolerance.growth,
        exact=exact,
        emulated=emulated,
        wrong=wrong or None,
    )


def _differs(problem: Problem, got: Array, data: Operands) -> bool:
    try:
        oracle.assert_exact(problem, got, data)
    except AssertionError:
        return True
    return False


def _sums_only(problem: Problem) -> bool:
    """Whether integers give integers: no smooth activation, no division."""
    if isinstance(problem, PoolProblem):
        return problem.kind is PoolKind.MAX
    return not _SMOOTH & set(problem.post)


def _is_long(problem: Problem) -> bool:
    """Whether the emulator would take seconds."""
    if isinstance(problem, ConvProblem) and problem.flops > _LONG_FLOPS:
        return True
    return math.prod(problem.x_shape) > _LONG_ELEMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The verdicts on one algorithm.

    Attributes:
        algorithm: Its name. cases, left_out: Judged, and for want of time not.
        units: The largest error. promised: Its limit.
        exact: Cases that were exact on integers. not_exact: Those that were not.
        same_bits, emulated: Cases of the emulator with the device's bits, and all.
        apart: The most units that device and emulator were apart.
        wrong: Cases with a complaint.
    """

    algorithm: str
    cases: int
    left_out: int
    units: float
    promised: float
    exact: int
    not_exact: int
    same_bits: int
    emulated: int
    apart: float
    wrong: int


def summaries(verdicts: Sequence[Verdict], every: Iterable[Case]) -> list[Summary]:
    """One for each algorithm that had cases, in their order."""
    counts: dict[str, int] = defaultdict(int)
    promised = {}
    for algorithm, _ in every:
        counts[algorithm.name] += 1
        promised[algorithm.name] = algorithm.tolerance.growth
    found = []
    for name, count in counts.items():
        own = [v for v in verdicts if v.algorithm == name]
        apart = [v.emulated for v in own if v.emulated is not None]
        found.append(
            Summary(
                algorithm=name,
                cases=len(own),
                left_out=count - len(own),
                units=max((v.units for v in own if not math.isnan(v.units)), default=0.0),
                promised=promised[name],
                exact=sum(v.exact is True for v in own),
                not_exact=sum(v.exact is False for v in own),
                same_bits=apart.count(0.0),
                emulated=len(apart),
                apart=max(apart, default=0.0),
                wrong=sum(v.wrong is not None for v in own),
            )
        )
    return found
