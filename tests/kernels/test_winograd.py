"""Winograd's matrices are identities in exact arithmetic; the choice among its algorithms."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convforge.contract import Rejected
from convforge.kernels._winograd import interleaved, strided, transforms
from convforge.kernels.cpu.conv_winograd3x3 import ALGORITHMS, WinogradConfig
from convforge.plan import Plan, Policy, plan
from convforge.problem import parse
from convforge.runtime import machine
from convforge.testing import oracle
from convforge.testing.data import operands

NUMBERS = st.fractions(min_value=-4, max_value=4, max_denominator=8)


def apply(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def filtered(made, x, w):
    products = [a * b for a, b in zip(apply(made.weights, w), apply(made.input, x), strict=True)]
    return apply(made.output, products)


@given(
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 5)),
    data=st.data(),
)
def test_any_points_give_the_filter_exactly(sizes, data):
    m, r = sizes
    points = data.draw(st.lists(NUMBERS, min_size=m + r - 2, max_size=m + r - 2, unique=True))
    x = data.draw(st.lists(NUMBERS, min_size=m + r - 1, max_size=m + r - 1))
    w = data.draw(st.lists(NUMBERS, min_size=r, max_size=r))
    wanted = [sum(w[j] * x[i + j] for j in range(r)) for i in range(m)]
    assert filtered(transforms(m, r, points), x, w) == wanted


@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4)),
    data=st.data(),
)
def test_phases_give_the_strided_filter_exactly(sizes, data):
    m, r, stride = sizes
    most_taps = -(-r // stride)
    points = data.draw(
        st.lists(NUMBERS, min_size=m + most_taps - 2, max_size=m + most_taps - 2, unique=True)
    )
    width = stride * (m - 1) + r
    x = data.draw(st.lists(NUMBERS, min_size=width, max_size=width))
    w = data.draw(st.lists(NUMBERS, min_size=r, max_size=r))
    wanted = [sum(w[j] * x[stride * i + j] for j in range(r)) for i in range(m)]
    assert filtered(strided(m, r, stride, points), x, w) == wanted


@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4)),
    data=st.data(),
)
def test_phases_give_the_transposed_filter_exactly(sizes, data):
    m, r, stride = sizes
    first = data.draw(st.integers(0, stride - 1))
    points = data.draw(st.lists(NUMBERS, min_size=8, max_size=8, unique=True))
    made, start = interleaved(m, r, stride, first, points)
    width = len(made.input[0])
    x = data.draw(st.lists(NUMBERS, min_size=width, max_size=width))
    w = data.draw(st.lists(NUMBERS, min_size=r, max_size=r))
    wanted = [
        sum(
            x[j] * w[first + i - stride * (start + j)]
            for j in range(width)
            if 0 <= first + i - stride * (start + j) < r
        )
        for i in range(stride * m)
    ]
    assert filtered(made, x, w) == wanted


def test_stride_two_saves_a_quarter_of_a_filter_of_three():
    """Per axis, 2 m + 1 products instead of 3 m."""
    assert [len(strided(m, 3, 2, range(m)).input) for m in (2, 4)] == [5, 9]


def test_the_matrices_of_lavin_and_gray():
    """F(2, 3) of the paper, up to the signs of the rows of B^T and G."""
    made = transforms(2, 3, (0, 1, -1))
    half = Fraction(1, 2)
    assert made.output == ((1, 1, 1, 0), (0, 1, -1, 1))
    assert made.weights == ((-1, 0, 0), (half, half, half), (half, -half, half), (0, 0, 1))
    assert made.input == ((-1, 0, 1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))


@pytest.mark.parametrize("points", [(0, 1), (0, 1, 1), (0, 1, -1, 2)])
def test_wrong_points_are_refused(points):
    with pytest.raises(ValueError, match="needs 3 different points"):
        transforms(2, 3, points)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm.name)
def test_pixels_are_transformed_without_rounding_a_constant(algorithm):
    """Only G, which divides, may hold numbers that float32 does not."""
    made = algorithm.minimal.matrices
    for matrix in (made.input, made.output):
        for row in matrix:
            assert all(n.denominator & (n.denominator - 1) == 0 for n in row)
            assert all(abs(n.numerator) < 1 << 24 for n in row)


WALKS = (
    # Phases of different extents, the last of them empty in a window's lower rows.
    "fprop:f32:nhwc:n2c16h11w13_k40r3s3_p2x3_d2x3",
    "fprop:f32:n1c20h11w6_k33r3s3_p9x9_d4x9+bias+relu",
    "dgrad:f32:nhwc:n2c16h11w13_k40r3s3_p1x5_d2x3",
    "dgrad:f64:n1c17h19w9_k16r3s3_p2x2_d2x2",
    "fprop:f32:nhwc:n1c32h9w9_k16r3s3_p3x3_d3x3_g2+bias+residual+gelu",
    "fprop:f32:n1c16h9w9_k16r3s3_p2x2_d2x2+accumulate",
    # Stride 2 with borders that windows cross, channels first, groups, and dilation.
    "fprop:f32:nhwc:n2c16h19w22_k40r3s3_st2x2_p1x1",
    "fprop:f32:n1c20h12w31_k33r3s3_st2x2_p0:2x3:1+bias+relu6",
    "fprop:f64:n1c34h21w9_k20r3s3_st2x2_p1x1_g2+bias",
    "fprop:f32:nhwc:n1c16h23w31_k16r3s3_st2x2_p2x3_d2x3",
    "dgrad:f32:nhwc:n2c16h19w22_k40r3s3_st2x2_p1x1",
    "dgrad:f32:n2c33h19w22_k16r3s3_st2x2_p2x0",
    "dgrad:f32:n1c34h24w9_k20r3s3_st2x2_p3x1_g2+accumulate",
    "dgrad:f64:nhwc:n1c16h18w17_k16r3s3_st2x2_p0x0",
    # Layers that fall outside, more of them than a task has, and an even filter in depth.
    "fprop:f32:nhwc:n2c16d7h9w10_k40t3r3s3_p1x1x1",
    "fprop:f32:n1c20d5h6w5_k33t3r3s3_p2x1x0+bias+relu",
    "fprop:f32:nhwc:n1c16d4h30w30_k16t2r3s3_p1x2x2",
    "fprop:f64:nhwc:n1c32d3h8w6_k16t1r3s3_p0x2x2_d1x2x2_g2",
    "dgrad:f32:nhwc:n2c16d7h9w10_k40t3r3s3_p1x1x1",
    "dgrad:f32:n1c20d6h7w7_k17t2r3s3_p0x1x1",
    "dgrad:f32:nhwc:n1c16d3h7w7_k16t2r3s3_p3x1x1",
    "fprop:f32:n1c16d6h9w9_k20t3r3s3_st1x2x2_p1x1x1+residual+relu",
    # Gradients of filters: channels that fill no tile, several chunks, phases, accumulation.
    "wgrad:f32:nhwc-krsc:n2c20h19w22_k40r3s3_p1x1",
    "wgrad:f32:n3c33h17w18_k6r3s3_p0:2x2:0",
    "wgrad:f32:nhwc:n2c5h31w30_k20r3s3_p1x1",
    "wgrad:f64:nhwc:n2c18h21w17_k34r3s3_p1x1_g2",
    "wgrad:f32:n2c16h21w25_k33r3s3_p2x3_d2x3+accumulate",
    "wgrad:f32:nhwc:n2c20h19w22_k40r3s3_st2x2_p1x1",
    "wgrad:f64:n1c34h25w31_k20r3s3_st2x2_p1x0_g2",
    "wgrad:f32:nhwc:n1c16h31w33_k16r3s3_st2x2_p2x3_d2x3",
)


def walks(text):
    problem = parse(text)
    return [
        algorithm for algorithm in ALGORITHMS if algorithm.supports(problem, machine.cpu()) is None
    ]


@pytest.mark.parametrize(
    ("algorithm", "text"),
    [
        pytest.param(algorithm, text, id=f"{algorithm.name}-{text}")
        for text in WALKS
        for algorithm in walks(text)
    ],
)
@pytest.mark.parametrize("part", [None, (5, 1), (3, 2), (64, 64)])
def test_however_windows_are_cut_into_tasks(algorithm, text, part):
    problem = parse(text)
    policy = Policy(algorithm=algorithm.name, accuracy="fast", threads=2)
    chosen = plan(problem, policy)
    if part is not None:
        config = WinogradConfig(chosen.config.rows, chosen.config.columns, *part)
        chosen = Plan(problem, policy, algorithm, config)
    for kind in ("integers", "normal"):
        data = operands(problem, kind)
        out = data.before.copy() if data.before is not None else None
        y = chosen(*data.arrays, **data.epilogue, out=out)
        if kind == "integers" and algorithm.tolerance.exact and "gelu" not in text:
            oracle.assert_exact(problem, y, data)
        else:
            oracle.assert_within(problem, y, data, algorithm.tolerance)


def test_every_walk_is_someones():
    assert all(walks(text) for text in WALKS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fprop:f32:n1c16h9w9_k16r3s3_st1x2_p1x1", "stride 1x2: transforms for"),
        ("fprop:f32:n1c16h9w9_k16r5s5", "filter 5x5: 3x3 in a plane only"),
        ("fprop:f32:n1c16d9h9w9_k16t3r3s3_st2x2x2", "along depth"),
        ("fprop:f32:n1c16d9h9w9_k16t3r3s3_d2x1x1", "along depth"),
        ("dgrad:f32:n1c16h9w9_k16r3s3_st2x2_p1x0", "dgrad with padding 1x0: one remainder by 2"),
        ("dgrad:f32:n1c16h9w9_k16r3s3_st2x2_d2x2", "dgrad with stride and dilation"),
        ("wgrad:f32:n1c16d9h9w9_k16t3r3s3", "wgrad of volumes: images only"),
        ("wgrad:f32:n1c16h3w3_k16r3s3", "1 windows to sum: below 4"),
        ("wgrad:f32:n1c3h19w19_k16r3s3", "wgrad of 3 channels"),
    ],
)
def test_refusals_say_what_is_wanted(text, words):
    refused = [algorithm.supports(parse(text), machine.cpu()) for algorithm in ALGORITHMS]
    assert all(isinstance(reason, Rejected) for reason in refused)
    assert any(words in str(reason) for reason in refused)


CHOICES = {
    "fprop:f32:nhwc:n1c64h56w56_k64r3s3_p1x1": "f4",
    "fprop:f32:nhwc:n1c256h56w56_k256r3s3_p1x1": "f4",
    "fprop:f32:nhwc:n16c256h14w14_k256r3s3_p1x1": "f5",
    "dgrad:f32:nhwc:n16c64h56w56_k64r3s3_p1x1": "f4",
    "fprop:f32:n16c512h7w7_k512r3s3_p1x1": "f4",
    "fprop:f32:nhwc:n1c256h28w28_k256r3s3_p2x2_d2x2": "f5",
    "fprop:f32:nhwc:n1c256h28w28_k256r3s3_p4x4_d4x4": "f4",
    "fprop:f32:nhwc:n1c128h56w56_k128r3s3_st2x2_p1x1": "f2s2",
    "fprop:f32:nhwc:n1c256h28w28_k256r3s3_st2x2_p1x1": "f2s2",
    "fprop:f32:n1c256d11h13w13_k256t3r3s3": "f4",
    "dgrad:f32:nhwc:n16c128h56w56_k128r3s3_st2x2_p1x1": "f4s2",
    "wgrad:f32:nhwc:n16c64h56w56_k64r3s3_p1x1": "f4",
    "wgrad:f32:nhwc:n16c256h28w28_k256r3s3_st2x2_p1x1": "f2s2",
}


@pytest.mark.parametrize("text", CHOICES)
def test_chosen_where_it_is_faster(text):
    policy = Policy(threads=2)
    assert plan(text, policy).algorithm == f"cpu.conv_winograd3x3.{CHOICES[text]}"


def test_not_chosen_for_few_pixels_nor_where_accuracy_is_strict():
    for text in (
        "fprop:f32:nhwc:n1c512h7w7_k512r3s3_p1x1",
        "fprop:f32:nhwc:n1c512h14w14_k512r3s3_st2x2_p1x1",
        "dgrad:f32:nhwc:n16c512h14w14_k512r3s3_st2x2_p1x1",
        "wgrad:f32:nhwc:n1c512h7w7_k512r3s3_p1x1",
        "wgrad:f32:nhwc:n16c3h224w224_k64r3s3_p1x1",
    ):
        assert plan(text, Policy(threads=2)).algorithm == "cpu.conv_direct"
    strict = Policy(accuracy="strict")
    chosen = plan("fprop:f32:nhwc:n1c64h56w56_k64r3s3_p1x1", strict)
    assert chosen.algorithm == "cpu.conv_direct"
