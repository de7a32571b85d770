"""What of an axis any result depends on: pixels, taps and outputs that meet each other.

Tap r of output p meets pixel ``p stride + r dilation - pad_lo`` if the image has it. Strides pass
over pixels at the end of the image, taps of wide borders meet nothing but zeros. An algorithm that
sums everything and lets things cancel errs by such elements, however large they are; a Fourier
transform therefore leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from convforge.contract import Rejected
from convforge.problem import Axis, ConvProblem, Direction

_FEWEST_SUMMED = 16


@dataclass(frozen=True, slots=True)
class Met:
    """Elements of an axis that meet others, from the first to the last of them.

    Attributes:
        pixels, taps, outputs: Of x, w and y; all are empty if nothing is met.
        gaps: Which of these hold elements that are not met. sums: Pixels that a tap meets at most.
    """

    pixels: range
    taps: range
    outputs: range
    gaps: frozenset[str]
    sums: int


@lru_cache(maxsize=4096)
def met(axis: Axis) -> Met:
    """What meets on an axis, in memory and time of its filter's extent."""
    taps = np.arange(axis.filter)
    at = taps * axis.dilation - axis.pad_lo
    # Each tap meets the image from one output to another.
    first = np.maximum(0, -(at // axis.stride))
    last = np.minimum(axis.out - 1, (axis.size - 1 - at) // axis.stride)
    some = first <= last
    if not some.any():
        return Met(range(0), range(0), range(0), frozenset(), 0)
    taps, at, first, last = taps[some], at[some], first[some], last[some]
    low, high = at + first * axis.stride, at + last * axis.stride
    found = (
        range(int(low.min()), int(high.max()) + 1),
        range(int(taps[0]), int(taps[-1]) + 1),
        range(int(first.min()), int(last.max()) + 1),
    )
    # Later taps meet earlier outputs.
    gaps = {
        "pixels": _passes_over(axis, low, high, *found),
        "taps": len(taps) < len(found[1]),
        "outputs": bool((last[1:] < first[:-1] - 1).any()),
    }
    named = frozenset(name for name, gap in gaps.items() if gap)
    return Met(*found, named, int((last - first).max()) + 1)


def _passes_over(
    axis: Axis, low: np.ndarray, high: np.ndarray, pixels: range, taps: range, outputs: range
) -> bool:
    """Whether a pixel between others is not met; tap i meets each stride-th from low to high."""
    stride, extent = axis.stride, axis.extent
    if stride > extent:
        return len(outputs) > 1 or (len(taps) > 1 and axis.dilation > 1)
    # Away from its ends an axis repeats itself each stride: of a long one the middle is left out.
    spare = max(0, (axis.size - 4 * (extent + stride)) // stride * stride)
    if spare:
        return "pixels" in met(_shorter(axis, spare)).gaps
    begins = np.zeros((len(pixels) // stride + 2) * stride, np.int64)
    np.add.at(begins, low - pixels.start, 1)
    np.add.at(begins, high - pixels.start + stride, -1)
    meets = begins.reshape(-1, stride).cumsum(axis=0).reshape(-1)[: len(pixels)]
    return not bool(meets.all())


def _shorter(axis: Axis, by: int) -> Axis:
    return Axis(
        size=axis.size - by,
        filter=axis.filter,
        stride=axis.stride,
        dilation=axis.dilation,
        pad_lo=axis.pad_lo,
        pad_hi=axis.pad_hi,
    )


def refuse_unmet(problem: ConvProblem) -> Rejected | None:
    """Problems that are few products, or of which what no result depends on lies in between."""
    axes = [met(axis) for axis in problem.axes]
    if prod(len(each.taps) for each in axes) <= 1:
        return Rejected("one tap at most meets the image: nothing for a transform to save")
    summed = problem.N * prod(each.sums for each in axes)
    wgrad = problem.direction is Direction.WGRAD
    if wgrad and summed < _FEWEST_SUMMED:
        # Its error is that of all pixels, of which so few may meet nothing but zeros.
        return Rejected(f"wgrad sums {summed} pixels: nothing for a transform to save")
    read = {
        Direction.FPROP: {"pixels", "taps"},
        Direction.DGRAD: {"outputs", "taps"},
        Direction.WGRAD: {"pixels", "outputs", "taps"},
    }[problem.direction]
    for each in axes:
        for name in sorted(read & each.gaps):
            return Rejected(f"{name} that no result depends on lie between others")
    return None
