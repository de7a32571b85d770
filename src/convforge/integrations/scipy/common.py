"""One array correlated with another: what both modules come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.functional import convolution

Pair = tuple[int, int]


def correlate(x: Array, w: Array, pads: Sequence[Pair], **keywords: Any) -> Array:
    """``y[i] = sum(x[i + j - low] * w[j])``, nothing conjugated, for each array of a batch.

    Args:
        x: Shape ``(B, *size)``, or ``(1, *size)``, of one to three axes besides the batch.
        w: Shape ``(B, *taps)`` or ``(1, *taps)``, of the same type.
        pads: Elements around the image, for each axis.
        keywords: ``padding_mode`` and whatever else convolutions take.

    Raises:
        TypeError: A type that nothing can be computed in.
        ValueError: More axes than there are kernels for.
    """
    rank = x.ndim - 1
    if not 1 <= rank <= 3:
        raise ValueError(f"the arrays have {rank} axes to go along; wanted 1, 2 or 3")
    batch = max(x.shape[0], w.shape[0])
    if x.shape[0] < batch:
        x = np.broadcast_to(x, (batch, *x.shape[1:]))
    # One filter for a batch of images, or an image for each of as many channels.
    one = w.shape[0] == 1
    y: Array = convolution.conv(
        rank, x[:, None] if one else x[None], w[:, None], None, 1, tuple(pads), 1,
        1 if one else batch, **keywords,
    )  # fmt: skip
    return y[:, 0] if one else y[0]


def flip(w: Array) -> Array:
    """The array backwards along every axis but the first."""
    return w[(slice(None), *(slice(None, None, -1),) * (w.ndim - 1))]
