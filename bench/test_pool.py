"""Every registered algorithm on the poolings of well-known networks, in both memory orders."""

from __future__ import annotations

import pytest

from convforge.bench import suites
from convforge.bench.ours import able
from convforge.problem import Direction, Order

LAYERS = suites.resolve(
    [
        "fprop:max:f32:n1c64h112w112_r3s3_st2x2_p1x1",
        "fprop:max:f32:n1c64h112w112_r3s3_st2x2_p1x1+indices",
        "fprop:max:f32:n1c64h224w224_r2s2_st2x2",
        "fprop:avg:f32:n1c256h56w56_r2s2_st2x2",
        "fprop:avg:f32:n1c2048h7w7_r7s7",
    ]
)
CASES = [
    pytest.param(layer.problem, algorithm, id=f"{layer.problem}-{algorithm}")
    for direction in (Direction.FPROP, Direction.DGRAD)
    for order in Order
    for layer in suites.gradients(suites.in_order(LAYERS, order), direction)
    for algorithm in able(layer.problem)
]
pytestmark = pytest.mark.benchmark(max_time=0.2, min_rounds=3, warmup=True, warmup_iterations=3)


@pytest.mark.parametrize(("problem", "algorithm"), CASES)
def test_layer(measure, benchmark, problem, algorithm):
    benchmark.group = str(problem)
    measure(problem, algorithm)
