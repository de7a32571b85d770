"""Borders around arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.autograd import Function
from convforge.ops.arguments import integer

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
    widths = [integer("pad", width) for width in pad]
    if len(widths) % 2 or len(widths) > 2 * input.ndim:
        raise ValueError(
            f"pad is {pad!r}; wanted a low and a high width for each of the last axes of shape "
            f"{tuple(input.shape)}"
        )
    pairs = list(zip(widths[::2], widths[1::2], strict=True))
    pairs = [(0, 0)] * (input.ndim - len(pairs)) + pairs[::-1]
    for n, (lo, hi) in zip(input.shape, pairs, strict=True):
        most = {
            "reflect": n - 1,
            "circular": n + min(lo, hi, 0),
            "replicate": max(lo, hi) * (n > 0),
        }.get(mode)
        if n + lo + hi < 0 or (most is not None and max(lo, hi) > max(most, 0)):
            raise ValueError(
                f"pad is {pad!r}, which mode {mode!r} has no elements for in shape "
                f"{tuple(input.shape)}"
            )
    return _Pad(pairs, mode, value or 0)(input)


class _Pad(Function):
    """A border: of one value, or copied from inside."""

    reads_operands = False

    def __init__(self, pairs: list[tuple[int, int]], mode: str, value: float) -> None:
        self.pairs = pairs
        self.mode = mode
        self.value = value

    def forward(self, input: Array) -> Array:
        self.whole_shape = input.shape
        input = input[self._before()]
        self.shape = input.shape
        grown = [(max(lo, 0), max(hi, 0)) for lo, hi in self.pairs]
        sizes = [n + lo + hi for n, (lo, hi) in zip(input.shape, grown, strict=True)]
        # In the input's memory order, which np.pad does not keep.
        if self.mode == "constant":
            padded = np.full_like(input, self.value, shape=sizes)
        else:
            padded = np.empty_like(input, shape=sizes)
        padded[self._inside(grown)] = input
        for target, source in self._copies(grown):
            padded[target] = padded[source]
        return padded[self._after()]

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        grown = [(max(lo, 0), max(hi, 0)) for lo, hi in self.pairs]
        if self.mode == "constant" and grown == self.pairs:
            return (grad[self._inside(grown)],)  # what stands in the border came from nowhere
        sizes = [n + lo + hi for n, (lo, hi) in zip(self.shape, grown, strict=True)]
        if grad.shape == tuple(sizes):
            whole = grad.copy(order="K")
        else:
            whole = np.zeros_like(grad, shape=sizes)
            whole[self._after()] = grad
        # Copies of copies stand in the corners: the way back is the way there, reversed.
        for target, source in reversed(self._copies(grown)):
            axis = next(i for i, part in enumerate(target) if part != slice(None))
            sent = whole[target]
            whole[source] += sent.sum(axis, keepdims=True) if self.mode == "replicate" else sent
        inside = whole[self._inside(grown)]
        if inside.shape == self.whole_shape:
            return (inside,)
        dx = np.zeros_like(grad, shape=self.whole_shape)
        dx[self._before()] = inside
        return (dx,)

    def _inside(self, pairs: list[tuple[int, int]]) -> tuple[slice, ...]:
        """Where the input lies in the padded array."""
        return tuple(slice(lo, lo + n) for n, (lo, _) in zip(self.shape, pairs, strict=True))

    def _before(self) -> tuple[slice, ...]:
        """What negative widths leave of the input; what is left is repeated then."""
        if self.mode != "circular":
            return (slice(None),) * len(self.pairs)
        sizes = self.whole_shape
        return tuple(
            slice(max(-lo, 0), n - max(-hi, 0))
            for n, (lo, hi) in zip(sizes, self.pairs, strict=True)
        )

    def _after(self) -> tuple[slice, ...]:
        """What negative widths leave of the padded array, in the other modes."""
        if self.mode == "circular":
            return (slice(None),) * len(self.pairs)
        return tuple(
            slice(max(-lo, 0), n + max(lo, 0) + max(hi, 0) - max(-hi, 0))
            for n, (lo, hi) in zip(self.shape, self.pairs, strict=True)
        )

    def _copies(
        self, pairs: list[tuple[int, int]]
    ) -> list[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """Parts of the border, and what each is a copy of; axis after axis."""
        copies = []
        for axis, (n, (lo, hi)) in enumerate(zip(self.shape, pairs, strict=True)):
            first, last = lo, lo + n - 1  # of the input
            parts = {
                "reflect": [
                    (slice(0, lo), slice(2 * lo, lo, -1)),
                    (slice(last + 1, last + 1 + hi), _down(last - 1, hi)),
                ],
                "replicate": [
                    (slice(0, lo), slice(first, first + 1)),
                    (slice(last + 1, last + 1 + hi), slice(last, last + 1)),
                ],
                "circular": [
                    (slice(0, lo), slice(n, n + lo)),
                    (slice(last + 1, last + 1 + hi), slice(first, first + hi)),
                ],
            }.get(self.mode, [])
            for (target, source), width in zip(parts, (lo, hi), strict=False):
                if width:
                    before = (slice(None),) * axis
                    copies.append(((*before, target), (*before, source)))
        return copies


def _down(start: int, count: int) -> slice:
    """``count`` positions from ``start`` downwards."""
    stop = start - count
    return slice(start, stop if stop >= 0 else None, -1)
