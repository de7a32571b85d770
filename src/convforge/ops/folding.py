"""Windows taken out of images as columns, and columns added back into images."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import prod
from typing import Any

from convforge import moves
from convforge.arrays import Array, View, dense
from convforge.ops.arguments import Ints, axes_of, channels_last, ints
from convforge.ops.common import CALLS_KEPT, Shape
from convforge.ops.planes import Images, joined, movable
from convforge.problem import Axis, Order
from convforge.problem.words import SIZE_NAMES
from convforge.runtime.results import aligned_array


def folding_axes(
    size: Shape, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Axis, ...]:
    """The windows of an image of these extents.

    Raises:
        TypeError, ValueError: Arguments of the wrong kind, or none of whose windows fits.
    """
    rank = len(size)
    return _axes(
        size,
        ints("kernel_size", kernel_size, rank),
        ints("stride", stride, rank),
        ints("padding", padding, rank),
        ints("dilation", dilation, rank),
    )


@lru_cache(maxsize=CALLS_KEPT)
def _axes(
    size: Shape, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints
) -> tuple[Axis, ...]:
    axes = axes_of(size, kernel_size, stride, padding, dilation)
    for name, axis in zip(SIZE_NAMES[len(size)], axes, strict=True):
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
    if input.dtype.kind == "c":
        return joined(*(unfold_images(images, x, axes) for x in (input.real, input.imag)))
    x = movable(images.view.memory(input))
    columns = aligned_array(columns_shape(images.N, images.C, axes), x.dtype)
    if columns.size:
        moves.folding(x, columns, back=False, **_fields(images, axes))
    columns = columns.astype(input.dtype, copy=False)
    return columns if images.view.batched else columns[0]


def fold_columns(images: Images, columns: Array, axes: tuple[Axis, ...]) -> Array:
    """The images whose windows these columns are, with what overlaps added up, tap by tap."""
    if columns.dtype.kind == "c":
        return joined(*(fold_columns(images, x, axes) for x in (columns.real, columns.imag)))
    source = movable(dense(columns))
    memory = images.view.order.arrange(images.N, images.C, images.size)
    result = aligned_array(memory, source.dtype)
    if result.size:
        moves.folding(result, source, back=True, **_fields(images, axes))
    return images.view.caller(result.astype(columns.dtype, copy=False))


def _fields(images: Images, axes: tuple[Axis, ...]) -> dict[str, int]:
    h, w = axes
    return {
        "N": images.N,
        "C": images.C,
        "H": h.size,
        "W": w.size,
        "R": h.filter,
        "S": w.filter,
        "P": h.out,
        "Q": w.out,
        "stride_h": h.stride,
        "stride_w": w.stride,
        "dilation_h": h.dilation,
        "dilation_w": w.dilation,
        "pad_top": h.pad_lo,
        "pad_left": w.pad_lo,
        "last": images.view.order is Order.CHANNELS_LAST,
    }
