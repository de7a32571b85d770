"""Depthwise convolution where the shared cases say little: long, strided, dilated filters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convforge.kernels.cpu._depthwise_blocks import in_blocks
from convforge.plan import Policy, plan
from convforge.problem import Direction, Order, parse
from convforge.testing import cases, oracle
from convforge.testing.data import operands

GEOMETRIES = (
    "n2c24h14w14_k24r3s3_p1x1_g24",
    "n1c17h15w29_k17r5s5_st2x2_p2x2_g17",
    "n1c16h9w11_k16r7s7_p3x3_g16",
    "n1c16h7w7_k16r13s13_p6x6_g16",
    "n1c5h20w18_k5r3s3_st2x2_p0:1x1:0_g5",
    "n1c20h19w33_k20r3s5_st3x2_p1x2_d2x1_g20",
    "n1c3h16w17_k3r3s3_p2x4_d2x4_g3",
    "n1c4h12w13_k4r4s2_st1x4_p3:1x2:3_g4",
    "n1c6h17w16_k18r3s3_st2x2_p1x1_g6",
    "n2c7h9w35_k14r5s3_p2x1_g7",
    "n2c18w40_k18s4_p3:0_g18",
    "n1c6w37_k12s5_st3_p2_d2_g6",
    "n1c17d5h6w7_k17t3r3s3_p1x1x1_g17",
    "n1c4d7h9w20_k8t3r3s3_st2x2x2_p1x1x1_g4",
    "n1c2h17w18_k2r21s19_p10x9_g2",
    "n1c72h9w17_k72r3s3_p1x1_g72",
    "n1c512h9w30_k512r3s3_st2x2_p1x1_g512",
    "n2c20h9w13_k20r3s3_st2x2_p1x1_g20",
    "n2c19h3w4_k19r3s3_p1x1_g19",
    "n1c33h8w9_k33r5s4_st1x2_p2:1x1:2_d1x2_g33",
    "n1c20h30w30_k20r3s3_g20",
    "n1c20h23w30_k20r3s3_p1x2:3_g20",
    "n1c20h31w31_k20r3s3_st2x2_p3x3_g20",
    "n1c17h16w15_k17r3s3_st2x2_g17",
)
MIXED = GEOMETRIES[1::7]
ORDERS = ("first", "last", "nhwc-kcrs-nchw", "nchw-krsc-nhwc")


def problems():
    for geometry in GEOMETRIES:
        spatial = sum(letter in "dhw" for letter in geometry.partition("_")[0])
        for direction in Direction:
            for order in ORDERS if spatial == 2 and geometry in MIXED else Order:
                yield parse(cases.spell(direction, "f32", order, geometry))
    for dgrad, wgrad in zip(GEOMETRIES[::2], GEOMETRIES[1::2], strict=True):
        yield parse(cases.spell("dgrad", "f64", "last", dgrad))
        yield parse(cases.spell("wgrad", "f64", "first", wgrad))


@pytest.mark.parametrize("problem", [*problems()], ids=str)
def test_small_integers_are_exact(problem):
    planned = plan(problem, Policy(algorithm="conv_depthwise"))
    data = operands(problem, "integers")
    oracle.assert_exact(problem, planned(*data.arrays), data)


@pytest.mark.parametrize("direction", ("fprop", "dgrad"))
@pytest.mark.parametrize("geometry", (*GEOMETRIES[:5], *GEOMETRIES[-3:]))
def test_prepared_weights_give_the_same(geometry, direction):
    problem = parse(cases.spell(direction, "f32", "last", geometry))
    planned = plan(problem, Policy(algorithm="conv_depthwise"))
    data = operands(problem)
    images, w = data.arrays
    prepared = planned.prepare(w)
    assert prepared.format != "plain:last"
    assert planned(images, prepared).tobytes() == planned(images, w).tobytes()


@pytest.mark.parametrize("direction", ("fprop", "dgrad"))
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("post", [ops for ops in cases.EPILOGUES if "relu+residual" not in ops])
@pytest.mark.parametrize("geometry", (GEOMETRIES[8], GEOMETRIES[11], *GEOMETRIES[17::2]))
def test_epilogues(geometry, post, order, direction):
    problem = parse(cases.spell(direction, "f32", order, geometry + post))
    planned = plan(problem, Policy(algorithm="conv_depthwise"))
    data = operands(problem)
    out = None if data.before is None else data.before.copy()
    y = planned(*data.arrays, **data.epilogue, out=out)
    oracle.assert_within(problem, y, data, planned.tolerance)


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("geometry", GEOMETRIES[:2])
def test_wgrad_accumulates(geometry, order):
    problem = parse(cases.spell("wgrad", "f32", order, geometry + "+accumulate"))
    planned = plan(problem, Policy(algorithm="conv_depthwise"))
    data = operands(problem, "integers")
    oracle.assert_exact(problem, planned(*data.arrays, out=data.before.copy()), data)


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("geometry", ("n4c40h17w19_k40r3s3_p1x1_g40", "n3c2h40w18_k2r5s5_p2x2_g2"))
def test_bits_do_not_depend_on_threads(geometry, direction, order):
    problem = parse(cases.spell(direction, "f32", order, geometry))
    data = operands(problem)
    one, two = (
        plan(problem, Policy(algorithm="conv_depthwise", threads=threads))(*data.arrays)
        for threads in (1, 2)
    )
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("direction", Direction)
def test_the_dispatcher_takes_it_for_depthwise_layers(direction, order):
    problem = parse(cases.spell("fprop", "f32", order, "n1c64h28w28_k64r3s3_p1x1_g64"))
    assert plan(replace(problem, direction=direction)).algorithm == "cpu.conv_depthwise"


@pytest.mark.parametrize(
    ("geometry", "kernel"),
    (
        ("n1c20h9w13_k20r3s3_st2x2_p1x1_g20", "depthwise_rows3x3"),
        ("n1c20h9w29_k20r7s7_p3x3_g20", "depthwise_rows"),
        ("n1c16h28w28_k16r3s3_p1x1_g16", "depthwise_planes3x3"),
        ("n16c64h224w224_k64r3s3_p1x1_g64", "depthwise_rows3x3"),
        ("n1c8h28w28_k8r7s7_p3x3_g8", "depthwise_planes"),
        ("n1c17h9w9_k34r3s3_st2x2_p1x1_g17", "depthwise_planes3x3"),
    ),
)
def test_channels_first_takes_one_launch(geometry, kernel):
    problem = parse(cases.spell("fprop", "f32", "first", geometry))
    steps = plan(problem, Policy(algorithm="conv_depthwise")).program.steps
    assert [step.kernel.function.__name__ for step in steps] == [kernel]


@pytest.mark.parametrize("size", (14, 56, 112))
@pytest.mark.parametrize("channels", (32, 128))
def test_the_order_of_sums_does_not_depend_on_the_batch(size, channels):
    text = "fprop:f32:n{}c{}h{}w{}_k{}r3s3_p1x1_g{}"
    ways = {
        in_blocks(parse(text.format(n, channels, size, size, channels, channels)))
        for n in (1, 2, 16, 64)
    }
    assert len(ways) == 1
