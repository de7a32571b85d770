"""The checker itself: it accepts what is right and rejects every planted mistake."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.contract import Tolerance
from convforge.problem import Direction, parse
from convforge.testing import oracle, planted
from convforge.testing.data import operands, result

TOLERANCE = Tolerance(growth=4)
GEOMETRIES = [
    "f32:n2c5h7w9_k6r3s3_p1x1",
    "f32:nhwc-krsc:n1c4h13w14_k33r3s3_st2x2_p1:0x0:1",
    "f64:n1c10h6w7_k6r3s3_p1x1_g2",
    "f32:n1c16w40_k8s5_p2",
    "f32:n1c3d5h6w7_k8t3r3s3_p1x1x1",
]
PROBLEMS = [parse(f"{direction}:{g}") for direction in Direction for g in GEOMETRIES]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_the_rounded_truth_is_accepted(problem):
    data = operands(problem)
    y = planted.correct(problem, data)
    assert oracle.worst(problem, y, data).units <= 0.5
    oracle.assert_within(problem, y, data, TOLERANCE)
    data = operands(problem, "integers")
    oracle.assert_exact(problem, planted.correct(problem, data), data)


@pytest.mark.parametrize("wrong", planted.WRONG, ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
@pytest.mark.parametrize("kind", ["normal", "positive"])
def test_every_planted_mistake_is_rejected(problem, wrong, kind):
    data = operands(problem, kind)
    with pytest.raises(AssertionError, match="units at"):
        oracle.assert_within(
            problem, wrong(problem, data), data, TOLERANCE, positive=kind == "positive"
        )


# float16 holds sums of a few small integers exactly.
INEXACT = [wrong for wrong in planted.WRONG if wrong is not planted.half_accumulation]


@pytest.mark.parametrize("wrong", INEXACT, ids=lambda wrong: wrong.__name__)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_planted_mistakes_are_not_exact(problem, wrong):
    data = operands(problem, "integers")
    with pytest.raises(AssertionError, match="not exact"):
        oracle.assert_exact(problem, wrong(problem, data), data)


def test_one_mistaken_element_is_reported_with_its_place():
    problem = parse("fprop:f32:n1c4h5w6_k8r3s3_p1x1")
    data = operands(problem)
    y = planted.correct(problem, data)
    right = y[0, 7, 4, 5]
    y[0, 7, 4, 5] += 1
    with pytest.raises(AssertionError) as caught:
        oracle.assert_within(problem, y, data, TOLERANCE)
    message = str(caught.value)
    for part in (str(problem), "(0, 7, 4, 5)", "limit 4", f"got {y[0, 7, 4, 5]}"):
        assert part in message
    assert str(right)[:5] in message.partition("wanted")[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_wrong_nan_or_infinity_is_infinitely_wrong(bad):
    problem = parse("fprop:f32:n1c1w4_k1s1")
    data = operands(problem)
    y = planted.correct(problem, data)
    y[0, 0, 2] = bad
    worst = oracle.worst(problem, y, data)
    assert (worst.units, worst.at) == (np.inf, (0, 0, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_right_nan_or_infinity_is_right(value):
    problem = parse("fprop:f32:n1c1w4_k1s1")
    data = operands(problem)
    data.arrays[0][0, 0, 1] = value
    y = planted.correct(problem, data)
    assert oracle.worst(problem, y, data).units <= 0.5
    y[0, 0, 1] = 0
    assert oracle.worst(problem, y, data).units == np.inf


def test_planewise_measures_by_the_largest_unit_of_the_plane():
    problem = parse("fprop:f32:n1c1h1w3_k1r1s1")
    data = operands(problem)
    data.arrays[0][...] = [[[[1, 1000, 1]]]]
    data.arrays[1][...] = 1
    y = planted.correct(problem, data)
    y[0, 0, 0, 0] += 100 * np.finfo(np.float32).eps
    assert oracle.worst(problem, y, data).units == pytest.approx(100)
    assert oracle.worst(problem, y, data, planewise=True).units == pytest.approx(0.1)
    oracle.assert_within(problem, y, data, Tolerance(growth=1, planewise=True))
    with pytest.raises(AssertionError):
        oracle.assert_within(problem, y, data, Tolerance(growth=1))


def test_units_count_bias_residual_and_what_is_added_to():
    problem = parse("fprop:f32:n1c2w1_k1s1+accumulate+bias+residual+relu")
    data = operands(problem)
    x, w = data.arrays
    scale = (
        np.abs(x[0, :, 0] * w[0, :, 0]).sum()
        + sum(np.abs(array).sum() for array in data.epilogue.values())
        + np.abs(data.before).sum()
    )
    unit = oracle.units(problem, data).item()
    assert unit == pytest.approx(np.finfo(np.float32).eps * scale, rel=1e-6)


def test_wrong_shape_and_type_are_rejected():
    problem = parse("fprop:f32:n1c2w5_k3s1")
    data = operands(problem)
    y = planted.correct(problem, data)
    for wrong in (y[:, :2], y.astype(np.float64)):
        with pytest.raises(AssertionError, match=r"wanted \(1, 3, 5\) float32"):
            oracle.worst(problem, wrong, data)


def test_positive_data_may_err_by_the_root_of_the_summands():
    problem = parse("fprop:f32:n1c64h3w3_k1r3s3")
    assert oracle.limit(problem, TOLERANCE) == 4
    assert oracle.limit(problem, TOLERANCE, positive=True) == pytest.approx((64 * 9) ** 0.5)
    small = parse("fprop:f32:n1c1h3w3_k1r3s3")
    assert oracle.limit(small, TOLERANCE, positive=True) == 4


@pytest.mark.parametrize("text", ["fprop:max:f32:n1c2w6_s2", "dgrad:avg:f16:n1c2w6_s3"])
def test_pooling_is_judged_too(text):
    problem = parse(text)
    data = operands(problem)
    y = planted.correct(problem, data)
    oracle.assert_within(problem, y, data, TOLERANCE)
    y.reshape(-1)[0] += 1
    with pytest.raises(AssertionError):
        oracle.assert_within(problem, y, data, TOLERANCE)


@pytest.mark.parametrize("dtype", ["i8-i8-i32", "i64"])
def test_integers_must_be_equal(dtype):
    problem = parse(f"fprop:{dtype}:n1c2w6_k3s2")
    data = operands(problem)
    y = planted.correct(problem, data)
    assert oracle.worst(problem, y, data).units == 0
    y[0, 0, 0] += 1
    assert oracle.worst(problem, y, data).units == np.inf
    assert y.shape == result(problem)[0]
