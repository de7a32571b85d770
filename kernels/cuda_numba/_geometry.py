"""How operands lie in memory and where windows look, for one to three axes as three."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from convforge.kernels.cuda_numba._element import inlined, number_type
from convforge.problem import Axis, ConvProblem, Direction, Order, PadMode, PoolProblem, Problem
from convforge.runtime.cuda.jit import fits_int32

MODES = (PadMode.ZEROS, PadMode.REFLECT, PadMode.REPLICATE, PadMode.CIRCULAR)
_REFLECT, _REPLICATE = 1, 2
_UNIT = Axis(size=1, filter=1)


def three(values: tuple[int, ...]) -> tuple[int, int, int]:
    """Extents of D, H and W; of an axis that is not there, 1."""
    d, h, w = ((1,) * 3 + values)[-3:]
    return d, h, w


def three_axes(axes: tuple[Axis, ...]) -> tuple[Axis, Axis, Axis]:
    """D, H and W; an axis that is not there has one pixel and one tap."""
    d, h, w = ((_UNIT,) * 3 + axes)[-3:]
    return d, h, w


def steps(order: Order, lead: int, channels: int, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Elements between neighbours of an array of three spatial axes: lead, channel, D, H, W."""
    d, h, w = three(spatial)
    if order is Order.CHANNELS_FIRST:
        return channels * d * h * w, d * h * w, h * w, w, 1
    return d * h * w * channels, 1, h * w * channels, w * channels, channels


def index_of(problem: Problem) -> str:
    """``i32`` where it holds every offset and position of a problem, else ``i64``."""
    shapes = [problem.x_shape, problem.y_shape]
    if isinstance(problem, ConvProblem):
        shapes.append(problem.w_shape)
    reach = [
        max(axis.padded, axis.stride, axis.extent, axis.dilation, axis.out) for axis in problem.axes
    ]
    # Where an adaptive window begins is a quotient of products.
    reach += [(axis.size + 1) * (axis.windows + 1) for axis in problem.axes if axis.windows]
    if isinstance(problem, PoolProblem):
        reach.append(problem.divisor or 0)
    # Arrays without elements have steps all the same.
    sizes = [prod(max(extent, 1) for extent in shape) for shape in shapes]
    return fits_int32(*sizes, *reach)


def gather_windows(problem: ConvProblem) -> dict[str, int]:
    """``up tap start down mode`` of every axis, in fprop (and wgrad) or in dgrad.

    Output o meets tap r at ``(o * up + r * tap + start) / down`` where that is a whole number;
    ``mode`` says what is outside.
    """
    found: dict[str, int] = {}
    for name, axis in zip("dhw", three_axes(problem.axes), strict=True):
        found |= named(
            f"up_{name} tap_{name} start_{name} down_{name} mode_{name}",
            (1, -axis.dilation, axis.pad_lo, axis.stride, 0)
            if problem.direction is Direction.DGRAD
            else (axis.stride, axis.dilation, -axis.pad_lo, 1, MODES.index(axis.pad_mode)),
        )
    return found


def named(names: str, values: tuple[int, ...]) -> dict[str, int]:
    """Constants of these names with these values."""
    return dict(zip(names.split(), values, strict=True))


def source_of(index: str) -> Callable[[Any, Any, Any], Any]:
    """``source(position, size, mode)``: which pixel stands there, -1 for a zero outside."""
    integer = number_type(index)

    @inlined
    def source(position, size, mode):
        found = integer(position)
        if position < 0 or position >= size:
            if mode == 0:
                found = integer(-1)
            elif mode == _REFLECT:
                found = integer(-position if position < 0 else 2 * (size - 1) - position)
            elif mode == _REPLICATE:
                found = integer(0 if position < 0 else size - 1)
            else:
                found = integer(position + size if position < 0 else position - size)
        return found

    return source
