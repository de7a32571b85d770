"""Small groups where the shared cases say little: every width of a group, partial vectors."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.contract import Rejected
from convforge.plan import Policy, plan
from convforge.problem import Order, parse
from convforge.registry import find
from convforge.runtime import machine
from convforge.testing import cases, oracle
from convforge.testing.data import operands

GEOMETRIES = (
    "n2c128h9w31_k128r3s3_p1x1_g32",
    "n1c64h8w13_k64r3s3_st2x2_p1x1_g8",
    "n1c36h5w12_k36r5s3_p2x1_g9",
    "n1c40h6w17_k40r3s3_p2x2_d2x2_g5",
    "n1c22h7w9_k22r3s4_st3x2_p1x2_g11",
    "n2c8w41_k8s5_st2_p4:0_g2",
    "n1c24d4h5w7_k24t3r3s3_p1x1x1_g6",
    "n1c16h3w4_k16r5s5_p4x4_g4",
    "n1c48h7w10_k48r3s3_p1x1_g3",
    "n1c32h9w9_k32r3s3_st2x2_p1x1_g2",
    "n1c64h10w15_k64r3s3_st2x2_p1x1_g2",
    "n1c64h20w9_k64r3s2_p1x0_d1x2_g2",
    "n1c64h3w2600_k64r3s3_p1x1_g16",
    # Taps in chunks, where lanes are as many as members: 16 or 8, every stride that is a dilation.
    "n1c24h5w13_k24r3s3_p1x1_g3",
    "n1c32h9w11_k32r3s3_st2x2_p2x2_d2x2_g2",
    "n1c32h4w15_k32r2s6_p1x3_g2",
)
RESNEXT = (
    "c128h56w56_k128r3s3_p1x1_g32",
    "c256h56w56_k256r3s3_st2x2_p1x1_g32",
    "c256h28w28_k256r3s3_p1x1_g32",
    "c512h28w28_k512r3s3_st2x2_p1x1_g32",
    "c512h14w14_k512r3s3_p1x1_g32",
    "c1024h14w14_k1024r3s3_st2x2_p1x1_g32",
    "c1024h7w7_k1024r3s3_p1x1_g32",
)


def refusal(problem):
    return find("conv_grouped")[0].supports(problem, machine.cpu())


def problems():
    """All of them; a machine's vectors may be too narrow for so many channels."""
    for dtype in ("f32", "f64"):
        for geometry in GEOMETRIES:
            for direction in ("fprop", "dgrad", "wgrad"):
                for order in Order:
                    problem = parse(cases.spell(direction, dtype, order, geometry))
                    if "two vectors hold" not in str(refusal(problem)):
                        yield problem


def conv_grouped(problem):
    return plan(problem, Policy(algorithm="conv_grouped"))


@pytest.mark.parametrize("problem", [*problems()], ids=str)
def test_small_integers_are_exact(problem):
    data = operands(problem, "integers")
    oracle.assert_exact(problem, conv_grouped(problem)(*data.arrays), data)


@pytest.mark.parametrize("direction", ("fprop", "dgrad"))
@pytest.mark.parametrize("post", [ops for ops in cases.EPILOGUES if "relu+residual" not in ops])
@pytest.mark.parametrize("geometry", (GEOMETRIES[2], GEOMETRIES[4]))
def test_epilogues(geometry, post, direction):
    problem = parse(cases.spell(direction, "f32", "last", geometry + post))
    planned = conv_grouped(problem)
    data = operands(problem)
    out = None if data.before is None else data.before.copy()
    y = planned(*data.arrays, **data.epilogue, out=out)
    oracle.assert_within(problem, y, data, planned.tolerance)


@pytest.mark.skipif(machine.cpu().isa != "avx512", reason="measured with vectors of 16 elements")
@pytest.mark.parametrize("threads", (1, 2))
@pytest.mark.parametrize("batch", (1, 16))
@pytest.mark.parametrize("layer", RESNEXT)
def test_is_chosen_where_it_is_fastest(layer, batch, threads):
    problem = parse(f"fprop:f32:nhwc-krsc:n{batch}{layer}")
    first, second, *_ = plan(problem, Policy(threads=threads)).explain().candidates
    assert first.algorithm.name == "cpu.conv_grouped"
    assert second.time_ms > 1.05 * first.time_ms


@pytest.mark.skipif(machine.cpu().isa != "avx512", reason="measured with vectors of 16 elements")
@pytest.mark.parametrize("threads", (1, 2))
@pytest.mark.parametrize("batch", (1, 16))
@pytest.mark.parametrize("layer", RESNEXT)
def test_wgrad_is_chosen_where_it_is_fastest(layer, batch, threads):
    problem = parse(f"wgrad:f32:nhwc-krsc:n{batch}{layer}")
    assert plan(problem, Policy(threads=threads)).algorithm == "cpu.conv_grouped"


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("geometry", (GEOMETRIES[1], GEOMETRIES[4], GEOMETRIES[9]))
def test_wgrad_accumulates(geometry, order):
    problem = parse(cases.spell("wgrad", "f32", order, geometry + "+accumulate"))
    data = operands(problem, "integers")
    dw = conv_grouped(problem)(*data.arrays, out=data.before.copy())
    oracle.assert_exact(problem, dw, data)


@pytest.mark.parametrize(
    "geometry",
    ("n3c128h16w60_k128r3s3_p1x1_g32", "n2c128h19w40_k128r3s3_p1x1_g8", GEOMETRIES[12]),
)
def test_wgrad_of_several_parts_does_not_depend_on_threads(geometry):
    problem = parse(cases.spell("wgrad", "f32", "last", geometry))
    data = operands(problem)
    one, two = (
        plan(problem, Policy(algorithm="conv_grouped", threads=threads)) for threads in (1, 2)
    )
    assert [step.name for step in one.program.steps] == ["collect", "add"]
    dw = one(*data.arrays)
    oracle.assert_within(problem, dw, data, one.tolerance)
    assert np.array_equal(dw, two(*data.arrays))


def test_plans_of_other_sizes_share_prepared_weights():
    small, large = (
        parse(f"fprop:f32:nhwc-krsc:n1c32h{size}w{size}_k32r3s3_p1x1_g8") for size in (7, 12)
    )
    data = operands(large, "integers")
    prepared = conv_grouped(small).prepare(data.arrays[1])
    oracle.assert_exact(large, conv_grouped(large)(data.arrays[0], prepared), data)


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        ("n1c12h4w4_k12r3s3_p1x1_g4", "4 groups of 3 to 3 channels"),
        ("n1c8h4w4_k16r3s3_p1x1_g2", "2 groups of 4 to 8 channels"),
        ("n1c8h4w4_k8r3s3_p1x1", "1 groups of 8 to 8 channels"),
    ],
)
def test_refuses_in_words(geometry, reason):
    refused = refusal(parse(f"fprop:f32:{geometry}"))
    assert isinstance(refused, Rejected) and reason in str(refused)
