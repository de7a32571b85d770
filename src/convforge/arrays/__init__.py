"""Arrays of other frameworks in and out, and how arrays lie in memory.

The only room that knows a framework's arrays: everything above works on NumPy arrays that it
gets from :func:`as_numpy`, and hands results back through :func:`home_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convforge.arrays import protocols
from convforge.arrays.numpy_ import (
    Array,
    View,
    dense,
    dtype_of,
    order_of,
    overlaps_itself,
    same_memory,
    strides_in,
)

__all__ = [
    "Array",
    "View",
    "as_numpy",
    "dense",
    "dtype_of",
    "home_of",
    "order_of",
    "overlaps_itself",
    "same_memory",
    "strides_in",
]


def as_numpy(value: Any, name: str) -> Array:
    """See an array as a NumPy array, without a copy where its memory allows.

    Args:
        value: A NumPy array, a CPU tensor of PyTorch, or anything with ``__dlpack__``,
            ``__array_interface__`` or ``__array__``.
        name: What the caller calls this argument, for the error.

    Raises:
        TypeError: Not an array, or one that lives on another device or in a gradient graph of
            another framework.
    """
    if value.__class__ is np.ndarray:
        return value
    return protocols.as_numpy(value, name)


def home_of(value: Any) -> Callable[[Array], Any]:
    """The way back: a function from a NumPy result to an array of ``value``'s framework."""
    return protocols.home_of(value)
