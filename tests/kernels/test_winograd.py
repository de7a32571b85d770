"""Winograd's matrices are identities in exact arithmetic; the choice among its algorithms."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convforge.kernels._winograd import transforms
from convforge.kernels.cpu.conv_winograd3x3 import ALGORITHMS
from convforge.plan import Policy, plan

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
    made = transforms(algorithm.m, 3, algorithm.points)
    for matrix in (made.input, made.output):
        for row in matrix:
            assert all(n.denominator & (n.denominator - 1) == 0 for n in row)
            assert all(abs(n.numerator) < 1 << 24 for n in row)


CHOICES = {
    "fprop:f32:nhwc:n1c64h56w56_k64r3s3_p1x1": "f4",
    "fprop:f32:nhwc:n1c256h56w56_k256r3s3_p1x1": "f4",
    "fprop:f32:nhwc:n16c256h14w14_k256r3s3_p1x1": "f5",
    "dgrad:f32:nhwc:n16c64h56w56_k64r3s3_p1x1": "f4",
    "fprop:f32:n16c512h7w7_k512r3s3_p1x1": "f4",
}


@pytest.mark.parametrize("text", CHOICES)
def test_chosen_where_it_is_faster(text):
    policy = Policy(threads=2)
    assert plan(text, policy).algorithm == f"cpu.conv_winograd3x3.{CHOICES[text]}"


def test_not_chosen_for_few_pixels_nor_where_accuracy_is_strict():
    assert plan("fprop:f32:nhwc:n1c512h7w7_k512r3s3_p1x1").algorithm == "cpu.conv_direct"
    strict = Policy(accuracy="strict")
    chosen = plan("fprop:f32:nhwc:n1c64h56w56_k64r3s3_p1x1", strict)
    assert chosen.algorithm == "cpu.conv_direct"
