"""Fractional max pooling: windows of one extent, at distances that vary at random.

Graham 2014, arXiv:1412.6071. With ``a = (size - window) / (n - 1)`` and a sample ``0 <= u < 1``,
the ``n`` windows of an axis start at ``floor((i + u) a) - floor(u a)``; the last one ends where
the axis does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge import moves
from convforge.arrays import Array
from convforge.ops.arguments import ints as integers
from convforge.ops.arguments import output_sizes, spread
from convforge.ops.common import Shape
from convforge.ops.planes import Images, movable
from convforge.problem import Order


def fractional_size(size: Shape, kernel_size: Any, output_size: Any, output_ratio: Any) -> Shape:
    """Spatial extents of the result.

    Raises:
        TypeError, ValueError: Neither extents nor ratios, or more windows than fit.
    """
    rank = len(size)
    if output_size is None and output_ratio is None:
        raise ValueError("output_size and output_ratio are None; wanted one of them")
    if output_size is not None:
        wanted = [
            n if o is None else o
            for n, o in zip(size, output_sizes(output_size, rank), strict=True)
        ]
    else:
        ratios = require_ratios(output_ratio, rank)
        wanted = [int(n * ratio) for n, ratio in zip(size, ratios, strict=True)]
    window = windows(kernel_size, rank)
    for n, k, out in zip(size, window, wanted, strict=True):
        if out < 1 or out + k - 1 > n:
            raise ValueError(
                f"output_size is {tuple(wanted)}; wanted extents from 1 to "
                f"{tuple(n - k + 1 for n, k in zip(size, window, strict=True))}, as many windows "
                f"of {window} as start in an input of {size}"
            )
    return tuple(wanted)


def require_ratios(output_ratio: Any, rank: int) -> tuple[float, ...]:
    """One share of the input's extent for each axis.

    Raises:
        ValueError: Not between 0 and 1, or another number of them.
    """
    given = output_ratio if isinstance(output_ratio, list | tuple) else [output_ratio] * rank
    ratios = tuple(given)
    if len(ratios) != rank or not all(
        isinstance(ratio, float) and 0 < ratio < 1 for ratio in ratios
    ):
        raise ValueError(
            f"output_ratio is {output_ratio!r}; wanted a number between 0 and 1, or {rank}"
        )
    return ratios


def windows(kernel_size: Any, rank: int) -> Shape:
    """The extents of a window.

    Raises:
        TypeError, ValueError: Not integers, or below 1.
    """
    extents = spread(integers("kernel_size", kernel_size, rank), rank)
    if min(extents) < 1:
        raise ValueError(f"kernel_size is {kernel_size!r}; wanted at least 1")
    return extents


def fractional_max(
    images: Images, input: Array, window: Shape, size: Shape, samples: Array
) -> tuple[Array, Array]:
    """Largest elements and their positions in the plane, as arrays of the images' form.

    Args:
        images: The form of the input. window, size: Extents of a window, and of the result.
        samples: Shape ``(N, C, axes)``, from the last axis to the first where there are two, as
            PyTorch reads them.

    Raises:
        ValueError: Samples of another shape, or outside 0 to 1.
    """
    rank = len(size)
    if samples.shape != (images.N, images.C, rank):
        raise ValueError(
            f"_random_samples has shape {samples.shape}; wanted {(images.N, images.C, rank)}"
        )
    if samples.size and not (samples.min() >= 0 and samples.max() < 1):
        raise ValueError("_random_samples go beyond 0 to 1")
    x = movable(images.view.memory(input))
    order = reversed(range(rank)) if rank == 2 else range(rank)
    starts = [
        _starts(
            samples[..., sample].astype(input.dtype), images.size[axis], size[axis], window[axis]
        )
        for axis, sample in enumerate(order)
    ]
    shape = images.view.order.arrange(images.N, images.C, size)
    y, places = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    absent = 3 - rank
    fields = {
        "planes": images.N * images.C,
        "channels": images.C,
        "last": images.view.order is Order.CHANNELS_LAST,
    }
    for prefix, extents in (("from_", images.size), ("to_", size), ("", window)):
        fields |= {prefix + axis: n for axis, n in zip("dhw", (1,) * absent + extents, strict=True)}
    if y.size:
        none = np.zeros((images.N, images.C, 1), np.int64)
        moves.largest_of_windows(x, y, places, (*(none,) * absent, *starts), **fields)
    view = images.view
    return view.caller(y.astype(input.dtype, copy=False)), view.caller(places)


def _starts(samples: Array, size: int, out: int, window: int) -> Array:
    """First positions of the windows of one axis, shape ``(N, C, out)``."""
    last = np.full((*samples.shape, 1), size - window, np.int64)
    if out == 1:
        return last
    step = samples.dtype.type((size - window) / (out - 1))
    moved = (np.arange(out - 1, dtype=samples.dtype) + samples[..., None]) * step
    before = (samples * step).astype(np.int64)[..., None]
    return np.concatenate([moved.astype(np.int64) - before, last], axis=-1)
