"""Post ops: values, order, and what NaN and infinity do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from convforge.reference import compute

ONE = np.ones((1, 1, 1))


def apply(post, values, **epilogue):
    x = np.asarray(values, dtype=float).reshape(1, 1, -1)
    return compute(f"fprop:f32:n1c1w{x.size}_k1s1+{post}", x, ONE, **epilogue).ravel()


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", [0, 0, 1, 7]),
        ("relu6", [0, 0, 1, 6]),
        ("silu", [-0.2689414213699951, 0, 0.7310585786300049, 6.993622641639195]),
        ("gelu", [-0.15865525393145707, 0, 0.8413447460685429, 6.999999999991041]),
        ("gelu_tanh", [-0.15880800939172324, 0, 0.8411919906082768, 6.99999999999999]),
    ],
)
def test_values(activation, expected):
    assert_allclose(apply(activation, [-1, 0, 1, 7]), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "gelu", "gelu_tanh"])
def test_nan_propagates_and_large_values_stay(activation):
    y = apply(activation, [math.nan, 1e4, -1e4])
    assert math.isnan(y[0])
    assert_array_equal(y[1:], [6 if activation == "relu6" else 1e4, 0])


def test_gelu_keeps_its_digits_far_out():
    x = -10.0
    assert_allclose(apply("gelu", [x]), x * math.erfc(-x / math.sqrt(2)) / 2, rtol=1e-14)


def test_ops_run_in_the_listed_order():
    bias, residual = np.array([1.0]), np.array([[[10.0, -10.0]]])
    assert_array_equal(apply("bias+residual+relu", [-4, 4], bias=bias, residual=residual), [7, 0])
    assert_array_equal(apply("bias+relu+residual", [-4, 4], bias=bias, residual=residual), [10, -5])
    assert_array_equal(apply("relu+bias+residual", [-4, 4], bias=bias, residual=residual), [11, -5])


def test_dgrad_has_one_bias_per_input_channel_and_a_residual_like_x():
    dy, w = np.ones((1, 1, 3, 1)), np.ones((1, 2, 1, 1))
    residual = np.arange(6.0).reshape(1, 2, 3, 1)
    dx = compute(
        "dgrad:f32:n1c2h3w1_k1r1s1+bias+residual",
        dy,
        w,
        bias=np.array([10.0, 20]),
        residual=residual,
    )
    assert_array_equal(dx[0, :, :, 0], [[11, 12, 13], [24, 25, 26]])


def test_bias_and_residual_follow_the_memory_order():
    x, w = np.zeros((1, 2, 2, 1)), np.zeros((3, 1, 1, 1))
    residual = np.arange(12.0).reshape(1, 2, 2, 3)
    y = compute(
        "fprop:f32:nhwc:n1c1h2w2_k3r1s1+bias+residual",
        x,
        w,
        bias=np.array([100.0, 200, 300]),
        residual=residual,
    )
    assert_array_equal(y, residual + np.array([100, 200, 300]))


@pytest.mark.parametrize("case", ["c64+relu", "c64+silu", "i32+gelu"])
def test_activations_without_meaning_are_refused(case):
    dtype, _, activation = case.partition("+")
    with pytest.raises(ValueError, match=f"{activation} has no meaning for"):
        compute(f"fprop:{dtype}:n1c1w2_k1s1+{activation}", np.ones((1, 1, 2)), ONE)


def test_integers_take_bias_and_relu():
    y = compute("fprop:i32:n1c1w2_k1s1+bias+relu", np.array([[[-9, 9]]]), ONE, bias=np.array([3]))
    assert y.dtype == np.int64
    assert_array_equal(y.ravel(), [0, 12])


@pytest.mark.parametrize(
    ("problem", "epilogue", "words"),
    [
        ("fprop:f32:n1c1w2_k1s1+bias", {}, "bias was not given"),
        ("fprop:f32:n1c1w2_k1s1", {"bias": np.ones(1)}, "bias was given"),
        ("fprop:f32:n1c1w2_k1s1", {"residual": np.ones((1, 1, 2))}, "residual was given"),
        ("fprop:f32:n1c1w2_k1s1+bias", {"bias": np.ones(2)}, r"shapes \[\(1,\)\], got \[\(2,\)\]"),
        ("fprop:f32:n1c1w3_k1s1", {}, r"wants arrays of shapes"),
    ],
)
def test_wrong_arrays_are_named(problem, epilogue, words):
    with pytest.raises(ValueError, match=words):
        compute(problem, np.ones((1, 1, 2)), ONE, **epilogue)
