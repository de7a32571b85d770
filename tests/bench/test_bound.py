"""What limits a layer, with rates made up: 100 GFLOP/s, and 10 GB/s wherever the operands lie."""

from __future__ import annotations

import math
from dataclasses import replace
from math import prod

import pytest

from convforge.bench.bound import bound
from convforge.bench.ours import Convforge
from convforge.plan import Policy, plan
from convforge.problem import parse
from convforge.runtime import machine


@pytest.fixture(autouse=True)
def rates(monkeypatch):
    monkeypatch.setattr("convforge.runtime.machine.peak_gflops", lambda dtype, n: 100.0)
    monkeypatch.setattr("convforge.runtime.machine.copy_gbytes", lambda level, n: 10.0)


def of(spelling: str, **policy):
    return bound([plan(spelling, Policy(prepared=True, **policy))], threads=1)


def test_many_operations_on_few_bytes_are_bound_by_flops():
    problem = parse("fprop:f32:nhwc-krsc:n1c64h14w14_k64r3s3_p1x1")
    found = of(str(problem), algorithm="conv_direct")
    assert found.by == "flops"
    assert found.seconds == pytest.approx(problem.flops / 100e9, rel=0.2)
    assert found.seconds >= problem.flops / 100e9


def test_an_algorithm_that_multiplies_less_has_less_time():
    spelling = "fprop:f32:nhwc-krsc:n1c64h56w56_k64r3s3_p1x1"
    assert of(spelling, algorithm="conv_winograd3x3.f4").seconds < 0.6 * (
        of(spelling, algorithm="conv_direct").seconds
    )


@pytest.mark.parametrize("pixels, level", [(14, "L2"), (64, "L3"), (2048, "memory")])
def test_few_operations_on_many_bytes_are_bound_by_the_level_that_holds_them(
    pixels, level, monkeypatch
):
    made = plan(f"fprop:max:f32:nhwc:n1c64h{pixels}w{pixels}_r2s2_st2x2")
    facts = replace(machine.cpu(), l2_bytes=1 << 20, l3_bytes=1 << 25)
    monkeypatch.setattr("convforge.runtime.machine.cpu", lambda: facts)
    found = bound([made], threads=1)
    assert found.by == level
    assert found.seconds == pytest.approx(made.problem.bytes / 10e9)


def test_prepared_weights_count_as_they_are():
    spelling = "fprop:f32:nhwc-krsc:n1c512h7w7_k512r3s3_p1x1"
    made = plan(spelling, Policy(algorithm="conv_winograd3x3.f4", prepared=True))
    plain = prod(made.problem.w_shape) * 4
    found = bound([made], threads=1)
    assert found.by != "flops"
    assert found.seconds == pytest.approx(
        (made.problem.bytes - plain + made.weight_format.nbytes) / 10e9
    )


def test_types_without_a_measured_rate_have_none():
    assert math.isnan(of("fprop:bf16:n1c16h6w6_k16r3s3").seconds)


def test_plans_run_one_after_another():
    convforge = Convforge()
    one = convforge.plan(parse("fprop:f32:nhwc-krsc:n1c64h14w14_k64r3s3_p1x1"))
    assert bound([one, one], threads=1).seconds == 2 * bound([one], threads=1).seconds
