"""Pooling over windows: numbers worked out by hand, and the rules for NaN, ties and infinities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from convforge import reference
from convforge.plan import Policy, plan
from convforge.problem import Direction, DType, Order, parse
from convforge.registry import find
from convforge.runtime import machine, memory

NAN, INF = np.nan, np.inf
NAME = "cpu.pool_window"
SPECIAL = np.array([-INF, -1, -0.0, 0.0, 1, 1, 1, INF, NAN])


def run(problem, *arrays, threads=2):
    """Call the algorithm; scratch memory arrives as NaN."""
    with memory.poison():
        return plan(problem, Policy(algorithm=NAME, threads=threads))(*arrays)


def pool(spelling, order, x):
    """Pool ``(N, C, *size)`` in either memory order and precision; results channels first."""
    problem = parse(spelling)
    problem = replace(problem, x=replace(problem.x, order=order))
    x = np.asarray(x, np.float64 if problem.x.dtype is DType.F64 else np.float32)
    if order is Order.CHANNELS_FIRST:
        return run(problem, x)
    y = run(problem, np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    if isinstance(y, tuple):
        return tuple(np.moveaxis(each, -1, 1) for each in y)
    return np.moveaxis(y, -1, 1)


def twice(plane):
    """Two channels, the second reversed: channels last then has a vector to work on."""
    plane = np.asarray(plane, float)
    return np.stack([plane, plane[::-1]])[None]


@pytest.fixture(params=Order, ids=str)
def order(request):
    return request.param


@pytest.mark.parametrize(
    ("values", "largest", "where"),
    [
        ([NAN, 1, 2], NAN, 0),
        ([1, NAN, 2], NAN, 1),
        ([1, 2, NAN], NAN, 2),
        ([NAN, 1, NAN], NAN, 2),
        ([2, 3, 3], 3, 1),
        ([0.0, -0.0, 0.0], 0, 0),
        ([-INF, -INF, -INF], -INF, 0),
        ([-INF, -2, -INF], -2, 1),
        ([INF, NAN, INF], NAN, 1),
    ],
)
def test_largest_of_three(order, values, largest, where):
    y, indices = pool("fprop:max:f32:n1c2w3_s3+indices", order, twice(values))
    assert_array_equal(y[0, 0], [largest])
    assert indices[0, 0] == where
    assert_array_equal(pool("fprop:max:f32:n1c2w3_s3", order, twice(values)), y)


@pytest.mark.parametrize(
    ("plane", "where"),
    [
        ([[1, 2], [2, 1]], 1),
        ([[2, 1], [1, 2]], 0),
        ([[0, NAN], [NAN, 0]], 2),
        ([[NAN, 0], [0, NAN]], 3),
        ([[0, 0], [NAN, 9]], 2),
    ],
)
def test_rows_come_before_columns(order, plane, where):
    _, indices = pool("fprop:max:f32:n1c2h2w2_r2s2+indices", order, twice(plane))
    assert indices[0, 0, 0, 0] == where


def test_padding_is_no_element(order):
    y, indices = pool("fprop:max:f32:n1c2w3_s3_p1+indices", order, twice([-INF, -INF, -INF]))
    assert_array_equal(y[0, 0], [-INF] * 3)
    assert_array_equal(indices[0, 0], [0, 0, 1])
    y = pool("fprop:max:f32:n1c2w3_s3_p1", order, twice([-3, -2, -5]))
    assert_array_equal(y[0, 0], [-2, -2, -2])


def test_ceil_mode_drops_a_window_that_starts_in_the_padding(order):
    y = pool("fprop:max:f32:n1c2h9w9_r4s4_st4x4_p2x2+ceil", order, np.ones((1, 2, 9, 9)))
    assert_array_equal(y, np.ones((1, 2, 3, 3)))


def test_average_counts_padding_but_not_what_ceil_mode_hangs_over(order):
    x = twice(np.arange(1.0, 17).reshape(4, 4))
    y = pool("fprop:avg:f64:n1c2h4w4_r3s3_st2x2_p1x1+ceil", order, x)
    expected = [[14 / 9, 30 / 9, 12 / 6], [57 / 9, 99 / 9, 36 / 6], [27 / 6, 45 / 6, 16 / 4]]
    assert_allclose(y[0, 0], expected, rtol=1e-15)


def test_average_of_what_is_inside(order):
    x = twice([1.0, 2, 3, 40, 100])
    y = pool("fprop:avg:f64:n1c2w5_s4_p1:2+exclude_pad", order, x)
    assert_allclose(y[0, 0], [2, 11.5, 36.25, 143 / 3, 70], rtol=1e-15)


def test_average_with_a_divisor(order):
    y = pool("fprop:avg:f64:n1c2w4_s2_st2+divisor5", order, twice([1.0, 2, 3, 4]))
    assert_allclose(y[0, 0], [3 / 5, 7 / 5], rtol=1e-15)


@pytest.mark.parametrize("window", ["r3s3_p1x1", "r7s7", "r2s2_st2x2"])
def test_the_average_of_ones_is_one(order, window):
    y = pool(f"fprop:avg:f32:n1c3h7w7_{window}+exclude_pad", order, np.ones((1, 3, 7, 7)))
    assert_array_equal(y, np.ones_like(y))


GEOMETRIES = (
    "n2c3h9w40_r3s3_p1x1",
    "n1c70h9w37_r3s3_st2x2_p1x1",
    "n1c5h8w70_r2s3_st2x3_p1x1_d2x1",
    "n1c6h7w140_r2s5_st1x7",
    "n1c4h6w130_r1s2_st1x2",
    "n1c18h7w7_r7s7",
    "n1c17h2w3_r2s3",
    "n3c2d5h4w9_t3r2s3_st2x2x2_p1x1x1",
    "n2c3d5h6w20_t3r3s3_p1x1x1",
    "n5c7h6w9_r2s2_st2x2",
    "n1c2h40w33_r3s3_st3x1",
    "n1c3h7w31_r5s5_p2x2",
    "n2c9h14w14_r2s3_st3x4",
    "n1c1w300_s60_st40_p30",
    "n1c33w17_s17",
    "n1c2h1w5_r2s2_p1x1",
    "n1c2d1h1w6_t2r2s2_p1x1x1",
)


def special(shape, dtype, seed=0):
    return np.random.default_rng(seed).choice(SPECIAL, shape).astype(dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_special_values_are_found_where_the_reference_finds_them(order, geometry, dtype):
    problem = parse(f"fprop:max:{dtype}:{geometry}+indices")
    problem = replace(problem, x=replace(problem.x, order=order))
    x = special(problem.x_shape, problem.x.dtype.numpy_name)
    y, indices = run(problem, x)
    wanted, places = reference.compute(problem, x)
    assert_array_equal(y, wanted)
    assert_array_equal(indices, places)
    assert_array_equal(run(replace(problem, indices=False), x), wanted)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_return_to_where_they_came_from(order, geometry):
    forward = parse(f"fprop:max:f32:{geometry}+indices")
    forward = replace(forward, x=replace(forward.x, order=order))
    backward = replace(forward, direction=Direction.DGRAD, indices=False)
    _, indices = run(forward, special(forward.x_shape, np.float32))
    dy = np.random.default_rng(1).integers(-4, 5, forward.y_shape).astype(np.float32)
    dx = run(backward, dy, indices)
    assert_array_equal(dx, reference.compute(backward, dy, indices))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("which", ["fprop", "dgrad"])
@pytest.mark.parametrize("pad", ["", "+exclude_pad", "+divisor1"])
def test_sums_of_integers_are_divided_once(order, geometry, which, pad):
    problem = parse(f"{which}:avg:f64:{geometry}{pad}")
    problem = replace(problem, x=replace(problem.x, order=order))
    shape = problem.x_shape if which == "fprop" else problem.y_shape
    given = np.random.default_rng(0).integers(-4, 5, shape).astype(np.float64)
    one, two = (run(problem, given, threads=n) for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert_allclose(one, reference.compute(problem, given), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("spelled", ["nchw:n1c1h300w300", "nhwc:n1c24h160w40", "nhwc:n1c40h6w6"])
@pytest.mark.parametrize("window", ["r3s3_st2x2_p1x1", "r3s3_p1x1", "r2s2_st2x2", "r5s5_p2x2"])
def test_strips_of_an_image_meet_without_a_seam(spelled, window):
    forward = parse(f"fprop:max:f32:{spelled}_{window}+indices")
    backward = replace(forward, direction=Direction.DGRAD, indices=False)
    # Few values give many ties, hence elements that several windows point at.
    x = np.random.default_rng(0).integers(0, 3, forward.x_shape).astype(np.float32)
    _, indices = run(forward, x)
    dy = np.random.default_rng(1).standard_normal(forward.y_shape).astype(np.float32)
    one, two = (run(backward, dy, indices, threads=n) for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert_allclose(one, reference.compute(backward, dy, indices), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", ["fprop:avg", "fprop:max", "dgrad:avg"])
def test_whole_planes_are_shared_out(which):
    problem = parse(f"{which}:f32:n3c471h7w7_r7s7")
    shape = problem.y_shape if which.startswith("dgrad") else problem.x_shape
    given = np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)
    assert_allclose(run(problem, given), reference.compute(problem, given), rtol=1e-6)


@pytest.mark.parametrize("which", ["fprop", "dgrad"])
@pytest.mark.parametrize(
    "geometry",
    [
        "n2c5h14w14_r5s5_st3x3",
        "n2c5h11w14_r5s5_st3x3",
        "n2c3d5h11w12_t3r5s5_st2x3x2_p1x2x2",
        "n1c2h200w30_r5s5_st4x4",
        "n2c3h12w20_r2s2_st6x3",
    ],
)
def test_rows_that_share_a_register_or_are_equal(which, geometry):
    problem = parse(f"{which}:avg:f32:{geometry}")
    shape = problem.y_shape if which == "dgrad" else problem.x_shape
    given = np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)
    one, two = (run(problem, given, threads=n) for n in (1, 2))
    assert one.tobytes() == two.tobytes()
    assert_allclose(one, reference.compute(problem, given), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spelling", ["fprop:max:i8:n1c2h4w4_r2s2", "fprop:f32:n1c2h4w4_k2r2s2"])
def test_refusals_are_in_words(spelling):
    refused = find(NAME)[0].supports(parse(spelling), machine.cpu())
    assert "f32 or f64" in str(refused) or "convolution" in str(refused)
