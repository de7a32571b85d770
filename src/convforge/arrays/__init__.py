"""Arrays of other frameworks in and out, and how arrays lie in memory.

The only room that knows a framework's arrays: everything above works on arrays that it gets from
:func:`as_array`, NumPy's or a device's, computes with the functions of their :func:`namespace`, and
hands results back through :func:`home_of`.
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
from convforge.arrays.places import (
    HOST,
    common_device,
    copied,
    current,
    device_named,
    is_place,
    move,
    namespace,
    to_host,
    where,
)
from convforge.runtime.cuda.device import Device, device_of

__all__ = [
    "HOST",
    "Array",
    "Device",
    "View",
    "as_array",
    "as_numpy",
    "assign",
    "common_device",
    "copied",
    "current",
    "dense",
    "device_named",
    "device_of",
    "dtype_of",
    "home_of",
    "is_place",
    "is_writeable",
    "may_share_memory",
    "move",
    "namespace",
    "order_of",
    "overlaps_itself",
    "same_memory",
    "strides_in",
    "to_host",
    "where",
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
        value: What :func:`as_numpy` takes, an array of CuPy, a CUDA tensor of PyTorch, or
            anything else with ``__cuda_array_interface__`` or CUDA's ``__dlpack__``: those are
            seen as arrays of CuPy over the same memory.
        name: What the caller calls this argument, for the error.

    Raises:
        TypeError: Not an array, or one that cannot be read.
        CudaUnavailableError: It lies on a device, and CuPy or a driver is missing.
    """
    if value.__class__ is np.ndarray or device_of(value) is not None:
        return value  # type: ignore[no-any-return]
    return protocols.as_array(value, name)


def home_of(value: Any) -> Callable[[Array], Any]:
    """The way back: a function from a result to an array of ``value``'s framework."""
    return protocols.home_of(value)
