"""Every registered algorithm on the foundation's layers, in all three directions."""

from __future__ import annotations

import pytest

from convforge.bench import suites
from convforge.bench.ours import able
from convforge.problem import Direction

LAYERS = suites.load(suites.FOUNDATION)
CASES = [
    pytest.param(layer, algorithm, id=f"{layer.problem}-{algorithm}")
    for direction in Direction
    for layer in suites.gradients(LAYERS, direction)
    for algorithm in able(layer.problem)
]
pytestmark = pytest.mark.benchmark(max_time=0.2, min_rounds=3, warmup=True, warmup_iterations=3)


@pytest.mark.parametrize(("layer", "algorithm"), CASES)
def test_layer(measure, benchmark, layer, algorithm):
    benchmark.group = f"{layer.problem.direction} {layer.label}"
    measure(layer.problem, algorithm)
