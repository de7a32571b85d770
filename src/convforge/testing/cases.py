"""The shared list of problems that every kernel is tried on; each takes milliseconds.

A geometry is the part of a problem's spelling behind types and orders. Every geometry runs in
every direction; the other lists vary types, memory orders and epilogues over a few of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from convforge.problem import Direction, Order, parse

EDGES = (
    "n2c5h7w9_k6r3s3_p1x1",
    "n1c4h8w10_k8r3s5_p1x2",
    "n1c1h6w7_k1r3s3_p1x1",
    "n1c3h9w8_k5r2s2",
    "n1c4h9w8_k5r4s4_p2:1x1:2",
    "n2c8h5w7_k16r1s1",
    "n3c8h4w5_k16r4s5",
    "n1c2h9w9_k3r9s9_p4x4",
    "n1c2h3w4_k4r1s1_p2x2",
    "n1c3h5w6_k4r2s3_p2x3",
    "n1c3h2w3_k4r5s4_p4:3x2:5",
    "n1c4h7w8_k8r3s3_p0:1x2:1",
    "n1c4h11w12_k8r3s3_p2x2_d2x2",
    "n1c4h11w13_k8r3s2_p2x1_d2x3",
    "n2c6h13w11_k10r3s2_st2x3_p2:1x0:2_d2x2_g2",
)
STRIDES = (
    "n1c4h8w9_k4r3s3_st2x2",
    "n1c4h9w11_k8r1s1_st2x2",
    "n1c4h13w14_k8r3s3_st3x3_p1x1",
    "n1c4h13w14_k8r3s3_st4x4_p1x1",
    "n1c4h10w11_k8r2s2_st3x4",
    "n1c4h9w10_k8r3s3_st1x2_p1x1",
    "n1c3h20w22_k16r7s7_st2x2_p3x3",
)
EMPTY = (
    "n0c4h5w6_k8r3s3_p1x1",
    "n2c0h5w6_k8r3s3_p1x1",
    "n2c4h5w6_k0r3s3_p1x1",
    "n0c0h5w6_k0r1s1",
    "n1c3h0w4_k4r3s3_p2x1",
    "n2c3h0w0_k4r1s1_p1x1",
)
CHANNELS = (
    *(f"n1c4h5w6_k{k}r3s3_p1x1" for k in (5, 31, 32, 33, 48, 65)),
    *(f"n1c{c}h5w6_k8r3s3_p1x1" for c in (7, 15, 16, 17, 33)),
    *(f"n1c{c}h4w6_k{k}r1s1" for c, k in ((1, 32), (48, 33), (65, 64))),
    *(f"n2c{c}h3w{w}_k{k}r1s1" for c, w, k in ((5, 3, 1), (16, 5, 2), (33, 6, 3), (64, 11, 4))),
)
PIXELS = (
    *(f"n1c4h1w{w}_k8r1s1" for w in (13, 14, 15, 28, 29)),
    *(f"n1c4h3w{w}_k8r3s3_p1x1" for w in (13, 14, 15, 27)),
    "n3c4h2w7_k32r1s1",
    "n2c4h14w2_k32r3s1_p1x0",
)
GROUPS = (
    "n2c8h6w7_k8r3s3_p1x1_g8",
    "n1c6h6w7_k12r3s3_p1x1_g6",
    "n1c33h7w6_k33r3s3_st2x2_p1x1_g33",
    "n1c10h6w7_k6r3s3_p1x1_g2",
    "n1c66h5w5_k34r3s3_p1x1_g2",
    "n1c20h4w7_k12r1s1_g4",
    "n2c24h5w9_k24r3s3_p1x1_g6",
    "n1c40h7w6_k40r3s2_st2x2_p1x1_g5",
    "n1c6h4w17_k6r2s3_p1x0_d1x2_g3",
)
RANKS = (
    "n2c4w17_k8s3_p1",
    "n1c4w20_k8s2_p4:0_d4",
    "n1c6w19_k33s5_st2_p2_g3",
    "n1c3d5h6w7_k8t3r3s3_p1x1x1",
    "n2c4d4h5w6_k4t2r1s3_st1x2x1_p0x0x1_g2",
    "n1c4d5h6w5_k33t3r3s3_st2x2x2_p1x1x1",
)
MODES = (
    "n1c3h5w6_k4r3s3_p1x2_mreflectxreflect",
    "n1c3h5w6_k4r3s3_st2x1_p1:3x2:0_mreplicatexreplicate",
    "n1c3h5w6_k4r3s3_p2x1_d2x1_mcircularxcircular",
    "n2c4w9_k4s3_p1_mcircular",
    "n2c20h9w8_k24r3s3_p1x1_mreflectxcircular",
    "n1c16h14w13_k16r3s3_st2x2_p1x1_mreplicatexreflect",
    "n1c5h14w13_k6r11s9_p5x4_mcircularxreflect",
    "n2c8h6w7_k8r3s3_p1x1_mcircularxreplicate_g8",
    "n1c18h9w10_k18r5s4_p2x1_mreflectxcircular_g18",
    "n1c16h6w7_k16r3s3_p1x1_mzerosxreflect_g4",
    "n1c32h9w8_k32r3s3_st2x1_p1x1_mcircularxreflect_g8",
    "n1c17d4h5w6_k18t3r3s3_p1x1x1_mcircularxreplicatexreflect",
)
EPILOGUES = (
    "+bias",
    "+relu",
    "+residual",
    "+bias+relu",
    "+bias+relu6",
    "+bias+silu",
    "+bias+gelu",
    "+bias+gelu_tanh",
    "+bias+residual+relu",
    "+bias+relu+residual",
    "+accumulate",
    "+accumulate+bias+relu",
)
_FEW = (
    "n2c5h7w9_k6r3s3_p1x1",
    "n1c4h13w14_k33r3s3_st2x2_p1:0x0:1",
    "n1c10h6w7_k6r3s3_p1x1_g2",
    "n2c8h5w15_k40r1s1",
)
_ORDERS = ("nchw", "nchw-krsc", "nhwc", "nhwc-krsc", "nhwc-kcrs-nchw", "nchw-krsc-nhwc")
_TYPES = ("f16", "bf16", "c64", "c128", "i8", "i16", "i32", "i64", "i16-i16-i16^i64")
_MIXED = {
    # What is read and what is written, in each direction.
    "fprop": ("i8-i8-i32", "u8-i8-i32", "i16-i16-i64^i64", "f16-f16-f32", "bf16-bf16-f32"),
    "dgrad": ("i32-i8-i8^i32", "i32-i8-u8^i32", "i64-i16-i16^i64", "f32-f16-f16", "f32-bf16-bf16"),
    "wgrad": ("i8-i32-i8", "u8-i32-i8", "i16-i64-i16^i64", "f16-f32-f16", "bf16-f32-bf16"),
}


def spell(direction: str, dtype: str, order: str, geometry: str) -> str:
    """Put the string of a problem together, in its canonical form.

    Args:
        direction: Its first word.
        dtype: Its types, behind ``max:`` or ``avg:`` for pooling.
        order: ``first`` or ``last`` for channels in all operands, or an order spelled in full.
        geometry: The rest, from ``n`` on.
    """
    if order in tuple(Order):
        sizes, _, filters = geometry.partition("_")
        rank = sum(letter in "dhw" for letter in sizes)
        spelled = Order(order).image(rank)
        if filters.startswith("k"):
            spelled += f"-{Order(order).filters(rank)}"
        order = spelled
    return str(parse(f"{direction}:{dtype}:{order}:{geometry}"))


def _all(
    directions: Iterable[str],
    dtypes: Iterable[str],
    orders: Iterable[str],
    geometries: Iterable[str],
) -> tuple[str, ...]:
    """Every combination, each once."""
    combinations = product(directions, dtypes, orders, geometries)
    return tuple(dict.fromkeys(spell(*parts) for parts in combinations))


_EACH = tuple(Direction)
_BOTH = tuple(Order)
_SHAPES = (*EDGES, *STRIDES, *EMPTY, *CHANNELS, *PIXELS, *GROUPS, *RANKS)
_F64_SHAPES = (*EDGES[:8], *STRIDES[:3], *CHANNELS[:6], *GROUPS[:2], *RANKS[:4])

CONV = tuple(
    dict.fromkeys(
        (
            *_all(_EACH, ["f32"], _BOTH, _SHAPES),
            *_all(_EACH, ["f64"], ["last"], _F64_SHAPES),
            *_all(_EACH, ["f32", "f64"], _ORDERS, _FEW),
            *_all(_EACH, ["f32"], _BOTH, MODES),
        )
    )
)
"""Float problems in every direction, without epilogues."""

CONV_EPILOGUES = (
    *_all(["fprop", "dgrad"], ["f32"], _BOTH, [few + op for few in _FEW[:3] for op in EPILOGUES]),
    *_all(["fprop", "dgrad"], ["f64"], ["last"], [_FEW[1] + op for op in EPILOGUES]),
    *_all(["fprop"], ["f32"], ["last"], ["n1c33h3w6_k3r1s1" + op for op in EPILOGUES]),
    *_all(["fprop", "dgrad"], ["f32"], ["last"], ["n1c3h6w6_k4r3s3_p1x1+residual+bias"]),
    *_all(["wgrad"], ["f32", "f64"], _BOTH, [few + "+accumulate" for few in _FEW]),
    *_all(["fprop"], ["f32"], _BOTH, [MODES[4] + op for op in EPILOGUES[-4:]]),
    *_all(["dgrad", "wgrad"], ["f64"], _BOTH, [mode + "+accumulate" for mode in MODES[4:6]]),
)
"""Bias, residual, activations, accumulation."""

CONV_TYPES = tuple(
    dict.fromkeys(
        (
            *_all(_EACH, _TYPES, _BOTH, _FEW),
            *(
                spell(direction, types, order, few)
                for direction, mixed in _MIXED.items()
                for types in mixed
                for order in _BOTH
                for few in (*_FEW[:3], CHANNELS[3], RANKS[-1])
            ),
            *_all(["fprop"], ["f16", "bf16"], _BOTH, (*EDGES[-6:], *RANKS, *MODES[:6])),
            *_all(["dgrad", "wgrad"], ["bf16"], _BOTH, MODES[4:6]),
            *_all(["fprop"], ["c64"], _BOTH, (*MODES[:6], *RANKS[2:4])),
            *_all(
                _EACH, ["f16", "bf16", "c64"], _BOTH, (*GROUPS[:3], *CHANNELS[8:11], STRIDES[-1])
            ),
            *_all(_EACH, ["f16", "bf16"], _BOTH, ["n1c16h5w6_k16r3s3_p1x1_g4"]),
            *_all(
                ["fprop", "dgrad"],
                ["f16", "bf16"],
                _BOTH,
                [few + op for few in _FEW[1:3] for op in EPILOGUES],
            ),
            *_all(
                ["fprop", "dgrad"],
                ["i8", "i32", "i64", "c64"],
                _BOTH,
                [_FEW[1] + op for op in ("+bias", "+bias+residual", "+accumulate+bias")],
            ),
            *_all(
                ["fprop"], ["i8", "i64"], _BOTH, [_FEW[1] + op for op in ("+relu", "+bias+relu6")]
            ),
        )
    )
)
"""Types that are neither float32 nor float64."""

POOL_WINDOWS = (
    "n2c3h6w7_r2s2_st2x2",
    "n1c5h9w8_r3s3_st2x2_p1x1",
    "n1c17h7w9_r3s2_p1x1",
    "n1c4h4w4_r3s3_st2x2_p1x1+ceil",
    "n1c2h9w9_r4s4_st4x4_p2x2+ceil",
    "n1c3h7w8_r3s3_st2x2_p0:1x1:0",
    "n1c3h9w10_r2s3_st2x1_p1x1_d2x2",
    "n1c33h1w1_r1s1",
    "n1c2h5w6_r5s6",
    "n0c3h4w4_r2s2",
    "n2c0h4w4_r2s2",
    "n2c4w15_s3_st2_p1",
    "n1c3d4h5w6_t2r2s2_st2x2x2_p1x0x1",
    "n1c64h5w5_r3s3_st2x2_p1x1",
    "n2c5h7w10_a3x4",
    "n1c33h9w20_a9x7",
    "n1c4h3w5_a7x8",
    "n2c3w100_a33",
    "n1c3d5h6w7_a2x6x3",
)
POOL = (
    *_all(["fprop", "dgrad"], ["max:f32", "max:f64", "avg:f32", "avg:f64"], _BOTH, POOL_WINDOWS),
    "fprop:max:f32:n2c3h6w7_r2s2_st2x2+indices",
    "fprop:max:f32:nhwc:n1c5h9w8_r3s3_st2x2_p1x1+indices",
    "fprop:max:i8:n1c3h6w7_r3s3_p1x1+indices",
    "fprop:max:i64:nhwc:n1c3h6w7_r3s3_p1x1",
    "fprop:max:f16:n1c3h6w7_r3s3_p1x1+indices",
    "fprop:max:bf16:nhwc:n1c3h6w7_r3s3_p1x1",
    "fprop:avg:f16:n1c3h6w7_r3s3_p1x1",
    *_all(
        ["fprop", "dgrad"], ["max:f16", "max:bf16", "avg:f16", "avg:bf16"], _BOTH, POOL_WINDOWS[1:2]
    ),
    *_all(["fprop"], ["max:u8", "max:i16", "max:i32", "max:i64"], _BOTH, POOL_WINDOWS[1:2]),
    "fprop:max:i32:n2c5h7w10_a3x4+indices",
    "fprop:avg:f32:nhwc:n1c4h7w7_r3s3_st2x2_p1x1+exclude_pad",
    "fprop:avg:f32:n1c4h7w7_r3s3_st2x2_p1x1+ceil+exclude_pad",
    "fprop:avg:f32:n1c4h7w7_r3s3_st2x2_p1x1+divisor5",
    "dgrad:avg:f32:nhwc:n1c4h7w7_r3s3_st2x2_p1x1+ceil+exclude_pad",
    "dgrad:avg:f32:n1c4h7w7_r3s3_st2x2_p1x1+divisor5",
    "dgrad:max:f32:n1c1h7w1000_r3s3_st5x1",
    "dgrad:max:f32:n1c1h400w64_r3s3_st500x1",
)
"""Maximum and average, forward and backward."""


def around_tile(*, pixels: int, channels: int, dtype: str = "f32") -> tuple[str, ...]:
    """Problems below, at, above and at a multiple of a kernel's tile, plain and strided.

    Args:
        pixels: Output pixels of one tile.
        channels: Output channels of one tile.
        dtype: Type of all operands.
    """
    sizes = [(q, channels) for q in (pixels - 1, pixels, pixels + 1, 2 * pixels)]
    sizes += [(pixels, k) for k in (channels - 1, channels + 1, 2 * channels)]
    geometries = [
        geometry
        for q, k in sizes
        if q > 0 and k > 0
        for geometry in (
            f"n1c3h2w{q}_k{k}r1s1",
            f"n1c{k}h2w{q}_k3r3s3_p1x1",
            f"n1c2h3w{2 * q}_k{k}r3s3_st2x2_p1x1",
        )
    ]
    return _all(_EACH, [dtype], ["last"], geometries)
