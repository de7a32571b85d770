"""Where channels lie in memory, read from strides, and views there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from convforge.arrays import (
    View,
    dense,
    dtype_of,
    order_of,
    overlaps_itself,
    same_memory,
    strides_in,
)
from convforge.problem import DType, Order

FIRST, LAST = Order.CHANNELS_FIRST, Order.CHANNELS_LAST


def order(array, rank=2, channels_last=False):
    return order_of(array.shape, array.strides, array.itemsize, rank, channels_last=channels_last)


def nhwc_view(*shape):
    """An (N, C, H, W) view of memory in the order N, H, W, C."""
    N, C, H, W = shape
    return np.zeros((N, H, W, C), np.float32).transpose(0, 3, 1, 2)


def test_dense_memory_has_the_order_it_is_dense_in():
    assert order(np.zeros((2, 3, 4, 5))) is FIRST
    assert order(nhwc_view(2, 3, 4, 5)) is LAST
    assert order(np.zeros((2, 4, 5, 3)), channels_last=True) is LAST
    assert order(np.zeros((2, 3, 4, 5)).transpose(0, 2, 3, 1), channels_last=True) is FIRST


def test_unbatched_and_other_ranks():
    assert order(np.zeros((3, 4, 5))) is FIRST
    assert order(np.zeros((4, 5, 3)).transpose(2, 0, 1)) is LAST
    assert order(np.zeros((4, 3)).T, rank=1) is LAST
    assert order(np.zeros((2, 4, 5, 6, 3)).transpose(0, 4, 1, 2, 3), rank=3) is LAST


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 1, 1), (1, 3, 1, 1), (1, 1, 4, 5)])
def test_axes_of_size_one_leave_exact_strides_to_decide(shape):
    assert order(np.zeros(shape, np.float32)) is FIRST
    assert order(nhwc_view(*shape)) is LAST
    meaningless = np.lib.stride_tricks.as_strided(
        np.zeros(shape, np.float32),
        shape,
        [7 if size == 1 else np.zeros(shape, "f").strides[i] for i, size in enumerate(shape)],
    )
    assert order(meaningless) is FIRST


def test_what_must_be_copied_goes_to_the_nearer_order():
    assert order(np.zeros((2, 3, 4, 5), np.float32)[:, :, ::2]) is FIRST
    assert order(nhwc_view(2, 6, 4, 5)[:, 1:4]) is LAST
    assert order(nhwc_view(2, 6, 4, 5)[:, :, ::-1]) is LAST
    assert order(np.zeros((2, 3, 4, 5), np.float32, order="F")) is LAST


def test_empty_arrays_have_the_order_of_their_axes():
    assert order(np.zeros((0, 3, 4, 5))) is FIRST
    assert order(np.zeros((0, 4, 5, 3)), channels_last=True) is LAST


@given(
    st.sampled_from([FIRST, LAST]),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_views_lead_to_memory_and_back(memory, rank, channels_last, batched, data):
    view = View.of(memory, rank, channels_last=channels_last, batched=batched)
    lead, channels, *spatial = (data.draw(st.integers(1, 4)) for _ in range(rank + 2))
    lead = lead if batched else 1
    array = np.random.default_rng(0).standard_normal(
        view.caller_shape(lead, channels, tuple(spatial))
    )
    there = view.memory(array)
    assert there.shape == memory.arrange(lead, channels, tuple(spatial))
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(view.caller(there), array)
    assert np.shares_memory(view.caller(there), there)


@given(st.sampled_from([FIRST, LAST]), st.integers(1, 3), st.booleans(), st.data())
def test_strides_in_an_order_are_read_as_that_order(memory, rank, channels_last, data):
    shape = tuple(data.draw(st.integers(1, 4)) for _ in range(rank + 2))
    strides = strides_in(memory, shape, 4, channels_last=channels_last)
    found = order_of(shape, strides, 4, rank, channels_last=channels_last)
    ambiguous = strides == strides_in(
        LAST if memory is FIRST else FIRST, shape, 4, channels_last=channels_last
    )
    assert found is memory or ambiguous


def test_dense_copies_only_what_must_be():
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert dense(plain) is plain
    buffer = np.zeros(49, np.uint8)
    misaligned = buffer[1:].view(np.float32).reshape(3, 4)
    misaligned[...] = plain
    for odd in (plain.T, plain[:, ::-1], plain.astype(">f4"), misaligned, np.asfortranarray(plain)):
        copy = dense(odd)
        assert copy.flags.c_contiguous
        assert copy.flags.aligned
        assert copy.dtype.isnative
        np.testing.assert_array_equal(copy, odd)
    read_only = plain.copy()
    read_only.flags.writeable = False
    assert dense(read_only) is read_only


def test_every_element_type_has_its_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in DType:
        numpy = ml_dtypes.bfloat16 if dtype is DType.BF16 else dtype.numpy_name
        assert dtype_of(np.dtype(numpy), "input") is dtype
    assert dtype_of(np.dtype(">f8"), "input") is DType.F64


@pytest.mark.parametrize("dtype", ["bool", "U3", "O", "longdouble", "uint16"])
def test_other_element_types_are_refused_by_name(dtype):
    with pytest.raises(TypeError, match=r"bias has dtype .*wanted one of float16, .*int64"):
        dtype_of(np.dtype(dtype), "bias")


def test_same_memory():
    a = np.zeros(10)
    assert same_memory(a, a[3:5])
    assert not same_memory(a[:5], a[5:])
    assert not same_memory(a[::2], a[1::2])
    assert not same_memory(a, np.zeros(10))


def test_views_of_slices_never_overlap_themselves_and_broadcasts_do():
    x = np.zeros((4, 5, 6), np.int16)
    for view in (x, x[::-1, ::2, 1:], x.transpose(2, 0, 1), x[:0], x[:1, None], np.zeros(())):
        assert not overlaps_itself(view)
    assert not overlaps_itself(np.diagonal(x, axis1=0, axis2=2))
    for view in (
        np.broadcast_to(x, (2, 4, 5, 6)),
        as_strided(x, (2, 2), (4, 1)),
        np.lib.stride_tricks.sliding_window_view(x, 3, 2),
    ):
        assert overlaps_itself(view)
    assert not overlaps_itself(np.broadcast_to(x, (1, 4, 5, 6)))
