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
    assign,
    dense,
    dtype_of,
    is_writeable,
    may_share_memory,
    order_of,
    overlaps_itself,
    same_memory,
    strides_in,
)
from convforge.runtime.cuda.device import Device, device_of

__all__ = [
    "Array",
    "Device",
    "View",
    "as_array",
    "as_numpy",
    "assign",
    "common_device",
    "dense",
    "device_of",
    "dtype_of",
    "home_of",
    "is_writeable",
    "may_share_memory",
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


def as_array(value: Any, name: str) -> Array:
    """See an array as a NumPy array if it is in host memory, and as it is on a device.

    Args:
        value: What :func:`as_numpy` takes, or an array of CuPy.
        name: What the caller calls this argument, for the error.

    Raises:
        TypeError: Not an array, or one of a device that cannot be read.
    """
    if value.__class__ is np.ndarray or device_of(value) is not None:
        return value  # type: ignore[no-any-return]
    return protocols.as_array(value, name)


def common_device(**arrays: Array | None) -> Device | None:
    """The one device that arrays lie on; None if all are in host memory.

    Raises:
        TypeError: They lie in different places. Nothing is moved between them.
    """
    for array in arrays.values():
        if array is not None and array.__class__ is not np.ndarray:
            break
    else:
        return None
    (first, array), *others = [(n, a) for n, a in arrays.items() if a is not None]
    place = device_of(array)
    for name, other in others:
        if device_of(other) is not place:
            here, there = (protocols.where(device_of(a)) for a in (array, other))
            raise TypeError(
                f"{first} is {here} and {name} is {there}; arrays are never moved silently: bring "
                "both to one place first, with cupy.asarray(array) or array.get()"
            )
    return place


def home_of(value: Any) -> Callable[[Array], Any]:
    """The way back: a function from a NumPy result to an array of ``value``'s framework."""
    return protocols.home_of(value)
