"""Borders around arrays, in their own memory order."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from convforge import moves
from convforge.arrays import Array, dense
from convforge.ops.common import CALLS_KEPT, Shape
from convforge.ops.planes import joined, movable
from convforge.runtime.results import aligned_array

Pairs = tuple[tuple[int, int], ...]
_AXES = 3
"""Neighbouring ones that get their borders at once."""


class Borders:
    """Borders on the axes of arrays of one shape and memory order.

    Attributes:
        shape: Of the array without borders.
    """

    def __init__(self, shape: Shape, axes: tuple[int, ...], pairs: Pairs, mode: str) -> None:
        self.shape = shape
        self._to_memory = axes
        self._to_caller = tuple(np.argsort(axes).tolist())
        self._launches = _launches(
            tuple(shape[axis] for axis in axes), tuple(pairs[axis] for axis in axes), mode
        )

    def put(self, array: Array, value: complex = 0) -> Array:
        """The array with borders, in its own memory order; ``value`` is for the constant mode."""
        if array.dtype.kind == "c":
            value = complex(value)
            return joined(self.put(array.real, value.real), self.put(array.imag, value.imag))
        here = movable(dense(array.transpose(self._to_memory)))
        number = movable(np.array([value], array.dtype))
        for _, large, fields in self._launches:
            there = aligned_array(large, here.dtype)
            if there.size:
                moves.borders(here, there, number, back=False, fields=fields)
            here = there
        return here.astype(array.dtype, copy=False).transpose(self._to_caller)

    def take(self, grad: Array) -> Array:
        """The gradient of the array from the one of what has borders."""
        if grad.dtype.kind == "c":
            return joined(self.take(grad.real), self.take(grad.imag))
        there = movable(dense(grad.transpose(self._to_memory)))
        for small, _, fields in reversed(self._launches):
            here = aligned_array(small, there.dtype)
            if here.size:
                moves.borders(here, there, here, back=True, fields=fields)
            there = here
        return there.astype(grad.dtype, copy=False).transpose(self._to_caller)


def borders_of(array: Array, pairs: Pairs, mode: str) -> Borders:
    """Those of low and high widths on every axis; negative widths take elements away."""
    axes = list(range(array.ndim))
    if not array.flags.c_contiguous:
        strides = array.strides
        axes.sort(key=lambda axis: -abs(strides[axis]))
    return _borders(array.shape, tuple(axes), pairs, mode)


_borders = lru_cache(maxsize=CALLS_KEPT)(Borders)


def _launches(
    shape: Shape, pairs: Pairs, mode: str
) -> tuple[tuple[Shape, Shape, moves.Borders], ...]:
    """Shapes without and with borders, and a launch's fields, for up to three axes at a time."""
    left = [axis for axis, pair in enumerate(pairs) if pair != (0, 0)] or [0][: len(shape)]
    found = []
    while left:
        first = left[0]
        last = [axis for axis in left if axis < first + _AXES][-1]
        left = [axis for axis in left if axis > last]
        spans = tuple((shape[axis], *pairs[axis]) for axis in range(first, last + 1))
        large = (*shape[:first], *(sum(span) for span in spans), *shape[last + 1 :])
        fields = moves.Borders(prod(shape[:first]), spans, mode, prod(shape[last + 1 :]))
        found.append((shape, large, fields))
        shape = large
    return tuple(found)
