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
PAGE = 4096


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """A store that this test has for itself: of four arrays of 2 MiB and their room to move."""
    kept = results._Kept(4 * (2 * MIB + PAGE))
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


@pytest.mark.parametrize("shape", ((100, 64), (1024, 512)), ids=("small", "large"))
def test_an_array_lies_behind_the_one_beside(shape):
    for place in range(0, 2 * PAGE, 16):
        array = aligned_array(shape, F32, 123 * PAGE + place)
        assert array_address(array) % 64 == 0
        assert 320 <= (place - array_address(array)) % PAGE < 384
        array[:] = 1


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
    assert len(nothing_kept.blocks) == 4
    for block, address in zip(nothing_kept.blocks, addresses[2:], strict=True):
        assert 0 <= address - array_address(block) < PAGE


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


@pytest.mark.parametrize("given", ["many", "-1", "1.5"])
def test_the_limit_must_be_a_number(given, monkeypatch):
    monkeypatch.setenv("CONVFORGE_KEEP_MIB", given)
    with pytest.raises(ValueError, match=f"CONVFORGE_KEEP_MIB is '{given}'; wanted a number"):
        results._most_kept()


def test_poisoned_results_are_nan():
    aligned_array((MIB,), F32)[:] = 1
    with memory.poison():
        assert np.isnan(aligned_array((MIB,), F32)).all()
