"""Elements put where indices say, and taken from there again."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.ops.arguments import ints, spread
from convforge.ops.common import Shape
from convforge.ops.planes import Images


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
        TypeError, ValueError: Not integers, another shape than the input's, or positions outside
            the plane.
    """

    def __init__(self, images: Images, input: Array, indices: Array, size: Shape) -> None:
        if indices.dtype.kind not in "iu":
            raise TypeError(f"indices has dtype {indices.dtype}; wanted int64")
        if indices.shape != input.shape:
            raise ValueError(f"indices has shape {indices.shape}; wanted {input.shape}")
        plane = prod(size)
        if indices.size:
            low, high = int(indices.min()), int(indices.max())
            if low < 0 or high >= plane:
                raise ValueError(
                    f"indices go from {low} to {high}; wanted 0 to {plane - 1}, the positions in "
                    f"a plane of {' x '.join(map(str, size))} elements"
                )
        self.images = images
        self.size = size
        found = images.channels_first(indices).reshape(images.N, images.C, -1)
        planes = np.arange(images.N * images.C).reshape(images.N, images.C, 1)
        self._flat = found.astype(np.int64, copy=False) + planes * plane

    def put(self, input: Array) -> Array:
        """Zeros with each element of the input at its place, the last where several share it."""
        images = self.images
        result = images.empty(self.size, input.dtype)
        flat = np.zeros(images.N * images.C * prod(self.size), input.dtype)
        flat[self._flat.ravel()] = images.channels_first(input).ravel()
        result[...] = flat.reshape(result.shape)
        return images.result(result)

    def take(self, array: Array) -> Array:
        """The elements of an array at the places, in the form of the input."""
        images = self.images
        result = images.empty(images.size, array.dtype)
        found = images.channels_first(array).ravel()
        result[...] = np.take(found, self._flat).reshape(result.shape)
        return images.result(result)

    def add(self, input: Array) -> Array:
        """Zeros with the elements of the input added at their places, in the input's order."""
        images = self.images
        result = images.empty(self.size, input.dtype)
        flat = images.channels_first(input).ravel()
        length = images.N * images.C * prod(self.size)
        total = np.bincount(self._flat.ravel(), weights=flat, minlength=length)
        result[...] = total.reshape(result.shape)
        return images.result(result)
