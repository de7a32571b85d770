"""What algorithms really err by: each on a few layers, in units of :mod:`.oracle`.

The promise is what tests hold an algorithm to; this is what its documentation quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from convforge.contract import Algorithm
from convforge.plan import Policy, plan
from convforge.problem import Direction, DType, Problem, parse
from convforge.runtime import machine
from convforge.testing import oracle
from convforge.testing.cases import spell
from convforge.testing.data import operands

TYPES = (DType.F32, DType.F64, DType.F16, DType.BF16, DType.C64, DType.C128)
"""Those that round."""
LAYERS = (
    "n2c64h28w28_k64r3s3_p1x1",
    "n2c64h29w30_k48r3s3_st2x2_p1x1",
    "n1c512h7w7_k128r1s1",
    "n2c64h16w17_k64r3s3_p1x1_g64",
    "n2c64h16w17_k64r3s3_p1x1_g8",
    "n1c16h24w25_k32r7s7_p3x3",
    "n1c16d6h14w14_k32t3r3s3_p1x1x1",
    "n1c512h7w7_k3r1s1",
    "n2c32h14w13_k32r3s3_p1x1_mreflectxreflect",
    "n2c32h14w13_k32r3s3_p1x1_mreflectxreflect_g32",
    "n2c32h14w13_k32r3s3_p1x1_mreflectxreflect_g4",
    "n2c16h24w25_k16r7s7_p3x3_mreflectxreflect",
)
WINDOWS = ("n2c32h16w17_r3s3_st2x2_p1x1", "n1c16h14w14_a1x1")
"""Dense, strided, long sums, depthwise, grouped, large filters, volumes, few outputs, borders
that reflect; windows and a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The largest error of an algorithm in one type.

    Attributes:
        algorithm: Its name. dtype: Of the operands.
        units: The largest error. promised: Its limit.
        planewise: Both are by plane. problem: Where it was.
    """

    algorithm: str
    dtype: DType
    units: float
    promised: float
    planewise: bool
    problem: str


def measure(
    algorithms: Iterable[Algorithm], before_each: Callable[[str], None] = lambda label: None
) -> Iterator[Measured]:
    """Every algorithm that takes one of the layers, in every type, on random numbers."""
    for algorithm in algorithms:
        before_each(algorithm.name)
        for dtype in TYPES:
            tolerance = algorithm.tolerance
            errors = {problem: _error(algorithm, problem) for problem in _taken(algorithm, dtype)}
            if errors:
                worst = max(errors, key=errors.__getitem__)
                yield Measured(
                    algorithm=algorithm.name,
                    dtype=dtype,
                    units=errors[worst],
                    promised=tolerance.growth,
                    planewise=tolerance.planewise,
                    problem=str(worst),
                )


def _taken(algorithm: Algorithm, dtype: DType) -> Iterator[Problem]:
    """Channels last; of gradients those that exist."""
    spellings = [(dtype.value, layer, tuple(Direction)) for layer in LAYERS]
    spellings += [
        (f"{kind}:{dtype}", window, (Direction.FPROP, Direction.DGRAD))
        for kind in ("max", "avg")
        for window in WINDOWS
        if not dtype.value.startswith("c")
    ]
    for types, geometry, directions in spellings:
        for direction in directions:
            problem = parse(spell(direction, types, "last", geometry))
            if algorithm.supports(problem, machine.cpu()) is None:
                yield problem


def _error(algorithm: Algorithm, problem: Problem) -> float:
    policy = Policy(algorithm=algorithm.name, accuracy="fast", deterministic=False)
    data = operands(problem)
    got = plan(problem, policy)(*data.arrays)
    planewise = algorithm.tolerance.planewise
    return oracle.worst(problem, got, data, planewise=planewise).units
