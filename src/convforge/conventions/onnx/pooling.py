"""Maxima, means and norms of windows, and the way back from maxima."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from convforge import functional as F
from convforge.arrays import Array
from convforge.autograd import Tensor
from convforge.conventions.common import array_of, each, rank_of
from convforge.conventions.onnx.attributes import Ints, padding_of, pairs_of
from convforge.functional.lp_pooling import lp_pool
from convforge.functional.pooling import pool
from convforge.ops import PoolArguments, adaptive_arguments, pool_arguments
from convforge.problem import PoolKind


def MaxPool(
    X: Any,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    storage_order: int = 0,
    strides: Ints = None,
    return_indices: bool = False,
) -> Any:
    """Maxima; with ``return_indices`` a pair of them and ONNX's second output.

    That counts along the whole of ``X``, in a plane row by row or, with ``storage_order=1``, column
    by column.
    """
    rank = rank_of("X", X)
    args = _pooling(PoolKind.MAX, rank, kernel_shape, strides, auto_pad, pads, dilations, ceil_mode)
    if not return_indices:
        return pool(args, X)
    Y, places = pool(args, X, return_indices=True)
    found = array_of("Indices", places)
    size = tuple(X.shape)[2:]
    if storage_order:
        found = np.ravel_multi_index(np.unravel_index(found, size), size, order="F")
    whole = found + _planes(found.shape, prod(size))
    return Y, Tensor(whole) if isinstance(places, Tensor) else whole


def AveragePool(
    X: Any,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Any:
    """Means, by default of what lies inside ``X``."""
    rank = rank_of("X", X)
    args = _pooling(PoolKind.AVG, rank, kernel_shape, strides, auto_pad, pads, dilations, ceil_mode)
    return pool(args._replace(count_include_pad=bool(count_include_pad)), X)


def LpPool(
    X: Any,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Ints = None,
    strides: Ints = None,
) -> Any:
    """Norms, ``(sum of |x| ** p) ** (1 / p)``, of whole windows and of cut-off ones alike."""
    rank = rank_of("X", X)
    args = _pooling(PoolKind.AVG, rank, kernel_shape, strides, auto_pad, pads, dilations, ceil_mode)
    return lp_pool(args, X, p, magnitudes=True)


def GlobalMaxPool(X: Any) -> Any:
    """The maximum of each plane, shape ``(N, C, 1, ...)``."""
    return pool(adaptive_arguments(PoolKind.MAX, rank_of("X", X), 1), X)


def GlobalAveragePool(X: Any) -> Any:
    """The mean of each plane, shape ``(N, C, 1, ...)``."""
    return pool(adaptive_arguments(PoolKind.AVG, rank_of("X", X), 1), X)


def GlobalLpPool(X: Any, *, p: int = 2) -> Any:
    """The norm of each plane, shape ``(N, C, 1, ...)``."""
    return LpPool(X, kernel_shape=tuple(X.shape)[2:], p=p)


def MaxUnpool(
    X: Any,
    I: Any,  # noqa: E741
    output_shape: Ints = None,
    *,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Any:
    """Zeros with each element of ``X`` at its place in ``I``, which counts along the whole result.

    ``output_shape`` is the shape that was pooled, where several are pooled to the same; places
    count along it, as in onnxruntime.
    """
    rank = rank_of("X", X)
    pairs = pairs_of(pads, rank)
    window, steps = each("kernel_shape", kernel_shape, rank), each("strides", strides, rank)
    size = tuple(
        (n - 1) * s + k - low - high
        for n, s, k, (low, high) in zip(X.shape[2:], steps, window, pairs, strict=True)
    )
    if output_shape is not None:
        wanted = each("output_shape", tuple(output_shape)[-rank:], rank)
        if any(n < least for n, least in zip(wanted, size, strict=True)):
            raise ValueError(f"output_shape is {tuple(output_shape)}; wanted at least {size}")
        size = wanted
    places = array_of("I", I)
    inside = places - _planes(places.shape, prod(size))
    # Places alone say what goes where: any windows that leave this size will do.
    windows = [n - count + 3 for n, count in zip(size, X.shape[2:], strict=True)]
    return getattr(F, f"max_unpool{rank}d")(X, inside, windows, stride=1, padding=1)


def _pooling(
    kind: PoolKind,
    rank: int,
    kernel_shape: Sequence[int],
    strides: Ints,
    auto_pad: str,
    pads: Ints,
    dilations: Ints,
    ceil_mode: int,
) -> PoolArguments:
    return pool_arguments(
        kind, rank, kernel_shape, each("strides", strides, rank), padding_of(auto_pad, pads, rank),
        each("dilations", dilations, rank), bool(ceil_mode),
    )  # fmt: skip


def _planes(shape: tuple[int, ...], plane: int) -> Array:
    """Where each plane of ``(N, C, ...)`` begins in the whole array."""
    starts = np.arange(prod(shape[:2]), dtype=np.int64) * plane
    return starts.reshape(*shape[:2], *(1,) * (len(shape) - 2))
