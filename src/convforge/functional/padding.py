"""Borders around arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from convforge.arrays import Array
from convforge.autograd import Function
from convforge.ops.arguments import integer
from convforge.ops.common import CALLS_KEPT, Shape
from convforge.ops.padding import Pairs, borders_of

_MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Put a border around an array, or take one away.

    Args:
        input: Any shape.
        pad: Low and high widths of the last axis, then of the one before it, and so on; a
            negative one takes elements away.
        mode: What stands in the border: ``"constant"`` a number, ``"reflect"`` the array mirrored
            at its last element, ``"replicate"`` that element, ``"circular"`` the array repeated.
        value: The number, 0 by default.

    Raises:
        TypeError: Widths that are not integers.
        ValueError: Another mode, or widths that are too many or too large.
    """
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}; wanted one of {', '.join(_MODES)}")
    if mode != "constant" and value is not None:
        raise ValueError(f"value is {value!r}, but mode {mode!r} has no use for one")
    widths = tuple([w if w.__class__ is int else integer("pad", w) for w in pad])
    return _Pad(_pairs(tuple(input.shape), widths, mode), mode, value or 0)(input)


@lru_cache(maxsize=CALLS_KEPT)
def _pairs(shape: Shape, widths: Shape, mode: str) -> Pairs:
    """Low and high width on every axis, which the array must have elements for."""
    if len(widths) % 2 or len(widths) > 2 * len(shape):
        raise ValueError(
            f"pad is {widths}; wanted a low and a high width for each of the last axes of shape "
            f"{shape}"
        )
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    pairs = [(0, 0)] * (len(shape) - len(pairs)) + pairs[::-1]
    for n, (lo, hi) in zip(shape, pairs, strict=True):
        most = {
            "reflect": n - 1,
            "circular": n + min(lo, hi, 0),
            "replicate": max(lo, hi) * (n > 0),
        }.get(mode)
        if n + lo + hi < 0 or (most is not None and max(lo, hi) > max(most, 0)):
            raise ValueError(
                f"pad is {widths}, which mode {mode!r} has no elements for in shape {shape}"
            )
    return tuple(pairs)


class _Pad(Function):
    """A border: of one value, or copied from inside."""

    on_host = True
    reads_operands = False

    def __init__(self, pairs: Pairs, mode: str, value: float) -> None:
        self.pairs = pairs
        self.mode = mode
        self.value = value
        # What stands in a border of one value came from nowhere: the gradient is a part.
        self.is_part = mode == "constant" and all(min(pair) >= 0 for pair in pairs)
        self.makes_gradients = not self.is_part

    def forward(self, input: Array) -> Array:
        if input.dtype.kind not in "biufc":
            raise TypeError(f"input has dtype {input.dtype}; wanted numbers")
        self.borders = borders_of(input, self.pairs, self.mode)
        return self.borders.put(input, self.value)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        if self.is_part:
            sizes = self.borders.shape
            inside = zip(sizes, self.pairs, strict=True)
            return (grad[tuple(slice(lo, lo + n) for n, (lo, _) in inside)],)
        return (self.borders.take(grad),)
