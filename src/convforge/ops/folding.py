"""Windows taken out of images as columns, and columns added back into images."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convforge.arrays import Array, View
from convforge.ops.arguments import axes_of, channels_last, ints
from convforge.ops.common import Shape
from convforge.ops.planes import Images
from convforge.problem import Axis, Order
from convforge.problem.words import SIZE_NAMES


def folding_axes(
    size: Shape, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Axis, ...]:
    """The windows of an image of these extents.

    Raises:
        TypeError, ValueError: Arguments of the wrong kind, or none of whose windows fits.
    """
    rank = len(size)
    axes = axes_of(
        size,
        ints("kernel_size", kernel_size, rank),
        ints("stride", stride, rank),
        ints("padding", padding, rank),
        ints("dilation", dilation, rank),
    )
    for name, axis in zip(SIZE_NAMES[rank], axes, strict=True):
        axis.check(name)
    return axes


def columns_shape(N: int, C: int, axes: tuple[Axis, ...]) -> Shape:
    """Shape of the columns: images, channels times window elements, windows."""
    return N, C * prod(axis.filter for axis in axes), prod(axis.out for axis in axes)


def image_form(shape: Shape, axes: tuple[Axis, ...], layout: str | None) -> Images:
    """The form of the images that columns of this shape fold to.

    Raises:
        ValueError: Another shape than these windows give.
    """
    last = channels_last(layout, len(axes))
    batched = len(shape) == 3
    _, taps, count = columns_shape(1, 1, axes)
    if len(shape) not in (2, 3) or shape[-1] != count or shape[-2] % taps:
        raise ValueError(
            f"input has shape {shape}; wanted (N, C * {taps}, {count}) or (C * {taps}, {count}), "
            f"as windows of {_extents(axis.filter for axis in axes)} give on images of "
            f"{_extents(axis.size for axis in axes)}"
        )
    order = Order.CHANNELS_LAST if last else Order.CHANNELS_FIRST
    view = View.of(order, len(axes), channels_last=last, batched=batched)
    size = tuple(axis.size for axis in axes)
    return Images(view, shape[0] if batched else 1, shape[-2] // taps, size)


def _extents(numbers: Iterable[int]) -> str:
    return " x ".join(map(str, numbers))


def unfold_images(images: Images, input: Array, axes: tuple[Axis, ...]) -> Array:
    """Every window of the images as a column, one copy of each element it holds."""
    x = images.channels_first(input)
    if any(axis.pad_lo or axis.pad_hi for axis in axes):
        padded = np.zeros((images.N, images.C, *(axis.padded for axis in axes)), x.dtype)
        padded[_inside(axes)] = x
        x = padded
    steps = x.strides[2:]
    view = as_strided(
        x,
        (*x.shape[:2], *(axis.filter for axis in axes), *(axis.out for axis in axes)),
        (
            *x.strides[:2],
            *(step * axis.dilation for step, axis in zip(steps, axes, strict=True)),
            *(step * axis.stride for step, axis in zip(steps, axes, strict=True)),
        ),
        writeable=False,
    )
    columns = np.ascontiguousarray(view).reshape(columns_shape(images.N, images.C, axes))
    return columns if images.view.batched else columns[0]


def fold_columns(images: Images, columns: Array, axes: tuple[Axis, ...]) -> Array:
    """The images whose windows these columns are, with what overlaps added up, tap by tap."""
    taps = tuple(axis.filter for axis in axes)
    out = tuple(axis.out for axis in axes)
    columns = columns.reshape(images.N, images.C, *taps, *out)
    result = images.empty(images.size, columns.dtype)
    # One image at a time: what its windows are added to stays in the cache.
    padded = np.empty((images.C, *(axis.padded for axis in axes)), columns.dtype)
    for image, target in zip(columns, result, strict=True):
        padded[...] = 0
        for tap in product(*map(range, taps)):
            padded[:, *map(_window, axes, tap)] += image[:, *tap]
        target[...] = padded[_inside(axes)[1:]]
    return images.result(result)


def _window(axis: Axis, tap: int) -> slice:
    start = tap * axis.dilation
    return slice(start, start + (axis.out - 1) * axis.stride + 1, axis.stride)


def _inside(axes: tuple[Axis, ...]) -> tuple[slice, ...]:
    return (
        slice(None),
        slice(None),
        *(slice(axis.pad_lo, axis.pad_lo + axis.size) for axis in axes),
    )
