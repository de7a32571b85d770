from __future__ import annotations

import pytest

from convforge.bench import step, suites
from convforge.bench.measure import Wrong, measure
from convforge.bench.ours import Convforge
from convforge.bench.rows import Row
from convforge.bench.timer import Method
from convforge.problem import Direction
from convforge.testing.data import operands

METHOD = Method(rounds=2, most_rounds=2, block_s=1e-4, pause_s=0, unmeasured=1)


def layer(channels=8):
    words = [f"fprop:f32:nhwc-krsc:n2c{channels}h6w6_k8r3s3_p1x1"]
    return step.layers(suites.resolve(words))[0]


def test_a_step_is_counted_three_times(peer):
    one, remarks = measure(
        layer(), step.OurStep(Convforge()), [step.Step(peer())], [Row.PLAIN], METHOD
    )
    assert remarks == []
    assert set(one.timings) == {"convforge plain", "torch warm"}
    assert one.flops == 3 * layer().problem.flops
    assert one.ratio(Row.PLAIN, "torch") > 0


def test_photographs_have_no_gradient():
    stem = layer(channels=3)
    assert step.directions(stem.problem) == (Direction.FPROP, Direction.WGRAD)
    assert stem.passes == 2


@pytest.mark.parametrize("direction", [Direction.DGRAD, Direction.WGRAD])
def test_gradients_are_checked(peer, direction):
    rival = peer()
    right = rival.calls

    def err(problem, data, rows):
        rival.error = float(problem.direction is direction)
        return right(problem, data, rows)

    rival.calls = err
    problem = layer().problem
    with pytest.raises(Wrong, match=f"torch {direction} is wrong"):
        step.Step(rival).calls(problem, operands(problem), [Row.PLAIN])
