"""What adapters share: geometry, refusals, NCHW copies of operands."""

from __future__ import annotations

import numpy as np

from convforge.bench.ours import channels_first
from convforge.bench.rows import Array, Unable
from convforge.problem import (
    ConvProblem,
    Direction,
    DType,
    Order,
    PadMode,
    PoolProblem,
    Problem,
)
from convforge.testing.data import Operands


def geometry(problem: Problem) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding before and dilation."""
    axes = problem.axes
    return (
        [axis.stride for axis in axes],
        [axis.pad_lo for axis in axes],
        [axis.dilation for axis in axes],
    )


def pads_after(problem: Problem) -> list[int]:
    """Padding behind the image, which may differ from that before it."""
    return [axis.pad_hi for axis in problem.axes]


def refuse_more_operators(problem: Problem) -> None:
    """Raise ``Unable`` for what peers would need a second operator for."""
    if any(axis.pad_mode is not PadMode.ZEROS for axis in problem.axes):
        raise Unable("non-zero padding is a second operator there")
    if isinstance(problem, ConvProblem) and (problem.post or problem.accumulate):
        raise Unable("post ops are operators of their own there")


def refuse_uneven(problem: Problem) -> None:
    """Raise ``Unable`` where the two ends of an axis have different padding."""
    if any(axis.pad_lo != axis.pad_hi for axis in problem.axes):
        raise Unable("uneven padding is a second operator there")


def require_inference(problem: Problem, who: str) -> None:
    """Raise ``Unable`` for what inference engines are not compared on."""
    if problem.direction is not Direction.FPROP:
        raise Unable(f"only forward layers are compared with {who}")
    if problem.x.dtype is not DType.F32:
        raise Unable(f"only float32 is compared with {who}")
    if isinstance(problem, PoolProblem) and problem.indices:
        raise Unable(f"pooling with indices is not compared with {who}")
    refuse_more_operators(problem)


def images_first(problem: Problem, data: Operands) -> Array:
    """The images as a contiguous ``(N, C, H, W)``."""
    return np.ascontiguousarray(channels_first(data.arrays[0], problem.x.order))


def filters_first(problem: ConvProblem, data: Operands) -> Array:
    """The weights as a contiguous ``(K, C / groups, R, S)``."""
    return np.ascontiguousarray(channels_first(data.arrays[1], problem.w.order))


def result_order(problem: Problem) -> Order:
    """Memory order of what a forward problem writes."""
    return problem.x.order if isinstance(problem, PoolProblem) else problem.y.order


def in_order(result: Array, order: Order) -> Array:
    """An ``(N, K, P, Q)`` result in a problem's memory order."""
    return result if order is Order.CHANNELS_FIRST else np.moveaxis(result, 1, -1)


def covers_image(problem: PoolProblem) -> bool:
    """Whether one window without padding is the whole image: global pooling."""
    return problem.filter == problem.size and all(n == 1 for n in problem.out)
