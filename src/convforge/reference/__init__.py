"""The definition of right: convolution and pooling in plain NumPy.

Slow, wide and short: meant to be believed by reading. Kernels are judged by it and share nothing
with it, so this room needs :mod:`convforge.problem` and NumPy only. ::

    y = compute("fprop:f32:n1c3h8w8_k4r3s3_p1x1+relu", x, w)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convforge.problem import (
    ConvProblem,
    Direction,
    DType,
    Order,
    PoolKind,
    PoolProblem,
    PostOp,
    Problem,
    parse,
)
from convforge.reference import conv, pool, post

__all__ = ["compute", "wide_dtype"]

Array = NDArray[Any]

_WIDE = {"f": "float64", "b": "float64", "c": "complex128", "i": "int64", "u": "int64"}
_CONV = {
    Direction.FPROP: conv.fprop,
    Direction.DGRAD: conv.dgrad,
    Direction.WGRAD: conv.wgrad,
}


def wide_dtype(dtype: DType) -> np.dtype[Any]:
    """The type that the reference computes in: float64, complex128 or int64."""
    return np.dtype(_WIDE[dtype[0]])


def compute(
    problem: Problem | str,
    *arrays: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    dtype: DTypeLike | None = None,
) -> Array | tuple[Array, Array]:
    """Compute a problem by its definition.

    Args:
        problem: What to compute. ``accumulate`` is the caller's to do.
        *arrays: In the problem's memory order. Convolution: fprop ``(x, w)``, dgrad ``(dy, w)``,
            wgrad ``(x, dy)``. Pooling: fprop ``(x,)``, dgrad ``(dy, indices)`` for max and
            ``(dy,)`` for average.
        bias: Shape ``(K,)``, for dgrad ``(C,)``; where the problem lists ``+bias``.
        residual: Shape of the result; where the problem lists ``+residual``.
        dtype: Type to compute in, :func:`wide_dtype` by default; ``numpy.longdouble`` judges
            float64.

    Returns:
        The result in ``dtype`` and in the problem's memory order; for max pooling with
        ``+indices`` the pair of maxima and int64 indices.

    Raises:
        ValueError: Arrays that are not those of the problem.
    """
    if isinstance(problem, str):
        problem = parse(problem)
    wide = np.dtype(dtype) if dtype is not None else wide_dtype(problem.x.dtype)
    with np.errstate(all="ignore"):
        if isinstance(problem, PoolProblem):
            _check_epilogue(problem, (), bias, residual)
            return _compute_pool(problem, wide, arrays)
        _check_epilogue(problem, problem.post, bias, residual)
        return _compute_conv(problem, wide, arrays, bias, residual)


def _compute_conv(
    problem: ConvProblem,
    wide: np.dtype[Any],
    arrays: tuple[Array, ...],
    bias: Array | None,
    residual: Array | None,
) -> Array:
    operands = {
        "x": (problem.x_shape, problem.x.order),
        "w": (problem.w_shape, problem.w.order),
        "y": (problem.y_shape, problem.y.order),
    }
    first, second, result = {
        Direction.FPROP: ("x", "w", "y"),
        Direction.DGRAD: ("y", "w", "x"),
        Direction.WGRAD: ("x", "y", "w"),
    }[problem.direction]
    _check_shapes(problem, arrays, [operands[first][0], operands[second][0]])
    shape, order = operands[result]
    a, b = (
        _channels_first(array.astype(wide), operands[name][1])
        for array, name in zip(arrays, (first, second), strict=True)
    )
    if bias is not None:
        channels = problem.C if problem.direction is Direction.DGRAD else problem.K
        _check_shapes(problem, (bias,), [(channels,)])
        bias = bias.astype(wide)
    if residual is not None:
        _check_shapes(problem, (residual,), [shape])
        residual = _channels_first(residual.astype(wide), order)
    out = post.apply(problem.post, _CONV[problem.direction](problem, a, b), bias, residual)
    return _in_order(out, order)


def _compute_pool(
    problem: PoolProblem, wide: np.dtype[Any], arrays: tuple[Array, ...]
) -> Array | tuple[Array, Array]:
    order = problem.x.order
    if problem.direction is Direction.FPROP:
        _check_shapes(problem, arrays, [problem.x_shape])
        x = _channels_first(arrays[0].astype(wide), order)
        if problem.kind is PoolKind.AVG:
            return _in_order(pool.avg_fprop(problem, x), order)
        y, indices = (_in_order(out, order) for out in pool.max_fprop(problem, x))
        return (y, indices) if problem.indices else y
    operands = 2 if problem.kind is PoolKind.MAX else 1
    _check_shapes(problem, arrays, [problem.y_shape] * operands)
    dy = _channels_first(arrays[0].astype(wide), order)
    if problem.kind is PoolKind.AVG:
        return _in_order(pool.avg_dgrad(problem, dy), order)
    return _in_order(pool.max_dgrad(problem, dy, _channels_first(arrays[1], order)), order)


def _channels_first(array: Array, order: Order) -> Array:
    return array if order is Order.CHANNELS_FIRST else np.moveaxis(array, -1, 1)


def _in_order(array: Array, order: Order) -> Array:
    moved = array if order is Order.CHANNELS_FIRST else np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(moved)


def _check_shapes(
    problem: Problem, arrays: tuple[Array, ...], shapes: list[tuple[int, ...]]
) -> None:
    came = [array.shape for array in arrays]
    if came != shapes:
        raise ValueError(f"{problem} wants arrays of shapes {shapes}, got {came}")


def _check_epilogue(
    problem: Problem, listed: tuple[PostOp, ...], bias: Array | None, residual: Array | None
) -> None:
    for op, array in ((PostOp.BIAS, bias), (PostOp.RESIDUAL, residual)):
        if (op in listed) != (array is not None):
            came = "was not given" if array is None else "was given"
            raise ValueError(f"{op} {came}, but the problem is {problem}")
