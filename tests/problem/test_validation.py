"""Sizes that describe nothing are refused by name, with what came and what was wanted."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from convforge.problem import (
    Axis,
    ConvProblem,
    Direction,
    PadMode,
    PoolKind,
    PoolProblem,
    PostOp,
)

AXIS = Axis(size=8, filter=3)
CONV = ConvProblem(N=1, C=4, K=6, axes=(AXIS, AXIS))
POOL = PoolProblem(kind=PoolKind.MAX, N=1, C=4, axes=(AXIS, AXIS))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filter": 0}, "filter of axis w is 0; it must be at least 1"),
        ({"stride": 0}, "stride of axis w is 0; it must be at least 1"),
        ({"stride": -1}, "stride of axis w is -1; it must be at least 1"),
        ({"dilation": 0}, "dilation of axis w is 0; it must be at least 1"),
        ({"size": -1}, "size of axis w is -1; it must be at least 0"),
        ({"pad_lo": -1}, r"padding of axis w is \(-1, 0\); it must not be negative"),
        ({"pad_hi": -2}, r"padding of axis w is \(0, -2\); it must not be negative"),
        ({"filter": 9}, "larger than the padded input on axis w: it spans 9 .*the input has 8"),
        ({"dilation": 4}, r"it spans 9 \(filter 3, dilation 4\), the input has 8 \(8 \+"),
        (
            {"pad_lo": 8, "pad_mode": PadMode.REFLECT},
            "reflect padding 8 on axis w must be smaller than its size 8",
        ),
        (
            {"pad_hi": 9, "pad_mode": PadMode.CIRCULAR},
            "circular padding 9 on axis w must not exceed its size 8",
        ),
        (
            {"size": 0, "pad_lo": 3, "pad_mode": PadMode.REPLICATE},
            "replicate padding 3 on axis w",
        ),
    ],
)
def test_axes(change, words):
    with pytest.raises(ValueError, match=words):
        replace(CONV, axes=(AXIS, replace(AXIS, **change)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"N": -1}, "N is -1; it must not be negative"),
        ({"C": -4}, "C is -4; it must not be negative"),
        ({"K": -6}, "K is -6; it must not be negative"),
        ({"groups": 0}, "groups is 0; it must be at least 1"),
        ({"groups": 3}, "groups=3 must divide both the input channels C=4"),
        ({"groups": 4}, "groups=4 must divide .* the output channels K=6"),
        ({"axes": ()}, "0 spatial axes; wanted 1, 2 or 3"),
        ({"axes": (AXIS,) * 4}, "4 spatial axes; wanted 1, 2 or 3"),
        ({"post": (PostOp.RELU, PostOp.RELU)}, r"post ops relu\+relu repeat an op"),
        (
            {"direction": Direction.WGRAD, "post": (PostOp.BIAS,)},
            "wgrad takes no post ops, got bias",
        ),
    ],
)
def test_convolutions(change, words):
    with pytest.raises(ValueError, match=words):
        replace(CONV, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"N": -1}, "N is -1; it must not be negative"),
        ({"C": -1}, "C is -1; it must not be negative"),
        ({"axes": (AXIS,) * 4}, "4 spatial axes; wanted 1, 2 or 3"),
        ({"direction": Direction.WGRAD}, "no weights, so no wgrad"),
        ({"axes": (replace(AXIS, size=0, pad_lo=1, pad_hi=2),)}, "size of axis w is 0"),
        ({"axes": (replace(AXIS, pad_lo=2),)}, r"padding \(2, 0\) of axis w .* half .* extent 3"),
        ({"axes": (replace(AXIS, stride=0),)}, "stride of axis w is 0"),
        (
            {"axes": (replace(AXIS, pad_lo=1, pad_mode=PadMode.REFLECT),)},
            "pooling has no pad mode reflect",
        ),
        ({"divisor": 0}, "divisor_override is 0; it must be at least 1"),
        ({"kind": PoolKind.AVG, "indices": True}, "indices are defined for max pooling only"),
    ],
)
def test_poolings(change, words):
    with pytest.raises(ValueError, match=words):
        replace(POOL, **change)


def test_a_dilated_window_may_not_step_over_the_whole_image():
    # Taps at -1 and 1 around an image of one element.
    with pytest.raises(ValueError, match="padding alone"):
        PoolProblem(
            kind=PoolKind.MAX,
            N=1,
            C=1,
            axes=(Axis(size=1, filter=2, dilation=2, pad_lo=1, pad_hi=1),),
        )


def test_problems_are_frozen():
    with pytest.raises(FrozenInstanceError):
        CONV.N = 2
