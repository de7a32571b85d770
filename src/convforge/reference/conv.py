"""Convolution by its definition, in the type of the arrays it gets.

For images, with ``x_padded`` the image among whatever its padding mode puts outside it::

    y[n, k, p, q] = sum over c, r, s of
        x_padded[n, c, p * stride_h + r * dilation_h, q * stride_w + s * dilation_w] * w[k, c, r, s]

where c runs over the channels of k's group. Nothing is conjugated. The three directions are one
loop over the filter's taps; a tap sees a strided window of ``x_padded``, and its channels are
contracted by one matrix product a group. dgrad and wgrad are the gradients of the sum above.

All arrays are channels first: x ``(N, C, *size)``, w ``(K, C / groups, *filter)``, y
``(N, K, *out)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convforge.problem import Axis, ConvProblem, PadMode

Array = NDArray[Any]
Index = tuple[Any, ...]


def fprop(problem: ConvProblem, x: Array, w: Array) -> Array:
    """Compute y ``(N, K, *out)`` from x and w."""
    y = np.zeros((problem.N, problem.groups, problem.group_K, prod(problem.out)), w.dtype)
    padded = _pad(problem, x)
    for tap, window in _taps(problem):
        y += _filter_tap(problem, w, tap) @ _pixels(problem, padded[window], problem.group_C)
    return y.reshape(problem.N, problem.K, *problem.out)


def dgrad(problem: ConvProblem, dy: Array, w: Array) -> Array:
    """Compute dx ``(N, C, *size)`` from dy and w: the transposed convolution of dy."""
    padded = np.zeros((problem.N, problem.C, *(axis.padded for axis in problem.axes)), dy.dtype)
    dy = _pixels(problem, dy, problem.group_K)
    for tap, window in _taps(problem):
        share = _filter_tap(problem, w, tap).swapaxes(-1, -2) @ dy
        padded[window] += share.reshape(problem.N, problem.C, *problem.out)
    return _unpad(problem, padded)


def wgrad(problem: ConvProblem, x: Array, dy: Array) -> Array:
    """Compute dw ``(K, C / groups, *filter)`` from x and dy."""
    dw = np.zeros((problem.K, problem.group_C, *problem.filter), x.dtype)
    padded = _pad(problem, x)
    dy = _pixels(problem, dy, problem.group_K)
    for tap, window in _taps(problem):
        seen = _pixels(problem, padded[window], problem.group_C)
        share = (dy @ seen.swapaxes(-1, -2)).sum(axis=0)
        dw[tap] = share.reshape(problem.K, problem.group_C)
    return dw


def _taps(problem: ConvProblem) -> Iterator[tuple[Index, Index]]:
    """Where each tap is in the filter, and what it multiplies in the padded image."""
    for tap in np.ndindex(problem.filter):
        window: list[Any] = [...]
        for position, axis in zip(tap, problem.axes, strict=True):
            start = position * axis.dilation
            window.append(slice(start, start + (axis.out - 1) * axis.stride + 1, axis.stride))
        yield (..., *tap), tuple(window)


def _filter_tap(problem: ConvProblem, w: Array, tap: Index) -> Array:
    """One tap of all filters, ``(groups, K / groups, C / groups)``."""
    return w[tap].reshape(problem.groups, problem.group_K, problem.group_C)


def _pixels(problem: ConvProblem, image: Array, channels: int) -> Array:
    """An image of y's extents as one matrix a group, ``(N, groups, channels, pixels)``."""
    return image.reshape(problem.N, problem.groups, channels, prod(problem.out))


def _sources(axis: Axis) -> Array:
    """For each position of the padded axis, the position in x that it shows; -1 where it is 0."""
    position = np.arange(-axis.pad_lo, axis.size + axis.pad_hi)
    last = axis.size - 1
    match axis.pad_mode:
        case PadMode.ZEROS:
            return np.where((position >= 0) & (position <= last), position, -1)
        case PadMode.REPLICATE:
            return np.clip(position, 0, last)
        case PadMode.REFLECT:
            return np.asarray(last - np.abs(last - np.abs(position)))
        case PadMode.CIRCULAR:
            return position % axis.size if axis.size else position


def _pad(problem: ConvProblem, x: Array) -> Array:
    for dim, axis in enumerate(problem.axes, start=2):
        x = np.moveaxis(x, dim, 0)
        padded = np.zeros((axis.padded, *x.shape[1:]), x.dtype)
        sources = _sources(axis)
        padded[sources >= 0] = x[sources[sources >= 0]]
        x = np.moveaxis(padded, 0, dim)
    return x


def _unpad(problem: ConvProblem, padded: Array) -> Array:
    """The transpose of :func:`_pad`: add every padded position to the one it was read from."""
    for dim, axis in enumerate(problem.axes, start=2):
        padded = np.moveaxis(padded, dim, 0)
        x = np.zeros((axis.size, *padded.shape[1:]), padded.dtype)
        for position, source in enumerate(_sources(axis)):
            if source >= 0:
                x[source] += padded[position]
        padded = np.moveaxis(x, 0, dim)
    return padded
