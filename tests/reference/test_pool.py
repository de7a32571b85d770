"""The reference pooling against numbers worked out by hand, and nested loops."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from convforge.problem import Axis, Direction, Order, PoolKind, PoolProblem, parse
from convforge.reference import compute
from convforge.testing.data import operands
from convforge.testing.strategies import pool_problems

NAN, INF = np.nan, np.inf
COUNT_4X4 = np.arange(1.0, 17).reshape(1, 1, 4, 4)


def row(values):
    return np.array([[values]])


def test_average_counts_padding_but_not_what_ceil_mode_hangs_over():
    y = compute("fprop:avg:f32:n1c1h4w4_r3s3_st2x2_p1x1+ceil", COUNT_4X4)
    expected = [[14 / 9, 30 / 9, 12 / 6], [57 / 9, 99 / 9, 36 / 6], [27 / 6, 45 / 6, 16 / 4]]
    assert_allclose(y[0, 0], expected, rtol=1e-15)


def test_average_without_padding_in_the_count():
    y = compute("fprop:avg:f32:n1c1w5_s4_p1:2+exclude_pad", row([1.0, 2, 3, 40, 100]))
    assert_allclose(y.ravel(), [2, 11.5, 36.25, 143 / 3, 70])


def test_adaptive_windows_overlap_where_extents_do_not_divide():
    y = compute("fprop:avg:f32:n1c1w5_a3", row([0.0, 1, 2, 3, 4]))
    assert_allclose(y.ravel(), [0.5, 2, 3.5])
    y = compute("fprop:max:f32:n1c1w3_a5", row([1.0, 2, 3]))
    assert_allclose(y.ravel(), [1, 2, 2, 3, 3])


def test_average_with_a_divisor():
    y = compute("fprop:avg:f32:n1c1w4_s2_st2_p0+divisor5", row([1.0, 2, 3, 4]))
    assert_allclose(y.ravel(), [3 / 5, 7 / 5])


def test_average_with_dilation():
    y = compute("fprop:avg:f32:n1c1w5_s2_p1_d2+exclude_pad", row([1.0, 2, 3, 4, 5]))
    assert_allclose(y.ravel(), [2, 2, 3, 4, 4])


def test_integer_average_is_rounded_toward_zero():
    y = compute("fprop:avg:i64:n1c1w8_s4_st4", row([11, 0, 0, 0, -11, 0, 0, 0]))
    assert_array_equal(y.ravel(), [2, -2])


def test_ceil_mode_drops_a_window_that_starts_in_the_padding():
    assert compute("fprop:max:f32:n1c1h9w9_r4s4_st4x4_p2x2+ceil", np.ones((1, 1, 9, 9))).shape == (
        1,
        1,
        3,
        3,
    )


@pytest.mark.parametrize(
    ("window", "value", "index"),
    [
        ([NAN, 1, 2], NAN, 0),
        ([1, NAN, 2], NAN, 1),
        ([1, 2, NAN], NAN, 2),
        ([NAN, 5, NAN], NAN, 2),
        ([NAN, NAN, INF], NAN, 1),
        ([3, 7, 7], 7, 1),
        ([-INF, -INF, -INF], -INF, 0),
        ([-1, -2, -3], -1, 0),
    ],
)
def test_maximum_and_its_index(window, value, index):
    y, indices = compute("fprop:max:f32:n1c1w3_s3+indices", row(window))
    assert_array_equal(y.ravel(), [value])
    assert_array_equal(indices.ravel(), [index])
    assert indices.dtype == np.int64


def test_first_zero_wins_whatever_its_sign():
    y = compute("fprop:max:f32:n1c1w4_s2_st2", row([-0.0, 0.0, 0.0, -0.0]))
    assert_array_equal(np.signbit(y.ravel()), [True, False])


def test_padding_is_never_the_maximum_and_never_counted_in_indices():
    x = -np.arange(1.0, 13).reshape(1, 1, 3, 4)
    y, indices = compute("fprop:max:f32:n1c1h3w4_r3s3_st2x2_p1x1+indices", x)
    assert_array_equal(y[0, 0], [[-1, -2], [-5, -6]])
    assert_array_equal(indices[0, 0], [[0, 1], [4, 5]])


def test_all_minus_infinity_at_a_padded_corner_takes_the_first_element_inside():
    _, indices = compute("fprop:max:f32:n1c1h2w2_r2s2_p1x1+indices", np.full((1, 1, 2, 2), -INF))
    assert_array_equal(indices[0, 0], [[0, 0, 1], [0, 0, 1], [2, 2, 3]])


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64"])
def test_maximum_of_the_smallest_integers(dtype):
    least = np.iinfo(f"int{dtype[1:]}").min
    x = np.full((1, 1, 3), least, f"int{dtype[1:]}")
    y, indices = compute(f"fprop:max:{dtype}:n1c1w3_s3_st2_p1+indices", x)
    assert_array_equal(y.ravel(), [least, least])
    assert_array_equal(indices.ravel(), [0, 1])


def test_complex_maximum_is_refused():
    with pytest.raises(ValueError, match="max pooling has no meaning"):
        compute("fprop:max:c64:n1c1w2_s2", np.ones((1, 1, 2), complex))


def test_gradient_of_the_maximum_goes_to_the_first_of_ties_and_overlaps_add():
    x = row([1.0, 7, 7, 1])
    _, indices = compute("fprop:max:f32:n1c1w4_s3+indices", x)
    dx = compute("dgrad:max:f32:n1c1w4_s3", row([10.0, 100]), indices)
    assert_array_equal(dx.ravel(), [0, 110, 0, 0])


def test_gradient_of_the_average():
    dx = compute("dgrad:avg:f32:n1c1w4_s3_st2_p1", row([3.0, 6]))
    assert_array_equal(dx.ravel(), [1, 1 + 2, 2, 2])


def first_tap(axis: Axis, window: int) -> int:
    if axis.windows is not None:
        return floor(Fraction(window * axis.size, axis.windows))
    return window * axis.stride - axis.pad_lo


def last_tap(axis: Axis, window: int) -> int:
    if axis.windows is not None:
        return ceil(Fraction((window + 1) * axis.size, axis.windows)) - 1
    return axis.size - 1


def pool_by_loops(problem: PoolProblem, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and indices, window by window, channels first."""
    y = np.zeros((problem.N, problem.C, *problem.out))
    indices = np.zeros(y.shape, np.int64)
    for at in np.ndindex(y.shape):
        seen, counted = [], 0
        for tap in np.ndindex(problem.filter):
            place = [
                first_tap(a, o) + t * a.dilation
                for o, t, a in zip(at[2:], tap, problem.axes, strict=True)
            ]
            limits = [last_tap(a, o) for o, a in zip(at[2:], problem.axes, strict=True)]
            inside = all(0 <= i <= last for i, last in zip(place, limits, strict=True))
            counted += inside or (
                problem.count_include_pad
                and not problem.adaptive
                and all(i < a.size + a.pad_hi for i, a in zip(place, problem.axes, strict=True))
            )
            if inside:
                flat = int(np.ravel_multi_index(place, problem.size))
                seen.append((x[(*at[:2], *place)], flat))
        if problem.kind is PoolKind.MAX:
            y[at], indices[at] = max(seen, key=lambda pair: (pair[0], -pair[1]))
        else:
            y[at] = sum(float(value) for value, _ in seen) / (problem.divisor or counted)
    return y, indices


