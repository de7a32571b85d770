"""Tensor maps of the emulator: 128 bytes in the place of those that the driver encodes.

The arguments are those of ``cuTensorMapEncodeTiled`` and ``cuTensorMapEncodeIm2col``, with an array
in the place of an address, extents and strides. Pass the result as the kernel's argument.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Swizzle = Literal[0, 32, 64, 128]
# In step with TensorMap of cpp/async.cpp.
_LAYOUT = struct.Struct("<QQ4q5I5H3h3h4B5B29x")
_MAGIC = int.from_bytes(b"TnsorMap", "little")


def tiled(
    array: NDArray[Any],
    box: Sequence[int],
    *,
    swizzle: Swizzle = 0,
    element_strides: Sequence[int] | None = None,
) -> bytes:
    """A map that copies boxes of an array.

    Args:
        array: One to five dimensions, the last one contiguous.
        box: Elements of a copy along each dimension, in the array's order.
        swizzle: Bytes of a row within which 16-byte chunks change places; 0 for none.
        element_strides: Steps within the array from one element of the box to the next.
    """
    steps = [1] * array.ndim if element_strides is None else list(element_strides)
    extents = [*box[::-1]]
    if any(not 1 <= extent <= 256 for extent in extents):
        raise ValueError(f"a box of {tuple(box)}; each extent is 1 to 256")
    _check_row(extents[0] * array.itemsize, swizzle)
    return _pack(array, extents, [], [], swizzle, steps[::-1], im2col=False)


def im2col(
    array: NDArray[Any],
    lower: Sequence[int],
    upper: Sequence[int],
    channels: int,
    pixels: int,
    *,
    swizzle: Swizzle = 0,
    strides: Sequence[int] | None = None,
) -> bytes:
    """A map that copies rows of an implicit GEMM.

    Args:
        array: ``(N, H, W, C)``, or with D or without H; channels contiguous.
        lower: Where the box of first taps begins, relative to the image: minus the padding; (H, W).
        upper: Where it ends, relative to the image's last pixel: padding - (filter - 1) * dilation.
        channels: Of one copy.
        pixels: Of one copy.
        swizzle: Bytes of a row within which 16-byte chunks change places; 0 for none.
        strides: Of the convolution, (H, W).
    """
    spatial = array.ndim - 2
    if len(lower) != spatial or len(upper) != spatial:
        raise ValueError(
            f"corners of {len(lower)} and {len(upper)} for {spatial} spatial dimensions"
        )
    if not 1 <= channels <= 256 or not 1 <= pixels <= 1024:
        raise ValueError(f"{channels} channels and {pixels} pixels; at most 256 and 1024")
    _check_row(channels * array.itemsize, swizzle)
    steps = [1, *(strides or [1] * spatial)[::-1], 1]
    return _pack(
        array, [channels, pixels], [*lower][::-1], [*upper][::-1], swizzle, steps, im2col=True
    )


def _check_row(nbytes: int, swizzle: int) -> None:
    if nbytes % 16:
        raise ValueError(f"rows of {nbytes} bytes; a multiple of 16 is needed")
    if swizzle and nbytes > swizzle:
        raise ValueError(f"rows of {nbytes} bytes are longer than the swizzle's {swizzle}")


def _pack(
    array: NDArray[Any],
    box: Sequence[int],
    lower: Sequence[int],
    upper: Sequence[int],
    swizzle: int,
    steps: Sequence[int],
    *,
    im2col: bool,
) -> bytes:
    """Innermost dimension first, as the driver wants it."""
    if not 1 <= array.ndim <= 5 or array.strides[-1] != array.itemsize:
        raise ValueError(
            f"shape {array.shape}, strides {array.strides}: 1 to 5 dimensions, the last dense"
        )
    if array.ctypes.data % 16 or any(stride % 16 for stride in array.strides[:-1]):
        raise ValueError("the address and all strides but the last must be multiples of 16 bytes")

    def padded(values: Sequence[int], count: int) -> list[int]:
        return [*values, *[0] * (count - len(values))]

    return _LAYOUT.pack(
        _MAGIC,
        array.ctypes.data,
        *padded(array.strides[-2::-1] if array.ndim > 1 else [], 4),
        *padded(array.shape[::-1], 5),
        *padded(box, 5),
        *padded(lower, 3),
        *padded(upper, 3),
        array.ndim,
        array.itemsize,
        {0: 0, 32: 1, 64: 2, 128: 3}[swizzle],
        int(im2col),
        *padded(np.asarray(steps).tolist(), 5),
    )
