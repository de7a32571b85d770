"""What is measured on a device, the most telling first."""

from __future__ import annotations

from collections.abc import Iterator

from convforge.bench.suites import Layer
from convforge.problem import Direction, parse
from convforge.testing.cases import spell

DENSE = {
    "3x3 64→64 @56": "c64h56w56_k64r3s3_p1x1",
    "1x1 64→256 @56": "c64h56w56_k256r1s1",
    "3x3 128→128 @28": "c128h28w28_k128r3s3_p1x1",
    "7x7/2 3→64 @224": "c3h224w224_k64r7s7_st2x2_p3x3",
    "1x1 256→64 @56": "c256h56w56_k64r1s1",
    "3x3 256→256 @14": "c256h14w14_k256r3s3_p1x1",
    "3x3/2 128→128 @56": "c128h56w56_k128r3s3_st2x2_p1x1",
    "3x3 512→512 @7": "c512h7w7_k512r3s3_p1x1",
    "1x1 1024→256 @14": "c1024h14w14_k256r1s1",
    "5x5 32→64 @28": "c32h28w28_k64r5s5_p2x2",
    "3x3 d2 256→256 @28": "c256h28w28_k256r3s3_p2x2_d2x2",
}
DEPTHWISE = {
    "depthwise 3x3 128 @56": "c128h56w56_k128r3s3_p1x1_g128",
    "depthwise 3x3/2 128 @56": "c128h56w56_k128r3s3_st2x2_p1x1_g128",
    "depthwise 7x7 96 @56": "c96h56w56_k96r7s7_p3x3_g96",
}
OTHERS = {
    "3x3 g32 256 @28": "c256h28w28_k256r3s3_p1x1_g32",
    "1-D 3 64→128 @4096": "c64w4096_k128s3_p1",
    "3-D 3x3x3 32→32 @16": "c32d16h28w28_k32t3r3s3_p1x1x1",
}
POOLS = {
    "max 3x3/2 64 @112": ("max", "c64h112w112_r3s3_st2x2_p1x1"),
    "avg 2x2 128 @56": ("avg", "c128h56w56_r2s2_st2x2"),
    "avg 7x7 512 @7": ("avg", "c512h7w7_r7s7"),
}
_CONV = {**DENSE, **DEPTHWISE, **OTHERS}


def layers(batch: int) -> Iterator[Layer]:
    """Forward, then training, then half types, then channels first."""
    yield from _convolutions(("fprop",), "f32", "last", batch)
    for order in ("last", "first"):
        for name, (kind, window) in POOLS.items():
            problem = parse(spell("fprop", f"{kind}:f32", order, f"n{batch}{window}"))
            yield Layer(f"{name} {order}", problem)
    yield from _convolutions(("dgrad", "wgrad"), "f32", "last", batch)
    yield from _convolutions(("fprop",), "f16", "last", batch)
    yield from _convolutions(tuple(Direction), "f32", "first", batch)


def _convolutions(
    directions: tuple[str, ...], dtype: str, order: str, batch: int
) -> Iterator[Layer]:
    for name, geometry in _CONV.items():
        for direction in directions:
            problem = parse(spell(direction, dtype, order, f"n{batch}{geometry}"))
            yield Layer(f"{name} {direction} {dtype} {order}", problem)