@given(pool_problems(directions=[Direction.FPROP]))
@settings(max_examples=40)
def test_against_nested_loops(problem):
    def first(array):
        last = problem.x.order is Order.CHANNELS_LAST
        return np.moveaxis(array, -1, 1) if last else array

    (x,) = operands(problem, "integers").arrays
    y, indices = pool_by_loops(problem, first(x))
    result = compute(problem, x)
    if problem.indices:
        assert_array_equal(first(result[1]), indices)
        result = result[0]
    assert_allclose(first(result), y, rtol=1e-14)


@pytest.mark.parametrize("order", ["", "nhwc:"])
def test_max_gradient_undoes_unpooled_values(order):
    forward = parse(f"fprop:max:f32:{order}n2c3h6w8_r2s2_st2x2+indices")
    (x,) = operands(forward).arrays
    y, indices = compute(forward, x)
    dx = compute(f"dgrad:max:f32:{order}n2c3h6w8_r2s2_st2x2", y, indices)
    assert_array_equal(dx[dx != 0], x[dx != 0].astype(float))
    assert (dx != 0).sum() == y.size


@given(pool_problems(directions=[Direction.FPROP], kinds=[PoolKind.AVG]))
@settings(max_examples=40)
def test_average_directions_are_adjoint(problem):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(problem.x_shape), rng.standard_normal(problem.y_shape)
    backward = parse(f"{problem}".replace("fprop", "dgrad"))
    assert_allclose(
        (compute(problem, x) * dy).sum(), (x * compute(backward, dy)).sum(), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(("direction", "kind"), list(product(("fprop", "dgrad"), ("max", "avg"))))
@pytest.mark.parametrize("sizes", ["n0c2h4w4", "n2c0h4w4"])
def test_empty_batch_and_channels(direction, kind, sizes):
    problem = parse(f"{direction}:{kind}:f32:{sizes}_r2s2_st2x2")
    shape = problem.y_shape if direction == "fprop" else problem.x_shape
    assert compute(problem, *operands(problem).arrays).shape == shape
