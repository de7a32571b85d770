"""Derived sizes: extents, shapes, flops, bytes, alignment of words with NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convforge.problem import Axis, DType, Order, parse


@pytest.mark.parametrize(
    ("axis", "out"),
    [
        (Axis(size=7, filter=3), 5),
        (Axis(size=7, filter=3, stride=2), 3),
        (Axis(size=8, filter=3, stride=2), 3),
        (Axis(size=7, filter=3, dilation=3), 1),
        (Axis(size=7, filter=3, dilation=2, pad_lo=2, pad_hi=1, stride=3), 2),
        (Axis(size=0, filter=3, pad_lo=1, pad_hi=2), 1),
        (Axis(size=224, filter=7, stride=2, pad_lo=3, pad_hi=3), 112),
    ],
)
def test_output_extent(axis, out):
    assert axis.out == out


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("fprop:max:f32:n1c1w9_s4_st4_p2", 3),
        ("fprop:max:f32:n1c1w9_s4_st4_p2+ceil", 3),
        ("fprop:max:f32:n1c1w4_s3_st2_p1", 2),
        ("fprop:max:f32:n1c1w4_s3_st2_p1+ceil", 3),
        ("fprop:max:f32:n1c1w6_s2_st4+ceil", 2),
        ("fprop:max:f32:n1c1w4_s2_st4+ceil", 1),
        ("fprop:avg:f32:n1c1w5_s2_st3_p0:1+ceil", 2),
        ("fprop:avg:f32:n1c1w5_a3", 3),
        ("fprop:max:f32:n1c1w5_a9", 9),
    ],
)
def test_pooled_extent(text, out):
    assert parse(text).out == (out,)


@pytest.mark.parametrize("size", range(1, 14))
@pytest.mark.parametrize("windows", range(1, 14))
def test_the_largest_adaptive_window(size, windows):
    extents = [-(-(i + 1) * size // windows) - i * size // windows for i in range(windows)]
    assert Axis.adaptive(size, windows).filter == max(extents)


def test_shapes_follow_the_memory_order():
    first = parse("fprop:f32:n2c6h7w8_k4r3s2_g2")
    assert (first.x_shape, first.w_shape, first.y_shape) == (
        (2, 6, 7, 8),
        (4, 3, 3, 2),
        (2, 4, 5, 7),
    )
    last = parse("fprop:f32:nhwc-krsc:n2c6h7w8_k4r3s2_g2")
    assert (last.x_shape, last.w_shape, last.y_shape) == (
        (2, 7, 8, 6),
        (4, 3, 2, 3),
        (2, 5, 7, 4),
    )
    pool = parse("fprop:max:f32:ndhwc:n2c6d4h7w8_t2r3s2")
    assert (pool.x_shape, pool.y_shape) == ((2, 4, 7, 8, 6), (2, 3, 5, 7, 6))


def test_work_and_traffic():
    problem = parse("fprop:f32-f32-f64:n2c6h7w8_k4r3s2_g2")
    assert problem.taps == 6
    assert (problem.group_C, problem.group_K) == (3, 2)
    assert problem.flops == 2 * (2 * 4 * 5 * 7) * (3 * 6)
    assert problem.bytes == 4 * (2 * 6 * 7 * 8 + 4 * 3 * 6) + 8 * (2 * 4 * 5 * 7)
    pool = parse("fprop:max:f64:n2c3w7_s2_st2+indices")
    assert pool.flops == 2 * 3 * 3 * 2
    assert pool.bytes == 8 * 2 * 3 * 7 + (8 + 8) * 2 * 3 * 3


@pytest.mark.parametrize("direction", ["fprop", "dgrad", "wgrad"])
def test_sizes_do_not_depend_on_the_direction(direction):
    problem = parse(f"{direction}:f32:n2c6h7w8_k4r3s2_st2x3")
    assert (problem.size, problem.filter, problem.out) == ((7, 8), (3, 2), (3, 3))


@pytest.mark.parametrize("dtype", DType)
def test_types_are_those_of_numpy(dtype):
    numpy = np.dtype(ml_dtypes.bfloat16 if dtype is DType.BF16 else dtype.numpy_name)
    assert dtype.itemsize == numpy.itemsize
    if dtype.eps:
        assert dtype.eps == float(ml_dtypes.finfo(numpy).eps)
    assert dtype.accumulator.itemsize >= dtype.itemsize


def test_orders_spell_their_letters():
    assert [Order.CHANNELS_FIRST.image(rank) for rank in (1, 2, 3)] == ["ncw", "nchw", "ncdhw"]
    assert [Order.CHANNELS_LAST.filters(rank) for rank in (1, 2, 3)] == ["ksc", "krsc", "ktrsc"]
