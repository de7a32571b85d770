"""Pooling windows on one axis: which pixels a window holds, which windows hold a pixel.

An axis is a group of constants (:data:`AXES`), of which kernels hand those to these functions that
they ask for. Windows are even (a stride, a dilation, padding) or adaptive, which ``windows`` says.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from convforge.kernels.cuda_numba._element import divider, inlined, number_type
from convforge.kernels.cuda_numba._geometry import named, steps, three, three_axes
from convforge.problem import Direction, Order, PoolProblem
from convforge.runtime.cuda.jit import Constants

_NAMES = "size out taps stride dilation pad beyond windows"
AXES = " ".join(f"{name}_{axis}" for axis in "dhw" for name in _NAMES.split())
"""For each axis its pixels, windows, taps of a window, distances, padding before the image and
behind it, and on an adaptive axis the number of windows, else 0."""


THREADS = 128
REGISTERS = {"f32": 48, "f64": 48, "i32": 48, "i64": 48}
POOL = Constants(
    "Pool",
    f"elements channels channels_last indices divisor padded {AXES} "
    "source_n source_c source_d source_h source_w",
)
"""What every kernel of pooling gets: one thread for each of so many elements."""


def _pack_axes(problem: PoolProblem) -> dict[str, int]:
    """The constants of all three axes."""
    found: dict[str, int] = {}
    for name, axis, out in zip("dhw", three_axes(problem.axes), three(problem.out), strict=True):
        found |= named(
            " ".join(f"{each}_{name}" for each in _NAMES.split()),
            (
                axis.size,
                out,
                axis.filter,
                axis.stride,
                axis.dilation,
                axis.pad_lo,
                axis.pad_hi,
                axis.windows or 0,
            ),
        )
    return found


def pack_pool(problem: PoolProblem, index: str, *, indices: bool) -> bytes:
    """The constants of a launch; ``source`` is what is read, y on the way back."""
    backward = problem.direction is Direction.DGRAD
    source = problem.out if backward else problem.size
    return POOL.pack(
        index,
        elements=prod(problem.x_shape if backward else problem.y_shape),
        channels=problem.C,
        channels_last=problem.x.order is Order.CHANNELS_LAST,
        indices=indices,
        divisor=problem.divisor or 0,
        padded=problem.count_include_pad,
        **_pack_axes(problem),
        **named(
            "source_n source_c source_d source_h source_w",
            steps(problem.x.order, problem.N, problem.C, source),
        ),
    )


def window_of(index: str) -> Callable[..., Any]:
    """``window(o, size, taps, stride, dilation, pad, windows)``: pixels of window ``o``.

    From the first result up to the second, without it, a dilation apart: those in the image.
    """
    integer, divide = number_type(index), divider(index)

    @inlined
    def window(o, size, taps, stride, dilation, pad, windows):
        if windows > 0:
            first, _ = divide(integer(o * size), windows)
            end, _ = divide(integer(o * size + size + windows - 1), windows)
        else:
            first = integer(o * stride - pad)
            end = min(size, integer(first + dilation * (taps - 1) + 1))
            if first < 0:
                outside, _ = divide(integer(dilation - 1 - first), dilation)
                first = integer(first + outside * dilation)
        return first, end

    return window


def count_of(index: str, acc: str) -> Callable[..., Any]:
    """``count(o, size, taps, stride, dilation, pad, beyond, windows, padded)``: what it divides by.

    With ``padded`` taps in the padding count, but not what hangs over beyond it.
    """
    integer, divide = number_type(index), divider(index)
    window, number = window_of(index), number_type(acc)

    @inlined
    def count(o, size, taps, stride, dilation, pad, beyond, windows, padded):
        if padded != 0 and windows == 0:
            left = integer(size + beyond + pad - o * stride)
            found, _ = divide(integer(left + dilation - 1), dilation)
            found = min(taps, found)
        else:
            first, end = window(o, size, taps, stride, dilation, pad, windows)
            found, _ = divide(integer(end - first + dilation - 1), dilation)
        return number(found)

    return count


def holders_of(index: str) -> Callable[..., Any]:
    """``holders(i, size, out, taps, stride, dilation, pad, windows)``: windows around pixel ``i``.

    From the first result up to the second, without it; dilated ones may step over the pixel.
    """
    integer, divide = number_type(index), divider(index)

    @inlined
    def holders(i, size, out, taps, stride, dilation, pad, windows):
        if windows > 0:
            first, _ = divide(integer(i * windows), size)
            end, _ = divide(integer(i * windows + windows + size - 1), size)
        else:
            last = integer(i + pad)
            before = max(integer(last - dilation * (taps - 1)), integer(0))
            first, _ = divide(integer(before + stride - 1), stride)
            end, _ = divide(last, stride)
            end = min(out, integer(end + 1))
        return first, end

    return holders


def visited_of(index: str) -> Callable[[Any, Any, Any, Any, Any], Any]:
    """``visited(i, o, stride, dilation, pad)``: whether a tap of window ``o`` is pixel ``i``.

    Of windows that hold the pixel between their ends.
    """
    integer, divide = number_type(index), divider(index)

    @inlined
    def visited(i, o, stride, dilation, pad):
        rest = integer(0)
        if dilation > 1:
            _, rest = divide(integer(i + pad - o * stride), dilation)
        return rest == 0

    return visited


def place_of(index: str) -> Callable[..., Any]:
    """``place(i, C, D, H, W, channels_last)``: n, c, d, h, w of element ``i`` in memory order."""
    integer, divide = number_type(index), divider(index)

    @inlined
    def place(i, channels, D, H, W, channels_last):
        rest, c = i, integer(0)
        if channels_last != 0:
            rest, c = divide(rest, channels)
        rest, w = divide(rest, W)
        rest, h = divide(rest, H)
        n, d = divide(rest, D)
        if channels_last == 0:
            n, c = divide(n, channels)
        return n, c, d, h, w

    return place
