"""Memory of results: on a line, reused when the last view dies, and not kept beyond the limit."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from convforge.runtime import memory, results
from convforge.runtime.memory import array_address
from convforge.runtime.results import aligned_array

F32 = np.dtype(np.float32)
MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """A store of 8 MiB that this test has for itself."""
    kept = results._Kept(8 * MIB)
    monkeypatch.setattr(results, "_kept", kept)
    monkeypatch.setattr(results._Lease.__del__, "__defaults__", (kept.give,))
    return kept


def test_what_a_dead_array_leaves_serves_the_next():
    first = aligned_array((1024, 512), F32)
    address = array_address(first)
    assert address % 64 == 0
    second = aligned_array((1024, 512), F32)
    assert array_address(second) != address
    del first
    third = aligned_array((1000, 512), F32)
    assert array_address(third) == address
    assert third.shape == (1000, 512) and third.flags.c_contiguous and third.flags.writeable


@pytest.mark.parametrize(
    "view",
    [
        lambda y: y[10:20, ::2],
        lambda y: y.reshape(-1)[5:].view(np.int32),
        lambda y: memoryview(y),
        lambda y: np.from_dlpack(y),
    ],
)
def test_views_keep_it(view):
    array = aligned_array((1024, 512), F32)
    array[:] = 1
    address, part = array_address(array), view(array)
    kept = np.asarray(part).copy()
    del array
    gc.collect()
    other = aligned_array((1024, 512), F32)
    assert array_address(other) != address
    other[:] = 2
    assert np.array_equal(part, kept)


def test_no_more_is_kept_than_the_limit_and_the_oldest_goes_first(nothing_kept):
    arrays = [aligned_array((MIB // 2,), F32) for _ in range(6)]
    addresses = [array_address(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert [array_address(block) for block in nothing_kept.blocks] == addresses[2:]


@pytest.mark.parametrize("shape", [(MIB, 2), (MIB // 4, 1)])
def test_blocks_that_do_not_fit_are_left(shape):
    first = aligned_array((MIB // 2,), F32)
    address = array_address(first)
    del first
    assert array_address(aligned_array(shape, F32)) != address


def test_garbage_collected_while_the_store_is_used_is_dropped(nothing_kept):
    array = aligned_array((MIB,), F32)
    with nothing_kept.lock:
        del array
    assert nothing_kept.blocks == []


def test_poisoned_results_are_nan():
    aligned_array((MIB,), F32)[:] = 1
    with memory.poison():
        assert np.isnan(aligned_array((MIB,), F32)).all()
