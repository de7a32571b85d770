"""Memory that tells: NaN where nothing was written, and NaN all around.

Poison around an output shows what was written beside it; around an input it turns what was read
beside it into a NaN in the result. And the awkward views of an array that users pass: strided,
reversed, Fortran, read-only, misaligned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

_MARGIN = 512
_POISON = 0xFF
"""NaN in every floating-point type when all bytes hold it; -1 or the largest in integer ones."""


class Guarded:
    """A poisoned array in the middle of poisoned memory.

    Attributes:
        array: The array, C-contiguous.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, *, offset: int = 0) -> None:
        """Allocate; the array starts ``offset`` bytes behind a multiple of 64."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = np.full(nbytes + 2 * _MARGIN + 64 + offset, _POISON, np.uint8)
        start = _MARGIN + (-(raw.ctypes.data + _MARGIN) % 64) + offset
        self._margins = {"before": raw[:start], "after": raw[start + nbytes :]}
        self.array: Array = raw[start : start + nbytes].view(dtype).reshape(shape)

    def check(self) -> None:
        """Raise ``AssertionError`` if a byte around the array has changed."""
        for where, margin in self._margins.items():
            hit = int((margin != _POISON).sum())
            if hit:
                raise AssertionError(
                    f"{hit} bytes were written {where} an array of shape {self.array.shape}"
                )


@contextmanager
def guarded(shape: tuple[int, ...], dtype: DTypeLike, *, offset: int = 0) -> Iterator[Array]:
    """Lend an output: the array of a :class:`Guarded`, whose margins are checked afterwards."""
    guard = Guarded(shape, dtype, offset=offset)
    yield guard.array
    guard.check()


@contextmanager
def lent(array: Array, *, offset: int = 0) -> Iterator[Array]:
    """Lend an input: a copy in poisoned memory, which must be the same afterwards."""
    guard = Guarded(array.shape, array.dtype, offset=offset)
    guard.array[...] = array
    yield guard.array
    guard.check()
    if guard.array.tobytes() != array.tobytes():
        raise AssertionError(f"an input of shape {array.shape} was written to")


def poisoned(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """An array of NaN (of -1 or the largest number in integer types)."""
    return Guarded(shape, dtype).array


def awkward_views(array: Array) -> dict[str, Array]:
    """Arrays equal to ``array`` in every awkward memory that NumPy can describe."""
    read_only = array.copy()
    read_only.flags.writeable = False
    return {
        "strided": _inside(array, lambda shape: tuple(2 * n + 1 for n in shape), slice(1, None, 2)),
        "negative strides": _inside(array, lambda shape: shape, slice(None, None, -1)),
        "fortran": np.asfortranarray(array),
        "transposed": np.ascontiguousarray(array.T).T,
        "read-only": read_only,
        "misaligned": misaligned(array),
    }


def misaligned(array: Array) -> Array:
    """A copy whose elements do not lie on multiples of their size."""
    raw = np.zeros(array.nbytes + 65, np.uint8)
    start = -raw.ctypes.data % 64 + 1
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _inside(array: Array, grow: Callable[[tuple[int, ...]], tuple[int, ...]], step: slice) -> Array:
    """A copy of ``array`` that is every ``step``-th element of a larger, poisoned one."""
    view = poisoned(grow(array.shape), array.dtype)[(step,) * array.ndim]
    view[...] = array
    return view
