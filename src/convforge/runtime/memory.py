"""Workspace: one growing buffer per thread, so that a launch allocates nothing.

A call asks for its exact bytes and gives them back before it returns. Buffers up to
``KEPT_BYTES`` stay with their thread; larger ones are freed at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

import numpy as np

KEPT_BYTES = 64 << 20
LINE_BYTES = 64
"""A cache line: vectors that begin on one do not lie across two."""
_CANARY = 0xA5
_poisoned = False


class _Local(threading.local):
    buffer: np.ndarray | None = None
    address: int = 0
    nbytes: int = 0


_local = _Local()


def aligned_empty(nbytes: int, align: int = LINE_BYTES) -> np.ndarray:
    """Uninitialised bytes whose first one lies on a multiple of ``align``."""
    raw = np.empty(nbytes + align, np.uint8)
    start = -raw.ctypes.data % align
    return raw[start : start + nbytes]


def borrow(nbytes: int) -> tuple[int, np.ndarray | None]:
    """Address of ``nbytes`` of this thread's scratch memory, on a cache line.

    It is the caller's until it borrows again; what comes with the address must be kept until
    then.
    """
    if nbytes <= _local.nbytes:
        return _local.address, _local.buffer
    buffer = aligned_empty(nbytes)
    address = buffer.ctypes.data
    if nbytes <= KEPT_BYTES:
        _local.buffer, _local.address, _local.nbytes = buffer, address, nbytes
    return address, buffer


def is_poisoned() -> bool:
    """Whether :func:`poison` is in force."""
    return _poisoned


@contextlib.contextmanager
def guarded(nbytes: int) -> Iterator[int]:
    """Address of ``nbytes`` of NaN between canaries, which are checked at the end."""
    margin = 4 * LINE_BYTES
    buffer = aligned_empty(nbytes + 2 * margin)
    buffer[:] = 0xFF  # a NaN in every floating-point type
    buffer[:margin] = buffer[margin + nbytes :] = _CANARY
    yield buffer.ctypes.data + margin
    if (buffer[:margin] != _CANARY).any() or (buffer[margin + nbytes :] != _CANARY).any():
        raise AssertionError(f"a kernel wrote outside its workspace of {nbytes} bytes")


@contextlib.contextmanager
def poison() -> Iterator[None]:
    """Fill new workspace with NaN and check the bytes around it; for tests."""
    global _poisoned
    before, _poisoned = _poisoned, True
    try:
        yield
    finally:
        _poisoned = before


_DATA_OFFSET = object.__basicsize__
_read_word = ctypes.c_size_t.from_address


def _peek_address(array: np.ndarray) -> int:
    """Read the data pointer where NumPy's C ABI keeps it, right behind the object's head."""
    return _read_word(id(array) + _DATA_OFFSET).value


def _ask_address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


_probe = np.zeros(3)
# Ten times quicker than asking; asked where the interpreter lays objects out differently.
array_address = _peek_address if _peek_address(_probe) == _ask_address(_probe) else _ask_address
