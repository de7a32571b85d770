"""Images for operators that move elements about instead of multiplying them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convforge.arrays import Array, View, order_of
from convforge.ops import arguments
from convforge.ops.common import Shape, split_image
from convforge.problem import Order
from convforge.runtime.results import aligned_array


def movable(array: Array) -> Array:
    """The array in a type that kernels move, which holds every element of its own."""
    if array.dtype.kind in "biu":
        return array.astype(np.int64, copy=False)
    return array.astype(np.float64 if array.itemsize >= 8 else np.float32, copy=False)


@dataclass(frozen=True, slots=True)
class Images:
    """Images as the caller holds them, and results brought to the same form.

    Attributes:
        view: How the caller's arrays are seen in memory order.
        N: Images. C: Channels. size: Spatial extents.
    """

    view: View
    N: int
    C: int
    size: Shape

    @staticmethod
    def of(name: str, array: Array, rank: int, layout: str | None) -> Images:
        """What the shape and strides of an array say.

        Raises:
            ValueError: Another number of axes, or a layout that is not for this rank.
        """
        last = arguments.channels_last(layout, rank)
        shape, strides = array.shape, array.strides
        batched, N, C, size = split_image(name, shape, rank, channels_last=last)
        order = order_of(shape, strides, array.itemsize, rank, channels_last=last)
        return Images(View.of(order, rank, channels_last=last, batched=batched), N, C, size)

    def channels_first(self, array: Array) -> Array:
        """The array as ``(N, C, *size)``; a view where its memory is dense."""
        memory = self.view.memory(array)
        return memory if self.view.order is Order.CHANNELS_FIRST else np.moveaxis(memory, -1, 1)

    def empty(self, size: Shape, dtype: np.dtype[np.generic]) -> Array:
        """A new array ``(N, C, *size)`` in the caller's memory order."""
        memory = aligned_array(self.view.order.arrange(self.N, self.C, size), dtype)
        return memory if self.view.order is Order.CHANNELS_FIRST else np.moveaxis(memory, -1, 1)

    def result(self, array: Array) -> Array:
        """An array of :meth:`empty` in the caller's form."""
        if self.view.order is not Order.CHANNELS_FIRST:
            array = np.moveaxis(array, 1, -1)
        return self.view.caller(array)
