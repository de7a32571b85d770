"""Convolution of images with zeros between their elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convforge import functional as F
from convforge.arrays import Array
from convforge.autograd import Function
from convforge.conventions.common import Pair, cropped_transpose, permute, reshape
from convforge.functional import convolution


def convolve_spread(
    x: Any, w: Any, strides: tuple[int, ...], pads: Sequence[Pair], spread: tuple[int, ...],
    dilations: tuple[int, ...], groups: int, out_dtype: Any,
) -> Any:  # fmt: skip
    """Convolution of an image with zeros between its elements."""
    K, C, *taps = w.shape
    rank = len(taps)
    reach = [d * (k - 1) for d, k in zip(dilations, taps, strict=True)]
    crops = [(r - low, r - high) for r, (low, high) in zip(reach, pads, strict=True)]
    if all(s == 1 for s in strides) and all(low >= 0 for low, _ in crops) and K % groups == 0:
        # The transpose of a convolution, which multiplies none of the zeros.
        swapped = permute(
            reshape(w, (groups, K // groups, C, *taps)), (0, 2, 1, *range(3, rank + 3))
        )
        weight = reshape(swapped, (groups * C, K // groups, *taps))
        weight = flipped(weight, tuple(range(2, rank + 2)))
        return cropped_transpose(
            x, weight, None, spread, crops, dilations, groups, out_dtype=out_dtype
        )
    N, channels, *size = x.shape
    columns = reshape(x, (N, channels, *(extent for n in size for extent in (n, 1))))
    filled = F.pad(columns, [width for step in reversed(spread) for width in (0, step - 1, 0, 0)])
    x = reshape(filled, (N, channels, *(n * s for n, s in zip(size, spread, strict=True))))
    # Nothing stands behind the last element.
    ends = [(low, high - (s - 1)) for (low, high), s in zip(pads, spread, strict=True)]
    x, rest = cropped(x, ends)
    return convolution.conv(rank, x, w, None, strides, rest, dilations, groups, out_dtype=out_dtype)


def cropped(x: Any, pads: Sequence[Pair]) -> tuple[Any, list[Pair]]:
    """The image without what negative padding takes away, and the padding that is left."""
    if all(min(pair) >= 0 for pair in pads):
        return x, list(pads)
    x = F.pad(x, [min(width, 0) for pair in reversed(pads) for width in pair])
    return x, [(max(low, 0), max(high, 0)) for low, high in pads]


def flipped(array: Any, axes: tuple[int, ...]) -> Any:
    """The array with axes in the opposite direction, with gradients."""
    return _Flip(axes)(array)


class _Flip(Function):
    """Axes in the opposite direction."""

    reads_operands = False

    def __init__(self, axes: tuple[int, ...]) -> None:
        self.axes = axes

    def forward(self, array: Array) -> Array:
        return np.flip(array, self.axes)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (np.flip(grad, self.axes),)
