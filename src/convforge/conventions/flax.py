"""Poolings of ``flax.linen``: channels last, strides of 1 by default.

Source: https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#pooling ;
their padding is that of :mod:`convforge.conventions.jax`. Padding is at most half of the window, so
that none is nothing but padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convforge.conventions.common import each
from convforge.conventions.jax import padding_of
from convforge.functional.pooling import pool
from convforge.ops import pool_arguments
from convforge.problem import Order, PoolKind


def max_pool(
    inputs: Any, window_shape: Sequence[int], strides: Any = None, padding: Any = "VALID"
) -> Any:
    """The largest element of each window, channels last."""
    return _pool(PoolKind.MAX, inputs, window_shape, strides, padding)


def avg_pool(
    inputs: Any,
    window_shape: Sequence[int],
    strides: Any = None,
    padding: Any = "VALID",
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window, channels last."""
    return _pool(PoolKind.AVG, inputs, window_shape, strides, padding, count_include_pad)


def _pool(
    kind: PoolKind,
    inputs: Any,
    window_shape: Sequence[int],
    strides: Any,
    padding: Any,
    count_include_pad: bool = True,
) -> Any:
    rank = len(window_shape)
    args = pool_arguments(
        kind, rank, window_shape, each("strides", strides, rank), padding_of(padding, rank),
        count_include_pad=count_include_pad, layout=Order.CHANNELS_LAST.image(rank),
    )  # fmt: skip
    return pool(args, inputs)
