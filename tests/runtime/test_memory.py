"""Workspace: aligned, reused by its thread, checked when poisoned."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from convforge.runtime import memory


def test_borrowed_memory_is_aligned_and_reused():
    first, _ = memory.borrow(1000)
    again, _ = memory.borrow(500)
    assert first % 64 == 0 and again == first


def test_threads_do_not_share_it():
    found = []
    thread = threading.Thread(target=lambda: found.append(memory.borrow(1000)[0]))
    thread.start()
    thread.join()
    assert found != [memory.borrow(1000)[0]]


def test_large_memory_is_not_kept():
    _, buffer = memory.borrow(memory.KEPT_BYTES + 1)
    assert buffer is not None and buffer.nbytes > memory.KEPT_BYTES
    assert memory.borrow(64)[1] is not buffer


def test_poisoned_memory_is_nan_and_guarded():
    with memory.poison():
        with memory.guarded(64) as address:
            words = (ctypes.c_float * 16).from_address(address)
            assert np.isnan(words).all()
        with (
            pytest.raises(AssertionError, match="outside its workspace of 64 bytes"),
            memory.guarded(64) as address,
        ):
            ctypes.c_float.from_address(address + 64).value = 1.0
    assert not memory.is_poisoned()


def test_array_address_agrees_with_numpy():
    for array in (np.zeros(3), np.zeros((4, 4))[1:, ::2], np.frombuffer(b"12345678")):
        assert memory.array_address(array) == array.ctypes.data
