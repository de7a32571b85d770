"""Pad modes: nothing of an image but its border is copied, and every output has one owner."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from convforge.kernels.cpu.conv_bordered import fringes
from convforge.plan import Policy, plan
from convforge.problem import Axis, Direction, PadMode, parse
from convforge.registry import algorithms
from convforge.runtime import machine

MACHINE = machine.cpu()
MODES = ("reflect", "replicate", "circular")
IMAGE = "f32:nhwc:n2c32h{size}w{size}_k32r3s3_p1x1"
LAYERS = (
    IMAGE,
    "f32:n1c32h{size}w{size}_k48r5s5_st2x2_p2x2",
    "f32:nhwc:n1c48h{size}w{size}_k48r7s7_p3x3_g48",
    "f32:nhwc:n1c32h{size}w{size}_k32r3s3_p1x1_g4",
    "f32:nhwc:n1c3h{size}w{size}_k32r7s7_st2x2_p3x3",
)


def with_mode(problem, mode):
    axes = tuple(replace(axis, pad_mode=PadMode(mode)) for axis in problem.axes)
    return replace(problem, axes=axes)


def programs(problem):
    """Programs of everybody but the reference, by name."""
    for algorithm in algorithms("cpu"):
        if algorithm.supports(problem, MACHINE) is None and "reference" not in algorithm.name:
            config = next(iter(algorithm.configs(problem, MACHINE, 1 << 34)))
            yield algorithm, config, algorithm.program(problem, config, MACHINE)


def fringe_bytes(program):
    return sum(b.nbytes for b in program.buffers if b.name.startswith(("x_", "y_"))
               and b.name[2:].isdigit())  # fmt: skip


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_copied_grows_with_the_border(layer, direction):
    small, large = (
        with_mode(parse(f"{direction}:{layer.format(size=size)}"), "reflect") for size in (96, 192)
    )
    copied = {a.name: fringe_bytes(program) for a, _, program in programs(small)}
    seen = 0
    for algorithm, _, program in programs(large):
        if "bordered" not in algorithm.name:
            continue
        seen += 1
        moved = sum(s.cost.bytes for s in program.steps if s.name in ("cut", "put", "add"))
        nbytes = fringe_bytes(program)
        assert 0 < nbytes < 2.2 * copied[algorithm.name]
        assert moved <= 4 * nbytes
        assert nbytes < (prod(large.x_shape) + prod(large.y_shape)) * 4 / 4
    assert seen


@pytest.mark.parametrize("direction", [Direction.FPROP, Direction.WGRAD])
@pytest.mark.parametrize("mode", MODES)
def test_an_index_map_takes_the_workspace_of_zeros(direction, mode):
    zeros = parse(f"{direction}:{IMAGE.format(size=28)}")
    names = set()
    for algorithm, config, program in programs(with_mode(zeros, mode)):
        if "bordered" in algorithm.name:
            continue
        plain = algorithm.program(zeros, config, MACHINE)
        assert program.buffers == plain.buffers
        assert [step.name for step in program.steps] == [step.name for step in plain.steps]
        names.add(algorithm.name.split(".")[1])
    assert names == {"conv_direct", "conv_im2col", "conv_winograd3x3"}


@pytest.mark.parametrize("direction", Direction)
def test_somebody_else_than_the_reference_is_chosen(direction):
    for layer in LAYERS:
        for mode in MODES:
            problem = with_mode(parse(f"{direction}:{layer.format(size=28)}"), mode)
            assert "reference" not in plan(problem).algorithm


@pytest.mark.parametrize(
    ("axis", "count", "starts"),
    [
        (Axis(size=9, filter=3, pad_lo=1, pad_hi=1), 1, (0, 8)),
        (Axis(size=8, filter=3, stride=2, pad_lo=1, pad_hi=1), 1, (0,)),
        (Axis(size=9, filter=3, stride=2, pad_lo=1, pad_hi=1), 1, (0, 4)),
        (Axis(size=9, filter=5, pad_lo=0, pad_hi=2), 2, (5,)),
        (Axis(size=9, filter=5, pad_lo=1, pad_hi=3), 3, (0, 6)),
        (Axis(size=3, filter=5, pad_lo=2, pad_hi=2), 3, (0,)),
        (Axis(size=9, filter=3, dilation=2, pad_lo=2, pad_hi=2), 2, (0, 7)),
    ],
)
def test_fringes_hold_the_outputs_that_see_padding(axis, count, starts):
    problem = replace(
        parse("fprop:f32:n1c16w9_k16s3"), axes=(replace(axis, pad_mode=PadMode.CIRCULAR),)
    )
    (found,) = fringes(problem)
    (x,), (y,) = found.x, found.y
    assert y.count == count
    assert tuple(y.start + i * y.apart for i in range(found.sides)) == starts
    assert x.start == starts[0] * axis.stride - axis.pad_lo
    assert x.apart == (starts[-1] - starts[0]) * axis.stride
    assert found.problem.out == (count,)


def test_a_window_that_needs_no_padding_has_no_fringe():
    axis = Axis(size=8, filter=2, stride=3, pad_hi=1, pad_mode=PadMode.REPLICATE)
    assert fringes(replace(parse("fprop:f32:n1c16w8_k16s2"), axes=(axis,))) == ()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "algorithm", ["conv_direct", "conv_winograd3x3.f4", "conv_bordered.direct"]
)
def test_a_gradient_is_that_of_the_padded_image(mode, algorithm):
    """dx by the mode is dx of the padded image, each border pixel added to where it came from."""
    forward = with_mode(parse("fprop:f32:n2c16h9w8_k16r3s3_p1x1"), mode)
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, forward.x_shape).astype(np.float32)
    w = rng.integers(-3, 4, forward.w_shape).astype(np.float32)
    around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=numpy_mode)
    y = plan(forward, Policy(algorithm=algorithm))(x, w)
    want = plan("fprop:f32:n2c16h11w10_k16r3s3")(around, w)
    np.testing.assert_allclose(y, want, atol=0 if "direct" in algorithm else 1e-2)
    backward = replace(forward, direction=Direction.DGRAD)
    dy = rng.integers(-3, 4, y.shape).astype(np.float32)
    if "bordered" not in algorithm:
        algorithm = algorithm.replace("conv_", "conv_bordered.")
    dx = plan(backward, Policy(algorithm=algorithm))(dy, w)
    wide = plan("dgrad:f32:n2c16h11w10_k16r3s3")(dy, w)
    places = np.pad(
        np.arange(x.size).reshape(x.shape), ((0, 0), (0, 0), (1, 1), (1, 1)), mode=numpy_mode
    )
    want = np.bincount(places.ravel(), wide.ravel(), x.size).reshape(x.shape)
    np.testing.assert_allclose(dx, want, atol=1e-2)
