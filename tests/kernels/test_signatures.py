"""Geometry, layout and post ops are run-time fields: they must not compile anything new."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_one_compilation_serves_every_problem_of_a_tile():
    from convforge.runtime.machine import isa

    if isa() != "avx512":
        import pytest

        pytest.skip("the shapes are those of the AVX-512 tile")
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = dict(line.split() for line in done.stdout.splitlines())
    assert len(counts) == 5
    assert set(counts.values()) == {"1"}, counts
