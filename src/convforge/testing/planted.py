"""Wrong convolutions that a checker must reject, each with one mistake that kernels really make.

Every function takes a problem without post ops and its operands, and returns a result of the right
shape and type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convforge.problem import ConvProblem, Direction, Order
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing.data import Operands, result
from convforge.testing.oracle import wanted

Array = NDArray[Any]
Planted = Callable[[ConvProblem, Operands], Array]


def correct(problem: ConvProblem, data: Operands) -> Array:
    """No mistake: what the checker must accept."""
    return wanted(problem, data).astype(numpy_dtype(result(problem)[1].dtype))


def zeros(problem: ConvProblem, data: Operands) -> Array:
    """Nothing is computed."""
    return np.zeros_like(correct(problem, data))


def stale(problem: ConvProblem, data: Operands) -> Array:
    """The last element keeps what the memory held before."""
    y = correct(problem, data)
    y.reshape(-1)[-1] = np.nan
    return y


def shifted_padding(problem: ConvProblem, data: Operands) -> Array:
    """The first axis is padded by one too few before, by one too many after."""
    first, *others = problem.axes
    moved = replace(first, pad_lo=first.pad_lo - 1, pad_hi=first.pad_hi + 1)
    return correct(replace(problem, axes=(moved, *others)), data)


def flipped_filter(problem: ConvProblem, data: Operands) -> Array:
    """A true convolution instead of a cross-correlation."""
    along = _filter_axes(problem)
    if problem.direction is Direction.WGRAD:
        return np.ascontiguousarray(np.flip(correct(problem, data), along))
    a, w = data.arrays
    return correct(problem, replace(data, arrays=(a, np.flip(w, along))))


def lost_tap(problem: ConvProblem, data: Operands) -> Array:
    """The filter's last tap is left out."""
    last: list[Any] = [slice(None)] * (problem.rank + 2)
    for axis in _filter_axes(problem):
        last[axis] = -1
    if problem.direction is Direction.WGRAD:
        dw = correct(problem, data)
        dw[tuple(last)] = 0
        return dw
    a, w = data.arrays
    w = w.copy()
    w[tuple(last)] = 0
    return correct(problem, replace(data, arrays=(a, w)))


def lost_channel(problem: ConvProblem, data: Operands) -> Array:
    """The last channel that is written stays zero: a tail handled wrong."""
    y = correct(problem, data)
    channels_last = result(problem)[1].order is Order.CHANNELS_LAST
    if problem.direction is Direction.WGRAD:
        y[-1] = 0
    elif channels_last:
        y[..., -1] = 0
    else:
        y[:, -1] = 0
    return y


def half_accumulation(problem: ConvProblem, data: Operands) -> Array:
    """Sums are kept in float16: rounded after each slice of the second operand."""
    a, b = data.arrays
    total = np.zeros(result(problem)[0], np.float16)
    for i in range(b.shape[-1]):
        part = np.zeros_like(b)
        part[..., i] = b[..., i]
        total += wanted(problem, replace(data, arrays=(a, part))).astype(np.float16)
    return total.astype(numpy_dtype(result(problem)[1].dtype))


def _filter_axes(problem: ConvProblem) -> tuple[int, ...]:
    first = 2 if problem.w.order is Order.CHANNELS_FIRST else 1
    return tuple(range(first, first + problem.rank))


WRONG: tuple[Planted, ...] = (
    zeros,
    stale,
    shifted_padding,
    flipped_filter,
    lost_tap,
    lost_channel,
    half_accumulation,
)
