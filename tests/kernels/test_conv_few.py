"""conv_few: dot products for each pixel, and what it leaves to others."""

from dataclasses import replace

import numpy as np
import pytest

from convforge import reference
from convforge.contract import Rejected
from convforge.kernels.cpu.conv_few import ALGORITHMS
from convforge.plan import Policy, plan
from convforge.problem import parse
from convforge.runtime import machine, memory
from convforge.testing.data import operands

FEW = [
    "fprop:f32:nhwc-krsc:n2c64h9w11_k3r1s1",
    "fprop:f32:nhwc-krsc:n1c37h5w3_k4r1s1",
    "fprop:f32:nhwc-krsc:n3c5h5w13_k1r1s1",
    "fprop:f64:nhwc-krsc:n1c37h5w3_k2r1s1",
    "fprop:f32:ndhwc-ktrsc:n1c16d3h4w5_k3t1r1s1",
    "fprop:f32:nwc-ksc:n2c33w100_k2s1",
]


@pytest.mark.parametrize("text", FEW)
def test_every_number_of_outputs_and_channels_is_exact(text):
    chosen = plan(text, Policy(algorithm="conv_few"))
    given = operands(chosen.problem, "integers")
    with memory.poison():
        result = chosen(*given.arrays)
    assert np.array_equal(result, reference.compute(chosen.problem, *given.arrays))


def test_heads_of_few_classes_run_there():
    assert plan("fprop:f32:ndhwc-ktrsc:n1c64d28h44w44_k3t1r1s1").algorithm == "cpu.conv_few"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fprop:f32:nhwc-krsc:n1c8h4w4_k5r1s1", "K <= 4"),
        ("fprop:f32:nhwc-krsc:n1c8h4w4_k3r3s3_p1x1", "1x1"),
        ("fprop:f32:n1c8h4w4_k3r1s1", "channels last only"),
        ("dgrad:f32:nhwc-krsc:n1c8h4w4_k3r1s1", "fprop only"),
    ],
)
def test_refusals_say_why(text, why):
    refusal = ALGORITHMS[0].supports(parse(text), machine.cpu())
    assert isinstance(refusal, Rejected)
    assert why in str(refusal)


def test_no_more_outputs_than_lanes():
    narrow = replace(machine.cpu(), vector_bytes=16)
    (algorithm,) = ALGORITHMS
    refusals = [
        algorithm.supports(parse(f"fprop:f64:nhwc-krsc:n1c8h4w4_k{k}r1s1"), narrow)
        for k in (1, 2, 3, 4)
    ]
    assert [isinstance(refusal, Rejected) for refusal in refusals] == [False, False, True, True]
