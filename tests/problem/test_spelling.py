"""The one spelling of a problem: golden texts, the round trip, and what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from convforge.problem import (
    Axis,
    ConvProblem,
    Direction,
    DType,
    Operand,
    Order,
    PadMode,
    PoolKind,
    PoolProblem,
    PostOp,
    parse,
)
from convforge.testing import cases
from convforge.testing.strategies import conv_problems, pool_problems

LAST = Operand(order=Order.CHANNELS_LAST)
BF16 = Operand(dtype=DType.BF16)

GOLDEN = {
    "fprop:f32:n8c64h56w56_k64r3s3_p1x1": ConvProblem(
        N=8, C=64, K=64, axes=(Axis(size=56, filter=3, pad_lo=1, pad_hi=1),) * 2
    ),
    "wgrad:f32:nhwc:n16c256h14w14_k256r3s3_st2x2_p0:1x0:1_d2x2_g4": ConvProblem(
        direction=Direction.WGRAD,
        N=16,
        C=256,
        K=256,
        groups=4,
        axes=(Axis(size=14, filter=3, stride=2, dilation=2, pad_hi=1),) * 2,
        x=LAST,
        y=LAST,
    ),
    "fprop:f32:n1c64h56w56_k256r1s1+bias+residual+relu": ConvProblem(
        N=1,
        C=64,
        K=256,
        axes=(Axis(size=56, filter=1),) * 2,
        post=(PostOp.BIAS, PostOp.RESIDUAL, PostOp.RELU),
    ),
    "dgrad:bf16:n1c16d12h28w28_k32t3r3s3+accumulate": ConvProblem(
        direction=Direction.DGRAD,
        N=1,
        C=16,
        K=32,
        axes=(Axis(size=12, filter=3), Axis(size=28, filter=3), Axis(size=28, filter=3)),
        x=BF16,
        w=BF16,
        y=BF16,
        accumulate=True,
    ),
    "fprop:i8-i8-i32:nwc-ksc-ncw:@64-0-32:n0c3w7_k5s2_p2:0_mreplicate": ConvProblem(
        N=0,
        C=3,
        K=5,
        axes=(Axis(size=7, filter=2, pad_lo=2, pad_mode=PadMode.REPLICATE),),
        x=Operand(dtype=DType.I8, order=Order.CHANNELS_LAST, align=64),
        w=Operand(dtype=DType.I8, order=Order.CHANNELS_LAST),
        y=Operand(dtype=DType.I32, align=32),
        acc=DType.I32,
    ),
    "fprop:f16^f16:n1c3h4w5_k2r1s3_p0x1_mzerosxcircular": ConvProblem(
        N=1,
        C=3,
        K=2,
        axes=(
            Axis(size=4, filter=1),
            Axis(size=5, filter=3, pad_lo=1, pad_hi=1, pad_mode=PadMode.CIRCULAR),
        ),
        x=Operand(dtype=DType.F16),
        w=Operand(dtype=DType.F16),
        y=Operand(dtype=DType.F16),
        acc=DType.F16,
    ),
    "fprop:max:f32:nhwc:n1c64h112w112_r3s3_st2x2_p1x1+indices": PoolProblem(
        kind=PoolKind.MAX,
        N=1,
        C=64,
        axes=(Axis(size=112, filter=3, stride=2, pad_lo=1, pad_hi=1),) * 2,
        x=LAST,
        indices=True,
    ),
    "dgrad:avg:f64:@64:n2c4w9_s3_st2+ceil+exclude_pad+divisor5": PoolProblem(
        direction=Direction.DGRAD,
        kind=PoolKind.AVG,
        N=2,
        C=4,
        axes=(Axis(size=9, filter=3, stride=2),),
        x=Operand(dtype=DType.F64, align=64),
        ceil_mode=True,
        count_include_pad=False,
        divisor=5,
    ),
    "fprop:avg:f32:nhwc:n1c64h7w10_a3x5": PoolProblem(
        kind=PoolKind.AVG,
        N=1,
        C=64,
        axes=(Axis(size=7, filter=3, windows=3), Axis(size=10, filter=2, windows=5)),
        x=LAST,
    ),
}


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_spellings(text):
    assert str(GOLDEN[text]) == text
    assert parse(text) == GOLDEN[text]
    assert hash(parse(text)) == hash(GOLDEN[text])


@given(conv_problems(modes=tuple(PadMode), dtypes=tuple(DType)))
def test_convolutions_survive_the_round_trip(problem):
    assert parse(str(problem)) == problem


@given(pool_problems())
def test_poolings_survive_the_round_trip(problem):
    assert parse(str(problem)) == problem


@pytest.mark.parametrize(
    "texts", [cases.CONV, cases.CONV_EPILOGUES, cases.CONV_TYPES, cases.POOL], ids=len
)
def test_shared_cases_are_canonical_and_unique(texts):
    assert [str(parse(text)) for text in texts] == list(texts)
    assert len(set(texts)) == len(texts)


def test_defaults_may_be_spelled_out():
    full = "fprop:f32:nchw-kcrs-nchw:n1c2h3w4_k5r1s1_st1x1_p0x0_d1x1_g1"
    assert str(parse(full)) == "fprop:f32:n1c2h3w4_k5r1s1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "wanted something like"),
        ("conv", "wanted something like"),
        ("n1c2h3w4_k5r1s1", "wanted something like"),
        ("fprop:f32:n1c2h3w4_k5r1s1_q9", "wanted something like"),
        ("fprop:f32:n1c2h3w4_k5r1s1_g2_d1x1", "wanted something like"),
        ("sideways:f32:n1c2h3w4_k5r1s1", "sideways"),
        ("fprop:f33:n1c2h3w4_k5r1s1", "f33"),
        ("fprop:f32:nhcw:n1c2h3w4_k5r1s1", "nhcw"),
        ("fprop:f32:n1c2h3w4_k5s1", "axes h3w4 do not go with filter s1"),
        ("fprop:f32:n1c2w3h4_k5r1s1", "axes w3h4"),
        ("fprop:f32:n1c2h3w4_k5r1s1_st2", "stride '2' is not one value per axis"),
        ("fprop:f32:n1c2h3w4_k5r1s1_p1x1x1", "pad '1x1x1' is not one value per axis"),
        ("fprop:f32:n1c2h3w4_k5r1s1_mmirrorxmirror", "mirror"),
        ("fprop:f32:n1c2h3w4_k5r1s1+tanh", "tanh"),
        ("fprop:f32:n1c2h3w4_k5r4s1", "the filter is larger than the padded input on axis h"),
        ("fprop:min:f32:n1c2h3w4_r1s1", "min"),
        ("fprop:max:f32:n1c2h3w4_r1s1+bias", "bias"),
        ("fprop:avg:f32:n1c2h3w4_r1s1+divisorx", "divisorx|invalid literal"),
        ("fprop:f32:n1c2h3w4_k5a1x1", "axis h is adaptive, which only pooling's are"),
        ("fprop:max:f32:n1c2h3w4_a3", "axes h3w4 do not go with adaptive windows a3"),
        ("fprop:max:f32:n1c2h3w4_a0x2", "windows of axis h is 0; it must be at least 1"),
        ("fprop:max:f32:n1c2h3w4_a2x2_p1x1", "adaptive windows have no pad"),
        ("fprop:max:f32:n1c2h3w4_a2x2+ceil", "no padding, no ceil_mode and no divisor"),
        ("fprop:avg:f32:n1c2h3w4_a2x2+divisor3", "no padding, no ceil_mode and no divisor"),
        ("wgrad:max:f32:n1c2h3w4_r1s1", "no wgrad"),
        ("fprop:f32-f32-f32-f32:n1c2h3w4_k5r1s1", "f32-f32-f32-f32"),
        ("fprop:f32:nchw:@0:extra:n1c2h3w4_k5r1s1", "too many parts"),
    ],
)
def test_unreadable_texts_say_what_is_wrong(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("mode", PadMode)
def test_a_mode_without_padding_says_nothing(mode):
    axis = Axis(size=5, filter=3, pad_mode=mode)
    assert axis == Axis(size=5, filter=3)
    assert replace(axis, pad_hi=1, pad_mode=mode).pad_mode is mode
    spelling = "dgrad:f32:n1c2h5w5_k3r3s3"
    assert str(parse(f"{spelling}_m{mode}x{mode}")) == spelling
