"""Adjacent elements moved and cleared, a vector at a time."""

from __future__ import annotations

from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    store,
    store_first,
    zeros,
)
from convforge.runtime.jit import device


@device
def copy_elements(kind, source, target, count):
    """Copy adjacent elements."""
    whole = count - count % lanes(kind)
    for i in range(0, whole, lanes(kind)):
        at = i * itemsize(kind)
        store(target + at, load(kind, source + at))
    if whole < count:
        at = whole * itemsize(kind)
        value = load_first(kind, source + at, count - whole)
        store_first(target + at, value, count - whole)


@device
def clear_elements(kind, target, count):
    """Set adjacent elements to zero."""
    for i in range(0, count, lanes(kind)):
        store_first(target + i * itemsize(kind), zeros(kind), count - i)
