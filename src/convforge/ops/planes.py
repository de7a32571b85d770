"""Images for operators that move elements about instead of multiplying them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from convforge.arrays import Array, View, order_of
from convforge.ops import arguments
from convforge.ops.common import CALLS_KEPT, Shape, split_image


def movable(array: Array) -> Array:
    """The array in a type that kernels move, which holds every element of its own."""
    if array.dtype.kind in "biu":
        return array.astype(np.int64, copy=False)
    return array.astype(np.float64 if array.itemsize >= 8 else np.float32, copy=False)


def joined(real: Array, imaginary: Array) -> Array:
    """A complex array of both parts, in their memory order."""
    whole = np.empty_like(real, np.result_type(real.dtype, np.complex64))
    whole.real, whole.imag = real, imaginary
    return whole


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
        return _images(name, array.shape, array.strides, array.itemsize, rank, layout)


@lru_cache(maxsize=CALLS_KEPT)
def _images(
    name: str, shape: Shape, strides: Shape, itemsize: int, rank: int, layout: str | None
) -> Images:
    last = arguments.channels_last(layout, rank)
    batched, N, C, size = split_image(name, shape, rank, channels_last=last)
    order = order_of(shape, strides, itemsize, rank, channels_last=last)
    return Images(View.of(order, rank, channels_last=last, batched=batched), N, C, size)
