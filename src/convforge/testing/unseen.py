"""Elements of operands on which no result depends, by looking at every product."""

from __future__ import annotations

from functools import reduce
from itertools import product

import numpy as np

from convforge.problem import Axis, ConvProblem, Direction, Order
from convforge.testing.data import Operands

UNSEEN = (
    "fprop:f32:n2c3h36w36_k4r7s7_st3x2",
    "dgrad:f32:n2c3h7w9_k4r17s5_p8x2",
    "wgrad:f32:n2c3h36w36_k4r7s7_st3x2",
    "wgrad:f32:n2c3h7w9_k4r5s5_p7x2",
    "wgrad:f32:n2c3h5w9_k4r5s5_p9x2+accumulate",
    "wgrad:f32:nhwc:n3c3h2w16_k39r3s3_st2x2_p1:9x1_d3x1_g3",
    "wgrad:f32:n2c4h11w4_k4r1s9_p1x5:0_d2x1_g4",
    "fprop:f32:n2c4h11w4_k4r1s9_p1x5:0_d2x1_g4",
    "dgrad:f32:n2c4h11w4_k4r1s9_p1x5:0_d2x1_g4",
    "dgrad:f32:n1c2h3w40_k3r9s5_p4x9",
    "fprop:f32:n2c2w500_k2s21_st4_g2",
    "dgrad:f32:n2c2w500_k2s21_p40_g2",
)
"""Convolutions with pixels, taps or outputs that nothing meets, first or last on an axis."""


def _seen(axis: Axis) -> dict[str, np.ndarray]:
    """Which pixels, taps and outputs of an axis meet any."""
    seen = {
        name: np.zeros(n, bool)
        for name, n in (("x", axis.size), ("w", axis.filter), ("y", axis.out))
    }
    for p, r in product(range(axis.out), range(axis.filter)):
        at = p * axis.stride + r * axis.dilation - axis.pad_lo
        if 0 <= at < axis.size:
            seen["x"][at] = seen["w"][r] = seen["y"][p] = True
    return seen


def fill_unseen(problem: ConvProblem, data: Operands, value: float) -> int:
    """Write ``value`` to all places of a problem's operands that no result sees.

    Returns:
        How many places there are in a plane of each of them.
    """
    names = {Direction.FPROP: "xw", Direction.DGRAD: "yw", Direction.WGRAD: "xy"}
    axes = [_seen(axis) for axis in problem.axes]
    filled = 0
    for name, array in zip(names[problem.direction], data.arrays, strict=True):
        unseen = ~reduce(np.logical_and.outer, (axis[name] for axis in axes))
        order = {"x": problem.x, "w": problem.w, "y": problem.y}[name].order
        first = order is Order.CHANNELS_FIRST
        planes = array if first else np.moveaxis(array, -1, 1)
        planes[..., unseen] = value
        filled += int(unseen.sum())
    return filled
