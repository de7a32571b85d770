"""The reference convolution against numbers worked out by hand, nested loops, and SciPy."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from convforge.problem import ConvProblem, Direction, DType, Operand, Order, PadMode, parse
from convforge.reference import compute, wide_dtype
from convforge.testing.data import operands
from convforge.testing.strategies import conv_problems

COUNT_4X4 = np.arange(1.0, 17).reshape(1, 1, 4, 4)
NUMPY_PAD = {PadMode.REFLECT: "reflect", PadMode.REPLICATE: "edge", PadMode.CIRCULAR: "wrap"}


@pytest.mark.parametrize(
    ("padding", "sums"), [("0:1x0:1", [54, 45, 72, 54]), ("1:0x1:0", [14, 30, 57, 99])]
)
def test_same_upper_and_lower_padding(padding, sums):
    y = compute(f"fprop:f32:n1c1h4w4_k1r3s3_st2x2_p{padding}", COUNT_4X4, np.ones((1, 1, 3, 3)))
    assert_array_equal(y.ravel(), sums)


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        ("w7_k1s3_st2", [1, 10, 102, 20, 203, 30, 300]),
        ("w6_k1s3_st2_p1", [10, 102, 20, 203, 30, 300]),
        ("w6_k1s3_st2_p0:1", [1, 10, 102, 20, 203, 30]),
        ("w5_k1s3_st2_p1", [10, 102, 20, 203, 30]),
        ("w11_k1s3_st4", [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300]),
        ("w12_k1s3_st4", [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]),
    ],
)
def test_transposed_convolution_is_dgrad(geometry, expected):
    dy, w = np.array([[[1, 2, 3]]]), np.array([[[1, 10, 100]]])
    dx = compute(f"dgrad:f32:n1c1{geometry}", dy, w)
    assert_array_equal(dx.ravel(), expected)


def test_it_is_cross_correlation_and_nothing_is_conjugated():
    y = compute("fprop:c64:n1c1w3_k1s2", np.array([[[1, 2j, 3]]]), np.array([[[1, 1j]]]))
    assert_array_equal(y.ravel(), [1 - 2, 2j + 3j])


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        (PadMode.ZEROS, [0, 0, 1, 2, 3, 0, 0]),
        (PadMode.REFLECT, [3, 2, 1, 2, 3, 2, 1]),
        (PadMode.REPLICATE, [1, 1, 1, 2, 3, 3, 3]),
        (PadMode.CIRCULAR, [2, 3, 1, 2, 3, 1, 2]),
    ],
)
def test_padding_modes(mode, shown):
    suffix = "" if mode is PadMode.ZEROS else f"_m{mode}"
    y = compute(f"fprop:f32:n1c1w3_k1s1_p2{suffix}", np.array([[[1, 2, 3]]]), np.ones((1, 1, 1)))
    assert_array_equal(y.ravel(), shown)


def test_integers_do_not_wrap():
    x, w = np.full((1, 1, 3, 3), 100, np.int8), np.full((1, 1, 3, 3), 3, np.int8)
    y = compute("fprop:i8-i8-i32:n1c1h3w3_k1r3s3", x, w)
    assert y.dtype == np.int64
    assert y.item() == 2700


def test_one_nan_pixel_reaches_nine_outputs_even_through_zero_weights():
    x = np.zeros((1, 1, 7, 8))
    x[0, 0, 3, 4] = np.nan
    for value in (1, 0):
        y = compute("fprop:f32:n1c1h7w8_k1r3s3_p1x1", x, np.full((1, 1, 3, 3), value))
        assert np.isnan(y).sum() == 9
        assert np.isnan(y[0, 0, 2:5, 3:6]).all()


def test_infinities_meet_as_nan():
    x = np.array([[[np.inf, -np.inf, 1]]])
    y = compute("fprop:f32:n1c1w3_k1s2", x, np.ones((1, 1, 2)))
    assert_array_equal(y.ravel(), [np.nan, -np.inf])


def test_zero_channels_leave_the_bias():
    bias = np.array([1.0, 2, 3])
    y = compute(
        "fprop:f32:n2c0h3w4_k3r3s3_p1x1+bias",
        np.zeros((2, 0, 3, 4)),
        np.zeros((3, 0, 3, 3)),
        bias=bias,
    )
    assert_array_equal(y, np.broadcast_to(bias[:, None, None], (2, 3, 3, 4)))


@pytest.mark.parametrize(
    "geometry",
    [
        "n0c2h3w4_k3r3s3_p1x1",
        "n2c2h3w4_k0r3s3_p1x1",
        "n1c2h0w4_k3r3s3_p2x1",
        "n1c2h0w0_k3r1s1_p1x1",
    ],
)
@pytest.mark.parametrize("direction", Direction)
def test_empty_sizes_give_zeros_of_the_right_shape(direction, geometry):
    problem = parse(f"{direction}:f32:{geometry}")
    shape = {"fprop": problem.y_shape, "dgrad": problem.x_shape, "wgrad": problem.w_shape}
    result = compute(problem, *operands(problem).arrays)
    assert_array_equal(result, np.zeros(shape[direction]))


@pytest.mark.parametrize("dtype", DType)
def test_result_is_wide(dtype):
    problem = parse(f"fprop:{dtype}:n1c2w4_k2s3")
    wide = {"f": np.float64, "b": np.float64, "c": np.complex128}.get(dtype[0], np.int64)
    result = compute(problem, *operands(problem).arrays)
    assert result.dtype == wide == wide_dtype(dtype)


def test_long_double_judges_double():
    problem = parse("fprop:f64:n1c64h4w4_k4r3s3")
    arrays = operands(problem).arrays
    wide = compute(problem, *arrays, dtype=np.longdouble)
    assert wide.dtype == np.longdouble
    assert_allclose(compute(problem, *arrays), wide.astype(float), rtol=1e-12, atol=1e-13)


# The whole definition once more, as seven nested loops over a padded image.
def seven_loops(problem: ConvProblem):
    C, K = problem.group_C, problem.group_K
    (P, Q), (R, S) = problem.out, problem.filter
    height, width = problem.axes
    for n in range(problem.N):
        for k in range(problem.K):
            for p in range(P):
                for q in range(Q):
                    for c in range(C):
                        for r in range(R):
                            for s in range(S):
                                h = p * height.stride + r * height.dilation
                                i = q * width.stride + s * width.dilation
                                channel = (k // K) * C + c
                                yield (n, channel, h, i), (k, c, r, s), (n, k, p, q)


def pad_by_numpy(problem: ConvProblem, x: np.ndarray) -> np.ndarray:
    for dim, axis in enumerate(problem.axes, start=2):
        width = [(0, 0)] * x.ndim
        width[dim] = (axis.pad_lo, axis.pad_hi)
        x = np.pad(x, width, NUMPY_PAD.get(axis.pad_mode, "constant"))
    return x


LOOPED = [
    "n2c2h4w5_k3r3s2_p1x1",
    "n1c4h5w4_k6r2s3_st2x1_p1:0x2:1_g2",
    "n1c3h6w7_k3r2s3_st1x3_p2x0_d3x2_g3",
    "n1c1h2w1_k2r4s3_p3:2x2:2",
    "n1c2h3w4_k2r2s3_p1x2_mreflectxreflect",
    "n1c2h3w4_k2r2s3_st2x1_p1:2x2:3_mreplicatexreplicate",
    "n1c2h3w4_k2r2s3_p3:1x2_d1x2_mcircularxzeros",
]


@pytest.mark.parametrize("geometry", LOOPED)
def test_all_directions_against_seven_nested_loops(geometry):
    problem = parse(f"fprop:f32:{geometry}")
    rng = np.random.default_rng(0)
    x, w, dy = (
        rng.integers(-4, 5, shape).astype(float)
        for shape in (problem.x_shape, problem.w_shape, problem.y_shape)
    )
    # Where each element of the padded image came from; 0 stands for the zeros outside.
    origin = pad_by_numpy(problem, np.arange(1, x.size + 1).reshape(x.shape))
    padded = pad_by_numpy(problem, x)
    y, dw, dx = np.zeros(dy.shape), np.zeros(w.shape), np.zeros(x.size + 1)
    for at_x, at_w, at_y in seven_loops(problem):
        y[at_y] += padded[at_x] * w[at_w]
        dw[at_w] += padded[at_x] * dy[at_y]
        dx[origin[at_x]] += dy[at_y] * w[at_w]
    assert_array_equal(compute(problem, x, w), y)
    dgrad, wgrad = (replace(problem, direction=d) for d in (Direction.DGRAD, Direction.WGRAD))
    assert_array_equal(compute(dgrad, dy, w), dx[1:].reshape(x.shape))
    assert_array_equal(compute(wgrad, x, dy), dw)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_against_scipy(rank):
    rng = np.random.default_rng(rank)
    size, filters = (7, 8, 9)[:rank], (3, 2, 4)[:rank]
    x = rng.integers(-4, 5, (2, 3, *size))
    w = rng.integers(-4, 5, (5, 3, *filters))
    letters = {1: ("w", "s"), 2: ("hw", "rs"), 3: ("dhw", "trs")}[rank]
    extents = [
        "".join(f"{a}{n}" for a, n in zip(*pair, strict=True))
        for pair in ((letters[0], size), (letters[1], filters))
    ]
    y = compute(f"fprop:i64:n2c3{extents[0]}_k5{extents[1]}", x, w)
    for n, k in product(range(2), range(5)):
        expected = sum(signal.correlate(x[n, c], w[k, c], "valid", "direct") for c in range(3))
        assert_array_equal(y[n, k], expected)


def test_rank_1_and_2_are_rank_3_with_axes_of_one():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 9)), rng.standard_normal((6, 2, 3))
    y = compute("fprop:f32:n2c4w9_k6s3_st2_p1_d2_g2", x, w)
    wide = compute(
        "fprop:f32:n2c4d1h1w9_k6t1r1s3_st1x1x2_p0x0x1_d1x1x2_g2",
        x[:, :, None, None],
        w[:, :, None, None],
    )
    assert_array_equal(y, wide[:, :, 0, 0])


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("orders", list(product(Order, repeat=3)))
def test_memory_orders_hold_the_same_numbers(direction, orders):
    first = parse(f"{direction}:f32:n2c4h3w5_k6r2s3_p1x2_g2")
    names = {"fprop": "xwy", "dgrad": "ywx", "wgrad": "xyw"}[direction]
    order = dict(zip("xwy", orders, strict=True))
    ordered = replace(first, **{name: Operand(order=order[name]) for name in "xwy"})

    def arrange(name, array):
        return array if order[name] is Order.CHANNELS_FIRST else np.moveaxis(array, 1, -1)

    a, b = operands(first, "integers").arrays
    expected = arrange(names[2], compute(first, a, b))
    result = compute(ordered, arrange(names[0], a), arrange(names[1], b))
    assert_array_equal(result, expected)
    assert result.flags.c_contiguous


@given(conv_problems(directions=[Direction.FPROP], modes=tuple(PadMode), post=False), st.data())
@settings(max_examples=60)
def test_directions_are_adjoint(problem, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, w, dy = (
        rng.integers(-4, 5, shape) for shape in (problem.x_shape, problem.w_shape, problem.y_shape)
    )
    dgrad, wgrad = (replace(problem, direction=d) for d in (Direction.DGRAD, Direction.WGRAD))
    inner = (compute(problem, x, w) * dy).sum()
    assert inner == (x * compute(dgrad, dy, w)).sum()
    assert inner == (w * compute(wgrad, x, dy)).sum()
