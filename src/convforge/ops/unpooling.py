"""Elements put where indices say, and taken from there again."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from convforge import moves
from convforge.arrays import Array
from convforge.ops.arguments import ints, spread
from convforge.ops.common import Shape
from convforge.ops.planes import Images, movable
from convforge.problem import Order


def unpooled_size(
    size: Shape, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Shape:
    """Spatial extents of an unpooled image.

    Args:
        size: Extents of what was pooled.
        kernel_size, stride, padding: Of the pooling that is undone.
        output_size: The extents it started from, alone or behind N and C; None takes the smallest
            that windows without a rest leave.

    Raises:
        TypeError, ValueError: Arguments that make no size, or not the size asked for.
    """
    rank = len(size)
    window = spread(ints("kernel_size", kernel_size, rank), rank)
    steps = window if stride is None else spread(ints("stride", stride, rank), rank)
    borders = spread(ints("padding", padding, rank), rank)
    for name, values, least in (("kernel_size", window, 1), ("stride", steps, 1)):
        if min(values) < least:
            raise ValueError(f"{name} is {values}; wanted at least {least}")
    if min(borders) < 0:
        raise ValueError(f"padding is {padding!r}; wanted at least 0")
    usual = tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(size, steps, borders, window, strict=True)
    )
    if output_size is None:
        if min(usual) < 1:
            raise ValueError(f"padding is {padding!r}, which leaves the result the extents {usual}")
        return usual
    wanted = tuple(output_size)
    if len(wanted) not in (rank, rank + 1, rank + 2):
        raise ValueError(
            f"output_size is {wanted}; wanted {rank} extents, or the shape of what was pooled"
        )
    asked = spread(ints("output_size", wanted[-rank:], rank), rank)
    limits = [(u - s + 1, u + s - 1) for u, s in zip(usual, steps, strict=True)]
    fits = (max(low, 1) <= n <= high for n, (low, high) in zip(asked, limits, strict=True))
    if not all(fits):
        raise ValueError(
            f"output_size is {wanted}; wanted extents from {tuple(max(a, 1) for a, _ in limits)} "
            f"to {tuple(b for _, b in limits)}, which such a pooling makes {size} of"
        )
    return asked


class Places:
    """The positions that indices name, in the memory of arrays of one form.

    Attributes:
        images: The form of what was pooled. size: Spatial extents of what was not.

    Raises:
        TypeError, ValueError: Not integers, or another shape than the input's.
    """

    def __init__(self, images: Images, input: Array, indices: Array, size: Shape) -> None:
        if indices.dtype.kind not in "iu":
            raise TypeError(f"indices has dtype {indices.dtype}; wanted int64")
        if indices.shape != input.shape:
            raise ValueError(f"indices has shape {indices.shape}; wanted {input.shape}")
        self.images = images
        self.size = size
        self._indices = images.view.memory(indices).astype(np.int64, copy=False)

    def put(self, input: Array) -> Array:
        """Zeros with each element of the input at its place, the last where several share it.

        Raises:
            ValueError: Positions outside the plane.
        """
        return self._send(input, adds=False)

    def add(self, input: Array) -> Array:
        """Zeros with the elements of the input added at their places, in the input's order.

        Raises:
            ValueError: Positions outside the plane.
        """
        return self._send(input, adds=True)

    def take(self, array: Array) -> Array:
        """The elements of an array at the places, which an earlier call has found inside."""
        if array.dtype.kind == "c":
            return self.take(array.real) + 1j * self.take(array.imag)
        source = movable(self.images.view.memory(array))
        result = np.empty(self._indices.shape, source.dtype)
        if result.size:
            moves.fetch(result, self._indices, source, **self._geometry())
        return self.images.view.caller(result.astype(array.dtype, copy=False))

    def _send(self, input: Array, adds: bool) -> Array:
        if input.dtype.kind == "c":
            return self._send(input.real, adds) + 1j * self._send(input.imag, adds)
        view = self.images.view
        source = movable(view.memory(input))
        made = np.empty if source.size else np.zeros
        result = made(view.order.arrange(self.images.N, self.images.C, self.size), source.dtype)
        if source.size and not moves.send(
            source, self._indices, result, adds=adds, **self._geometry()
        ):
            raise ValueError(
                f"indices go from {self._indices.min()} to {self._indices.max()}; wanted 0 to "
                f"{prod(self.size) - 1}, the positions in a plane of "
                f"{' x '.join(map(str, self.size))} elements"
            )
        return view.caller(result.astype(input.dtype, copy=False))

    def _geometry(self) -> dict[str, Any]:
        last = self.images.view.order is Order.CHANNELS_LAST
        return {"images": self.images.N, "channels": self.images.C, "last": last}
