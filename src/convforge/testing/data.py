"""Operands for a problem: seeded arrays in its types and memory orders.

Three kinds, for three questions: ``integers`` (is it exact?), ``normal`` (how large is the error?)
and ``positive`` (how does the error grow where nothing cancels?).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convforge import reference
from convforge.problem import (
    ConvProblem,
    Direction,
    Operand,
    PoolKind,
    PoolProblem,
    PostOp,
    Problem,
)
from convforge.runtime.dtypes import numpy_dtype
from convforge.runtime.results import aligned_array

Array = NDArray[Any]
Kind = Literal["normal", "integers", "positive"]


@dataclass(frozen=True)
class Operands:
    """What one call reads.

    Attributes:
        arrays: Positional arguments of a plan.
        epilogue: Keyword arguments of a plan: ``bias`` and ``residual`` where the problem has them.
        before: What the output holds before an accumulating call, else None.
    """

    arrays: tuple[Array, ...]
    epilogue: dict[str, Array] = field(default_factory=dict)
    before: Array | None = None


def result(problem: Problem) -> tuple[tuple[int, ...], Operand]:
    """Shape, type and order of what a problem writes."""
    if problem.direction is Direction.WGRAD:
        assert isinstance(problem, ConvProblem)
        return problem.w_shape, problem.w
    if problem.direction is Direction.DGRAD:
        return problem.x_shape, problem.x
    return problem.y_shape, problem.x if isinstance(problem, PoolProblem) else problem.y


def operands(problem: Problem, kind: Kind = "normal", seed: int = 0) -> Operands:
    """Make the arrays that a problem reads.

    Args:
        problem: What they are for.
        kind: ``normal``: zero mean, unit variance. ``integers``: from -4 to 4 (0 to 4 in unsigned
            types). ``positive``: between 1/2 and 1. Integer types get integers always.
        seed: Equal seeds give equal arrays.
    """
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], operand: Operand) -> Array:
        return _on_a_line(_draw(rng, kind, shape, numpy_dtype(operand.dtype)))

    if isinstance(problem, PoolProblem):
        x = draw(problem.x_shape, problem.x)
        if problem.direction is Direction.FPROP:
            return Operands((x,))
        dy = draw(problem.y_shape, problem.x)
        return Operands((dy, _indices(problem, x)) if problem.kind is PoolKind.MAX else (dy,))
    x = draw(problem.x_shape, problem.x)
    w = draw(problem.w_shape, problem.w)
    y = draw(problem.y_shape, problem.y)
    arrays = {
        Direction.FPROP: (x, w),
        Direction.DGRAD: (y, w),
        Direction.WGRAD: (x, y),
    }[problem.direction]
    shape, operand = result(problem)
    epilogue = {}
    if PostOp.BIAS in problem.post:
        channels = problem.C if problem.direction is Direction.DGRAD else problem.K
        epilogue["bias"] = draw((channels,), operand)
    if PostOp.RESIDUAL in problem.post:
        epilogue["residual"] = draw(shape, operand)
    return Operands(arrays, epilogue, draw(shape, operand) if problem.accumulate else None)


def _on_a_line(values: Array) -> Array:
    """A copy on a cache line, where every framework puts what its operators return."""
    copy = aligned_array(values.shape, values.dtype)
    copy[...] = values
    return copy


def _indices(problem: PoolProblem, x: Array) -> Array:
    forward = PoolProblem(
        kind=problem.kind,
        N=problem.N,
        C=problem.C,
        axes=problem.axes,
        x=problem.x,
        ceil_mode=problem.ceil_mode,
        indices=True,
    )
    return np.asarray(reference.compute(forward, x)[1])


def _draw(
    rng: np.random.Generator, kind: Kind, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    if dtype.kind in "iu":
        return rng.integers(-4 if dtype.kind == "i" else 0, 5, shape).astype(dtype)
    if dtype.kind == "c":
        parts = [_draw(rng, kind, shape, np.dtype(np.float64)) for _ in range(2)]
        return (parts[0] + 1j * parts[1]).astype(dtype)
    if kind == "integers":
        return rng.integers(-4, 5, shape).astype(dtype)
    if kind == "positive":
        return rng.uniform(0.5, 1, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
