"""Poisoned memory notices what was not written, canaries what was written beside it."""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convforge.testing import poison

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64]


def neighbour(array, step):
    """The element ``step`` places behind the first one, inside the array or not."""
    address = array.ctypes.data + step * array.itemsize
    return np.ctypeslib.as_array((ctypes.c_float * 1).from_address(address))


@pytest.mark.parametrize("dtype", FLOATS)
def test_poison_is_nan_in_every_float(dtype):
    assert np.isnan(poison.poisoned((2, 3), dtype)).all()


def test_poison_is_no_likely_integer():
    assert (poison.poisoned((3,), np.int64) == -1).all()
    assert poison.poisoned((0, 3), np.float32).shape == (0, 3)


@pytest.mark.parametrize("offset", [0, 4, 36])
def test_guarded_arrays_lie_where_they_are_asked_to(offset):
    with poison.guarded((3, 5), np.float32, offset=offset) as array:
        assert array.ctypes.data % 64 == offset % 64
        assert np.isnan(array).all()
        assert array.flags.c_contiguous
        array[...] = 1


@pytest.mark.parametrize(("step", "where"), [(-1, "before"), (15, "after")])
def test_margins_catch_one_overwritten_element(step, where):
    guard = poison.Guarded((3, 5), np.float32)
    array = guard.array
    guard.check()
    neighbour(array, step)[...] = 0
    with pytest.raises(AssertionError, match=f"4 bytes were written {where} .* \\(3, 5\\)"):
        guard.check()


def test_the_context_manager_checks_on_the_way_out():
    with (
        pytest.raises(AssertionError, match="were written after"),
        poison.guarded((4,), np.float32) as array,
    ):
        neighbour(array, 4)[...] = 0


def test_lent_inputs_are_equal_copies_that_must_not_change():
    array = np.arange(6.0).reshape(2, 3)
    with poison.lent(array, offset=8) as copy:
        assert_array_equal(copy, array)
        assert np.isnan(neighbour(copy.view(np.float32), -1))
    with (
        pytest.raises(AssertionError, match=r"an input of shape \(2, 3\) was written to"),
        poison.lent(array) as copy,
    ):
        copy[1, 1] = 0
    assert array[1, 1] == 4


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1), (0, 2, 3), (7,)])
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_awkward_views_equal_their_array(shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for name, view in poison.awkward_views(array).items():
        assert_array_equal(view, array, err_msg=name)
        assert view.dtype == array.dtype


def test_awkward_views_are_awkward():
    views = poison.awkward_views(np.arange(120.0).reshape(2, 3, 4, 5))
    assert not views["strided"].flags.c_contiguous
    assert all(stride < 0 for stride in views["negative strides"].strides)
    assert views["fortran"].flags.f_contiguous
    assert views["transposed"].flags.f_contiguous
    assert not views["read-only"].flags.writeable
    assert not views["misaligned"].flags.aligned
