"""conv_direct: every tile, and images of few channels, which it reads in their own order."""

from dataclasses import replace

import numpy as np
import pytest

from convforge import reference
from convforge.kernels.cpu import conv_direct
from convforge.kernels.cpu._tile_shape import FEW_ROWS, SHAPES, choose_shape
from convforge.plan import Policy, plan
from convforge.runtime import machine
from convforge.testing.data import operands

FEW = [
    "fprop:f32:nhwc-krsc:n1c3h24w24_k64r7s7_st2x2_p3x3",
    "fprop:f32:n1c3h24w23_k64r7s7_st2x2_p3x3",
    "fprop:f32:n1c3h224w224_k64r7s7_st2x2_p3x3",  # its result exceeds the L2
    "fprop:f32:n2c3h14w23_k40r3s5_st2x1_p1:0x2:3_d1x3",
    "fprop:f32:nhwc:n2c7h14w23_k40r3s5_p1x2_d2x1",
    "fprop:f64:n2c15h9w9_k17r1s1_st2x2_p1x1",
    "fprop:f32:n2c3d5h8w9_k17t3r3s2_p1x1x1",
    "fprop:f32:n2c3w19_k17s5_p3",
]


@pytest.mark.parametrize("text", FEW)
def test_few_channels_are_padded_and_not_transposed(text):
    chosen = plan(text, Policy(algorithm="conv_direct"))
    assert [step.name for step in chosen.program.steps] == ["pad", "multiply"]
    x, w = operands(chosen.problem, "integers").arrays
    expected = reference.compute(chosen.problem, x, w)
    assert np.array_equal(chosen(x, chosen.prepare(w)), expected)


def test_what_no_tap_leaves_is_read_in_place():
    chosen = plan("fprop:f32:n2c3h24w24_k40r4s4_st4x4", Policy(algorithm="conv_direct"))
    assert [step.name for step in chosen.program.steps] == ["multiply"]
    x, w = operands(chosen.problem, "integers").arrays
    assert np.array_equal(chosen(x, w), reference.compute(chosen.problem, x, w))


@pytest.mark.parametrize(
    "text",
    [
        "wgrad:f32:nhwc-krsc:n2c37h9w117_k45r1s1",
        "wgrad:f32:nhwc-krsc:n2c20h2w1301_k3r1s2_p0x1",
        "wgrad:f32:nhwc-krsc:n3c16h33w21_k20r3s3_st2x2_p1x1",
    ],
)
def test_wgrad_of_many_chunks_of_pixels_is_exact(text):
    chosen = plan(text, Policy(algorithm="conv_direct"))
    given = operands(chosen.problem, "integers")
    expected = reference.compute(chosen.problem, *given.arrays)
    assert np.array_equal(chosen(*given.arrays), expected)


@pytest.mark.parametrize("shape", [*SHAPES[machine.isa()], FEW_ROWS[machine.isa()]])
def test_every_tile_is_exact(shape, monkeypatch):
    monkeypatch.setattr(conv_direct, "choose_shape", lambda *sizes: shape)
    rows, columns = shape
    width = columns * machine.cpu().vector_bytes // 4
    # A tile and a pixel more, a tile's channels and one more; a plan for each shape.
    text = f"fprop:f32:nhwc:n1c9h2w{rows + 1}_k{width + 1}r3s3_p1x1"
    chosen = plan(text, Policy(algorithm="conv_direct", workspace_limit=(1 << 28) + rows))
    assert (chosen.config.rows, chosen.config.columns) == shape
    x, w = operands(chosen.problem, "integers").arrays
    assert np.array_equal(chosen(x, w), reference.compute(chosen.problem, x, w))


def test_another_tile_must_save_what_its_compilation_is_worth():
    facts = machine.cpu()
    preferred, *others = SHAPES[facts.isa]
    channels = facts.vector_bytes // 4
    assert choose_shape(facts, 4, 10_000, channels, 1) == preferred
    assert choose_shape(facts, 4, 10_000, channels, 1_000) in others


@pytest.mark.parametrize(
    "text",
    [
        "fprop:f32:nhwc:n1c1024h5w6_k33r1s1",
        "fprop:f32:nhwc:n1c512h11w13_k33r1s1_st2x2",
        "fprop:f32:nhwc:n1c1024h5w6_k33r1s1_p1x1",
        "dgrad:f32:nhwc:n1c33h6w8_k1024r2s2_st2x2_p1x1",
    ],
)
def test_rows_that_share_a_set_of_the_l1_fit_its_ways(text):
    facts = machine.cpu()
    chosen = plan(text, Policy(algorithm="conv_direct"))
    fewest = min(rows for rows, _ in SHAPES[facts.isa])
    assert chosen.config.rows <= max(facts.l1_bytes // 4096, fewest)
    arrays = operands(chosen.problem, "integers").arrays
    assert np.array_equal(chosen(*arrays), reference.compute(chosen.problem, *arrays))


def test_rows_in_other_sets_have_the_preferred_tile():
    facts = machine.cpu()
    preferred = SHAPES[facts.isa][0]
    for apart in (4 * 1024 + 64, 2048, 4):
        assert choose_shape(facts, 4, 10_000, 1 << 12, 1_000, apart) == preferred


@pytest.mark.parametrize("l1_bytes", [32 << 10, 48 << 10, 64 << 10])
@pytest.mark.parametrize("isa", SHAPES)
def test_every_machine_has_a_tile_for_rows_that_share_a_set(isa, l1_bytes):
    facts = replace(machine.cpu(), isa=isa, l1_bytes=l1_bytes)
    for pixels in (1, 3, 784):
        assert choose_shape(facts, 4, pixels, 256, 1024, 4096) in (*SHAPES[isa], FEW_ROWS[isa])
