"""Pooling by its definition, in the type of the arrays it gets.

A window is visited tap by tap in row-major order. What lies outside the image is never looked at
by the maximum, and counts as zeros for the average. All arrays are channels first: x
``(N, C, *size)``, y ``(N, C, *out)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convforge.problem import Axis, PoolProblem

Array = NDArray[Any]
Index = tuple[Any, ...]


def max_fprop(problem: PoolProblem, x: Array) -> tuple[Array, Array]:
    """Largest element of each window, and its position in the plane of x, row-major.

    Of equal elements the first one is taken. NaN counts as larger than anything, itself included:
    the last NaN of a window is taken.

    Raises:
        ValueError: Complex numbers, which have no order.
    """
    if x.dtype.kind == "c":
        raise ValueError(f"max pooling has no meaning for {x.dtype}")
    shape = (problem.N, problem.C, *problem.out)
    indices = np.full(shape, -1, np.int64)
    largest = np.zeros(shape, x.dtype)
    for places, inside in _visits(problem):
        seen = x[_all_planes(places)]
        taken = inside & ((indices < 0) | (seen > largest) | np.isnan(seen))
        largest = np.where(taken, seen, largest)
        indices = np.where(taken, np.ravel_multi_index(places, problem.size), indices)
    return largest, indices


def max_dgrad(problem: PoolProblem, dy: Array, indices: Array) -> Array:
    """Each dy, added to the element of x that its window took."""
    planes = problem.N * problem.C
    dx = np.zeros((planes, prod(problem.size)), dy.dtype)
    pixels = (planes, prod(problem.out))
    np.add.at(dx, (np.arange(planes)[:, None], indices.reshape(pixels)), dy.reshape(pixels))
    return dx.reshape(problem.N, problem.C, *problem.size)


def avg_fprop(problem: PoolProblem, x: Array) -> Array:
    """Sum of each window over its divisor; integers are rounded toward zero."""
    total = np.zeros((problem.N, problem.C, *problem.out), x.dtype)
    for places, inside in _visits(problem):
        total += np.where(inside, x[_all_planes(places)], 0)
    return _divide(total, _divisors(problem))


def avg_dgrad(problem: PoolProblem, dy: Array) -> Array:
    """Each dy over its divisor, added to all elements of its window."""
    dx = np.zeros((problem.N, problem.C, *problem.size), dy.dtype)
    share = _divide(dy, _divisors(problem))
    for places, inside in _visits(problem):
        np.add.at(dx, _all_planes(places), np.where(inside, share, 0))
    return dx


def _visits(problem: PoolProblem) -> Iterator[tuple[tuple[Array, ...], Array]]:
    """For each tap in row-major order: where it lies in x for every output, and if it does at all.

    The positions are one sparse grid an axis; those outside x are moved to its edge.
    """
    for tap in np.ndindex(problem.filter):
        places, inside = [], []
        for dim, (axis, starts) in enumerate(zip(problem.axes, _starts(problem), strict=True)):
            place = starts + tap[dim] * axis.dilation
            places.append(np.clip(place, 0, axis.size - 1))
            inside.append((place >= 0) & (place < _ends(axis)))
        yield _grid(places), reduce(np.logical_and, _grid(inside))


def _divisors(problem: PoolProblem) -> Array:
    """How many elements each window counts.

    With ``count_include_pad`` the padding counts, but not what a window that ``ceil_mode`` added
    holds beyond the padding.
    """
    if problem.divisor is not None:
        return np.array(problem.divisor)
    counts = []
    for axis, starts in zip(problem.axes, _starts(problem), strict=True):
        place = starts[:, None] + np.arange(axis.filter) * axis.dilation
        before, after = (axis.pad_lo, axis.pad_hi) if problem.count_include_pad else (0, 0)
        ends = np.broadcast_to(_ends(axis), starts.shape)[:, None]
        counts.append(((place >= -before) & (place < ends + after)).sum(axis=1))
    return reduce(np.multiply, _grid(counts))


def _starts(problem: PoolProblem) -> list[Array]:
    """Position in x of the first tap of each window, one array an axis."""
    return [
        np.arange(out) * axis.stride - axis.pad_lo
        if axis.windows is None
        else np.arange(axis.windows) * axis.size // axis.windows
        for axis, out in zip(problem.axes, problem.out, strict=True)
    ]


def _ends(axis: Axis) -> Array:
    """Position behind the elements of x that each window may hold."""
    if axis.windows is None:
        return np.array(axis.size)
    return -(-np.arange(1, axis.windows + 1) * axis.size // axis.windows)


def _all_planes(places: tuple[Array, ...]) -> Index:
    return (slice(None), slice(None), *places)


def _grid(per_axis: list[Array]) -> tuple[Array, ...]:
    """One array an axis, each shaped to broadcast against the others."""
    return np.meshgrid(*per_axis, indexing="ij", sparse=True)


def _divide(sums: Array, divisors: Array) -> Array:
    if sums.dtype.kind == "i":
        return np.asarray(np.sign(sums) * (np.abs(sums) // divisors))
    return np.asarray(sums / divisors, sums.dtype)
