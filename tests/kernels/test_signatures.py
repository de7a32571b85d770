"""Geometry, layout and post ops are run-time fields: they must not compile anything new."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
from convforge.kernels.cpu import _direct, _outer, _planes, _weights
from convforge.plan import Policy, plan
from convforge.testing.data import operands

for text in (
    "fprop:f32:nhwc-krsc:n1c32h7w8_k64r3s3_p1x1",
    "fprop:f32:n2c64h14w14_k64r3s3_st2x2_p2x2_d2x2_g2+bias+residual+relu6",
    "fprop:f32:n1c32w56_k64s5_p2+bias+gelu",
    "fprop:f32:nhwc:n1c32d3h4w16_k64t1r2s3",
    "dgrad:f32:n1c64h7w8_k32r3s3_st2x2_p1x1",
    "dgrad:f32:nhwc:n1c64h7w8_k32r1s1+bias",
    "wgrad:f32:n1c28h7w8_k64r3s3_p1x1",
    "wgrad:f32:nhwc-krsc:n2c56h7w8_k64r1s1_st2x2_g2",
):
    chosen = plan(text, Policy(algorithm="conv_direct"))
    given = operands(chosen.problem)
    assert (chosen.config.rows, chosen.config.columns) == (14, 2), (text, chosen.config)
    chosen(*given.arrays, **given.epilogue)
for kernel in (
    _direct.gather_multiply,
    _outer.outer_products,
    _planes.transpose_matrices,
    _weights.pack_panels,
    _weights.unpack_panels,
):
    print(kernel.__name__, len(kernel.signatures))
"""

WINOGRAD = """
from dataclasses import replace
from convforge.kernels.cpu import _winograd_gradient, _winograd_multiply, _winograd_weights
from convforge.plan import Plan, Policy, plan
from convforge.registry import algorithms
from convforge.testing.data import operands

(f2,) = (a for a in algorithms("cpu") if a.name == "cpu.conv_winograd3x3.f2")
policy = Policy(algorithm=f2.name)
for text in (
    "fprop:f32:nhwc-krsc:n1c32h7w8_k64r3s3_p1x1",
    "fprop:f32:n2c64h14w14_k64r3s3_p2x3_d2x3_g2+bias+residual+relu6",
    "fprop:f32:nhwc:n1c32d3h4w16_k64t2r3s3",
    "dgrad:f32:n1c64h7w8_k32r3s3_p1x1",
    "wgrad:f32:n1c28h7w8_k64r3s3_p1x1",
    "wgrad:f32:nhwc-krsc:n2c56h17w18_k64r3s3_d2x2_g2",
):
    chosen = plan(text, policy)
    given = operands(chosen.problem)
    one_tile = Plan(chosen.problem, policy, f2, replace(chosen.config, rows=8, columns=2))
    one_tile(*given.arrays, **given.epilogue)
for kernel in (
    _winograd_multiply.winograd_convolve,
    _winograd_weights.transform_filters,
    _winograd_gradient.winograd_outer_products,
    _winograd_gradient.winograd_taps,
):
    print(kernel.__name__, len(kernel.signatures))
assert len(_winograd_gradient.winograd_transform.signatures) == 2, "one for x and one for dy"
"""


@pytest.mark.parametrize(
    ("code", "kernels"), [(CODE, 5), (WINOGRAD, 4)], ids=["direct", "winograd"]
)
def test_one_compilation_serves_every_problem_of_a_tile(code, kernels):
    from convforge.runtime.machine import isa

    if isa() != "avx512":
        pytest.skip("the shapes are those of the AVX-512 tile")
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert len(counts) == kernels
    assert set(counts.values()) == {"1"}, counts
