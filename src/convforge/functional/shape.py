"""Shapes: flatten and pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.autograd import Function
from convforge.autograd.elementary import Reshape, flat_shape


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make one axis of those from ``start_dim`` to ``end_dim``.

    Raises:
        ValueError: Not axes of the input, or in the wrong order.
    """
    return Reshape(flat_shape(tuple(input.shape), start_dim, end_dim))(input)


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float = 0) -> Any:
    """Put a border of one value around an array.

    Args:
        input: Any shape.
        pad: Low and high widths of the last axis, then of the one before it, and so on.
        mode: ``"constant"``; a layer's ``padding_mode`` has the others, without a copy.
        value: What stands in the border.

    Raises:
        ValueError: Another mode, or widths that are negative or too many.
    """
    if mode != "constant":
        raise ValueError(
            f"mode is {mode!r}; wanted 'constant': reflect, replicate and circular are the "
            "padding_mode of a convolution layer"
        )
    widths = tuple(pad)
    if len(widths) % 2 or len(widths) > 2 * input.ndim or min(widths, default=0) < 0:
        raise ValueError(
            f"pad is {pad!r}; wanted a low and a high width, not negative, for each of the last "
            f"axes of shape {tuple(input.shape)}"
        )
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    return _Pad([(0, 0)] * (input.ndim - len(pairs)) + pairs[::-1], value)(input)


class _Pad(Function):
    """A border of one value."""

    reads_operands = False

    def __init__(self, pairs: list[tuple[int, int]], value: float) -> None:
        self.pairs = pairs
        self.value = value

    def forward(self, input: Array) -> Array:
        shape = [n + lo + hi for n, (lo, hi) in zip(input.shape, self.pairs, strict=True)]
        # In the input's memory order, which np.pad does not keep.
        padded = np.full_like(input, self.value, shape=shape)
        padded[self._inside(padded)] = input
        return padded

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad[self._inside(grad)],)

    def _inside(self, padded: Array) -> tuple[slice, ...]:
        return tuple(
            slice(lo, size - hi) for size, (lo, hi) in zip(padded.shape, self.pairs, strict=True)
        )
