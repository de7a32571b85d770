"""Memory of results: what large arrays leave when they die is given to new ones.

The system clears every page that it hands out and maps it at its first use. For a result of tens
of megabytes this takes as long as the convolution does, and NumPy gives such memory back at once.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np

from convforge.runtime.memory import LINE_BYTES, aligned_empty, array_address, is_poisoned

_WORTH_ALIGNING = 16 << 10
_WORTH_KEEPING = 1 << 20
_PAGE_BYTES = 4096
_BEHIND_BYTES = 5 * LINE_BYTES
"""Processors first compare places within a page to find the stores that a load must wait for, and
memory fresh from the system begins at one place in its page. So an output begins elsewhere than its
input, a little before it. Few pixels have a multiple of five lines.
"""
_FITS = 1.25
"""A block serves arrays that leave at most a fifth of it unused."""


class _Kept:
    """Blocks that no array uses, the oldest first.

    Blocks come back whenever Python collects garbage, even within a method of this class: whoever
    finds the lock held does without.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.blocks: list[np.ndarray] = []
        self.lock = threading.Lock()

    def take(self, nbytes: int) -> np.ndarray | None:
        """The block last given that fits."""
        if not self.blocks or not self.lock.acquire(blocking=False):
            return None
        try:
            for i in reversed(range(len(self.blocks))):
                if nbytes <= self.blocks[i].nbytes <= _FITS * nbytes:
                    return self.blocks.pop(i)
        finally:
            self.lock.release()
        return None

    def give(self, block: np.ndarray) -> None:
        """Keep a block, and let the oldest go that are too much with it."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            self.blocks.append(block)
            total = sum(block.nbytes for block in self.blocks)
            while total > self.most:
                total -= self.blocks.pop(0).nbytes
        finally:
            self.lock.release()


def _most_kept() -> int:
    """Bytes, from the environment."""
    given = os.environ.get("CONVFORGE_KEEP_MIB", "256")
    if not given.isdecimal():
        raise ValueError(f"CONVFORGE_KEEP_MIB is {given!r}; wanted a number of MiB, such as 256")
    return int(given) << 20


_kept = _Kept(_most_kept())


class _Lease:
    """Owns the memory of an array and of its views; gives it back when the last of them dies."""

    def __init__(self, block: np.ndarray) -> None:
        self._block = block

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._block.__array_interface__

    def __del__(self, give: Any = _kept.give) -> None:
        give(self._block)


def _lease(nbytes: int) -> np.ndarray:
    """Bytes that a dead array left, or new ones."""
    block = _kept.take(nbytes)
    if block is None:
        block = aligned_empty(nbytes)
    if is_poisoned():
        block[:] = 0xFF  # what a kernel leaves out must not show the last result
    return np.asarray(_Lease(block))


def is_small(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether :func:`aligned_array` leaves it to NumPy where an array lies."""
    return math.prod(shape) * dtype.itemsize < _WORTH_ALIGNING


def aligned_array(shape: tuple[int, ...], dtype: np.dtype, beside: int = 0) -> np.ndarray:
    """An uninitialised array on a cache line, so that no vector of it lies across two.

    Small ones lie where NumPy puts them: there, asking costs more than it saves. Large ones lie
    where others have been, and none where stores to it would seem to meet loads of what it is
    made from.

    Args:
        beside: Address of an array that is read while this one is written.
    """
    if is_small(shape, dtype):
        return np.empty(shape, dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    room = nbytes + _PAGE_BYTES
    large = nbytes >= _WORTH_KEEPING
    raw = _lease(room) if large else np.empty(room, np.uint8)
    place = (beside & -LINE_BYTES) - _BEHIND_BYTES
    return np.ndarray(shape, dtype, raw, (place - array_address(raw)) % _PAGE_BYTES)
