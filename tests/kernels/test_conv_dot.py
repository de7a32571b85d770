"""Dot products: whole ranges of bytes, borders that are not zero in memory, odd channels."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convforge import reference
from convforge.plan import Policy, plan
from convforge.problem import parse
from convforge.registry import find
from convforge.runtime import machine
from convforge.testing.data import operands

DOT = Policy(algorithm="conv_dot")
GEOMETRIES = (
    "nhwc-krsc:n2c8h5w7_k33r3s3_p1x1",
    "n1c7h6w9_k6r3s3_p5x4",
    "nhwc:n1c33h7w7_k40r2s3_p0:2x1:0_d2x1",
    "n2c10h5w6_k36r3s3_p1x1_g2",
    "n1c3h20w22_k16r7s7_p3x3",
    "n1c5d3h4w5_k9t2r3s1_p1x1x0",
    "n2c8w15_k8s1",
)


def refused(text: str) -> str:
    return str(find("conv_dot")[0].supports(parse(text), machine.cpu()) or "")


def runs_here(text: str) -> bool:
    """False on a host without the instruction, and for types that have none: refused as such."""
    reason = refused(text)
    assert not reason or "dot product" in reason
    return not reason


def whole_range(rng, shape, dtype):
    numbers = np.iinfo(dtype.numpy_name)
    return rng.integers(numbers.min, numbers.max, shape, numbers.dtype, endpoint=True)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "types",
    [
        *(f"fprop:{x}-{w}-i32^i32" for x in ("i8", "u8") for w in ("i8", "u8")),
        *(f"dgrad:i32-{w}-{y}^i32" for y in ("i8", "u8") for w in ("i8", "u8")),
        "fprop:i16-i16-i32^i32",
        "dgrad:i32-i16-i16^i32",
        "fprop:i8",
    ],
)
def test_whole_ranges_of_integers(types, geometry):
    text = f"{types}:{geometry}"
    if not runs_here(text):
        return
    run = plan(text, DOT)
    problem, rng = run.problem, np.random.default_rng(0)
    w = whole_range(rng, problem.w_shape, problem.w.dtype)
    operand, shape = (
        (problem.x, problem.x_shape) if "fprop" in text else (problem.y, problem.y_shape)
    )
    source = whole_range(rng, shape, operand.dtype)
    got = run(source, w)
    # Sums wrap as those of int32 do, which int16 can make them.
    assert_array_equal(got, reference.compute(problem, source, w).astype(got.dtype))
    assert_array_equal(got, run(source, run.prepare(w)))


def test_a_row_of_pixels_far_outside_the_image_is_zero():
    text = "fprop:i8-i8-i32:nhwc:n1c4h3w20_k8r1s1_p6x9"
    if not runs_here(text):
        return
    run = plan(text, DOT)
    x, w = operands(run.problem).arrays
    y = run(x, w)
    assert not y[:, :6].any()
    assert y[:, 6:9, 9:29].any()


def test_bfloat16_sums_are_those_of_float32():
    text = "fprop:bf16-bf16-f32:nhwc:n1c64h6w7_k32r3s3_p1x1"
    if not runs_here(text):
        return
    run = plan(text, DOT)
    x, w = operands(run.problem).arrays
    y = run(x, w)
    wanted = reference.compute(run.problem, x, w)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-4)
    assert y.dtype == np.float32
    assert (y != y.astype(ml_dtypes.bfloat16).astype(np.float32)).any()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("wgrad:bf16:n1c8h5w6_k8r3s3", "wgrad"),
        ("fprop:f16:n1c8h5w6_k8r3s3", "no dot product"),
        ("fprop:i16-i16-i64^i64:n1c8h5w6_k8r3s3", "no dot product"),
        ("fprop:u8-u8-i32:n1c8h5w6_k8r3s3", "no dot product"),
        ("fprop:i8-i8-i16^i32:n1c8h5w6_k8r3s3", "i16 results"),
        ("dgrad:i32-i8-i8^i32:n1c8h5w6_k8r3s3_st2x1", "stride"),
    ],
)
def test_refusals(text, word):
    assert word in refused(text)
