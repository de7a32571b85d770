"""Narrow types: every conversion, one rounding, integers that wrap only where they are told to."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convforge.plan import Policy, plan
from convforge.problem import parse
from convforge.registry import find
from convforge.runtime import machine
from convforge.testing.data import operands

HALVES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
WIDENED = Policy(algorithm="conv_widened.*")


@pytest.mark.parametrize("name", HALVES)
def test_every_half_number_widens_to_itself(name):
    dtype = HALVES[name]
    numbers = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    run = plan(f"fprop:{name}-{name}-f32:n1c1w65536_k1s1", WIDENED)
    y = run(numbers.reshape(1, 1, -1), np.ones((1, 1, 1), dtype))
    assert_array_equal(y[0, 0], numbers.astype(np.float32))


@pytest.mark.parametrize("name", HALVES)
def test_sums_are_rounded_once_to_nearest_even(name):
    dtype = HALVES[name]
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 1 << 16, (1, 2, 50_000), np.uint16).view(dtype)
    pairs[0, 0, :1000] = rng.uniform(1, 2, 1000).astype(dtype)
    pairs[0, 1, :1000] = ml_dtypes.finfo(dtype).eps / 2  # halfway to the next number
    run = plan(f"fprop:{name}:n1c2w50000_k1s1", WIDENED)
    y = run(pairs, np.ones((1, 2, 1), dtype))
    with np.errstate(all="ignore"):
        exact = pairs.astype(np.float32).sum(axis=1)
        wanted = exact.astype(dtype)
    assert_array_equal(y[0].astype(np.float32), wanted.astype(np.float32))


@pytest.mark.parametrize("types", ["i8-i8-i32", "u8-i8-i32", "i16-i16-i32"])
def test_the_largest_products_fit_their_sums(types):
    run = plan(f"fprop:{types}^i32:n1c2h4w5_k3r1s1", WIDENED)
    x_is, w_is = (run.problem.x.dtype.numpy_name, run.problem.w.dtype.numpy_name)
    x = np.full(run.problem.x_shape, np.iinfo(x_is).max, x_is)
    w = np.full(run.problem.w_shape, np.iinfo(w_is).min, w_is)
    w[:, 1] = 1
    want = int(x.flat[0]) * (int(w.flat[0]) + 1)
    assert_array_equal(run(x, w), np.full(run.problem.y_shape, want, np.int32))


def test_sums_in_int64_do_not_wrap():
    run = plan("fprop:i32-i32-i64:n1c2h2w2_k1r1s1", WIDENED)
    x = np.full((1, 2, 2, 2), np.iinfo(np.int32).min, np.int32)
    w = np.full((1, 2, 1, 1), np.iinfo(np.int32).max, np.int32)
    assert_array_equal(run(x, w), np.full((1, 1, 2, 2), 2 * int(x.flat[0]) * int(w.flat[0])))


def test_prepared_weights_serve_float32_as_well():
    narrow, wide = (
        plan(f"fprop:{dtype}:n1c8h5w6_k16r3s3_p1x1", Policy(algorithm=algorithm))
        for dtype, algorithm in (("bf16", "conv_widened.direct"), ("f32", "conv_direct"))
    )
    x, w = operands(narrow.problem, "integers").arrays
    y = wide(x.astype(np.float32), narrow.prepare(w))
    assert_array_equal(y.astype(w.dtype), narrow(x, w))


@pytest.mark.parametrize(
    ("types", "word"),
    [
        ("f32", "nothing to widen"),
        ("f16^f16", "throughout only"),
        ("i8-i8-i64^i32", "summed in i32"),
    ],
)
def test_refusals(types, word):
    problem = parse(f"fprop:{types}:n1c8h5w6_k16r3s3_p1x1")
    refused = find("conv_widened.direct")[0].supports(problem, machine.cpu())
    assert word in str(refused)
