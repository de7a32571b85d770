"""Is a result right? Exactly on small integers, else in units of what rounding must cost.

One unit is ``eps * conv(|x|, |w|)``: the output type's relative step, times the sum that the
element is made of with all signs removed (for dgrad and wgrad the same sum in their direction; the
magnitudes of bias, residual and of what is accumulated onto are added). A dot product of any
length in any order, on zero-mean data, errs by a few units, so one limit serves all shapes. An
algorithm that mixes pixels errs by the size of its neighbours: *planewise*, every element of a
plane is given the largest unit there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convforge import reference
from convforge.contract import Tolerance
from convforge.problem import ConvProblem, Direction, DType, Order, PoolKind, PoolProblem, Problem
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing.data import Operands, result

Array = NDArray[Any]


@dataclass(frozen=True)
class Worst:
    """The element with the largest error.

    Attributes:
        units: Its error in units; infinite where NaN or infinity stands in the wrong place.
        at: Its coordinates, in the problem's memory order.
        got: What it is. wanted: What the reference says.
    """

    units: float
    at: tuple[int, ...]
    got: Any
    wanted: Any


def wanted(problem: Problem, data: Operands) -> Array:
    """What the reference computes, wide; long double judges float64. Without the indices."""
    y = reference.compute(problem, *data.arrays, **data.epilogue, dtype=_judge(problem))
    if isinstance(y, tuple):
        return y[0]
    return y if data.before is None else y + data.before


def units(problem: Problem, data: Operands) -> Array:
    """The unit of error of every element of the result."""
    dtype = result(problem)[1].dtype
    scale = _scale(problem, data)
    if not dtype.eps:
        return scale * 0
    eps = dtype.eps if isinstance(problem, PoolProblem) else max(dtype.eps, problem.acc.eps)
    # Below the smallest subnormal there is nothing to be right about.
    return np.maximum(eps * scale, float(_tiny(dtype)))


def worst(problem: Problem, got: Array, data: Operands, *, planewise: bool = False) -> Worst:
    """Compare a result with the reference, and find its largest error in units.

    Raises:
        AssertionError: The result has another shape or type than the problem says.
    """
    _check_result(problem, got)
    return compare(problem, got, wanted(problem, data), units(problem, data), planewise=planewise)


def compare(
    problem: Problem, got: Array, want: Array, unit: Array, *, planewise: bool = False
) -> Worst:
    """:func:`worst` for many results of one problem: with :func:`wanted` and :func:`units` known.

    Raises:
        AssertionError: The result has another shape or type than the problem says.
    """
    _check_result(problem, got)
    if got.size == 0:
        return Worst(0.0, (), None, None)
    if planewise:
        unit = np.broadcast_to(unit.max(axis=_plane(problem), keepdims=True), unit.shape)
    wide = got.astype(want.dtype)
    same = (wide == want) | (np.isnan(wide) & np.isnan(want))
    with np.errstate(all="ignore"):
        error = np.where(same, 0, np.abs(wide - want) / unit).astype(np.float64)
    error[~same & ~(np.isfinite(wide) & np.isfinite(want))] = np.inf
    at = np.unravel_index(error.argmax(), got.shape)
    return Worst(float(error[at]), tuple(int(i) for i in at), got[at], want[at])


def limit(problem: Problem, tolerance: Tolerance, *, positive: bool = False) -> float:
    """Units that an algorithm may err by.

    Where all data are positive nothing averages out, and a single accumulator's error grows with
    the square root of the number of its summands.
    """
    if not positive or isinstance(problem, PoolProblem):
        return tolerance.growth
    return tolerance.growth * max(1.0, float(np.sqrt(_summands(problem))) / 4)


def assert_within(
    problem: Problem,
    got: Array,
    data: Operands,
    tolerance: Tolerance,
    *,
    positive: bool = False,
) -> None:
    """Raise ``AssertionError`` if any element errs by more than the tolerance."""
    bad = worst(problem, got, data, planewise=tolerance.planewise)
    most = limit(problem, tolerance, positive=positive)
    if not bad.units <= most:
        kind = "planewise units" if tolerance.planewise else "units"
        raise AssertionError(
            f"{problem}: error of {bad.units:.3g} {kind} at {bad.at}, limit {most:.3g}: "
            f"got {bad.got}, wanted {bad.wanted}"
        )


def assert_exact(problem: Problem, got: Array, data: Operands) -> None:
    """Raise ``AssertionError`` unless every element is the reference, rounded once."""
    bad = worst(problem, got, data)
    want = wanted(problem, data).astype(got.dtype)
    differs = (got != want) & ~(np.isnan(got) & np.isnan(want))
    if differs.any():
        first = tuple(int(i) for i in np.argwhere(differs)[0])
        raise AssertionError(
            f"{problem}: {differs.sum()} of {got.size} elements are not exact, the first at "
            f"{first}: got {got[first]}, wanted {want[first]}; the worst at {bad.at}: "
            f"got {bad.got}, wanted {bad.wanted}"
        )


def _check_result(problem: Problem, got: Array) -> None:
    shape, operand = result(problem)
    if got.shape != shape or got.dtype != numpy_dtype(operand.dtype):
        raise AssertionError(
            f"{problem}: wanted {shape} {operand.dtype.numpy_name}, got {got.shape} {got.dtype}"
        )


def _judge(problem: Problem) -> np.dtype[Any]:
    wide = reference.wide_dtype(problem.x.dtype)
    if problem.x.dtype is DType.F64:
        return np.dtype(np.longdouble)
    return np.dtype(np.clongdouble) if problem.x.dtype is DType.C128 else wide


def _scale(problem: Problem, data: Operands) -> Array:
    """The result with all signs removed, before any activation."""
    if (
        isinstance(problem, PoolProblem)
        and problem.kind is PoolKind.MAX
        and problem.direction is Direction.FPROP
    ):
        return np.abs(wanted(problem, data))
    arrays = tuple(np.abs(array) for array in data.arrays)
    epilogue = {name: np.abs(array) for name, array in data.epilogue.items()}
    if isinstance(problem, ConvProblem):
        linear = tuple(op for op in problem.post if op.reads_operand)
        problem = replace(problem, post=linear)
    scale = reference.compute(problem, *arrays, **epilogue, dtype=np.float64)
    assert not isinstance(scale, tuple)
    return scale if data.before is None else scale + np.abs(data.before)


def _tiny(dtype: DType) -> Any:
    real = {DType.C64: DType.F32, DType.C128: DType.F64}.get(dtype, dtype)
    if real is DType.BF16:
        return 2.0**-133
    return np.finfo(numpy_dtype(real)).smallest_subnormal


def _plane(problem: Problem) -> tuple[int, ...]:
    first = 2 if result(problem)[1].order is Order.CHANNELS_FIRST else 1
    return tuple(range(first, first + problem.rank))


def _summands(problem: ConvProblem) -> int:
    return {
        Direction.FPROP: problem.group_C * problem.taps,
        Direction.DGRAD: problem.group_K * problem.taps,
        Direction.WGRAD: problem.N * prod(problem.out),
    }[problem.direction]
