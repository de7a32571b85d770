"""The memory order in which a depthwise problem is computed, and its operands in that order."""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Step
from convforge.kernels.cpu._planes import to_channels_first, to_channels_last
from convforge.problem import ConvProblem, Operand, Order


def order_of(problem: ConvProblem) -> Order:
    """Order the kernels work in: columns of a single row would fill one output of a strip."""
    alike = problem.x.order is problem.y.order is Order.CHANNELS_LAST
    rows = problem.rank > 1 and max(problem.out[-2], problem.size[-2]) > 1
    if problem.group_K == 1 and (alike or not rows):
        return Order.CHANNELS_LAST
    return Order.CHANNELS_FIRST


def arranged(
    problem: ConvProblem,
    order: Order,
    name: str,
    operand: Operand,
    channels: int,
    spatial: tuple[int, ...],
) -> tuple[str, tuple[Step, ...], tuple[Buffer, ...]]:
    """Where an array is in this order: itself, or a buffer and the step that fills it."""
    if operand.order is order or channels == 1 or prod(spatial) == 1:
        return name, (), ()
    buffer = f"{name}_arranged"
    nbytes = problem.N * channels * prod(spatial) * operand.dtype.itemsize
    move = to_channels_last if order is Order.CHANNELS_LAST else to_channels_first
    step = move(name, buffer, operand.dtype, problem.N, channels, spatial)
    return buffer, (step,), (Buffer(name=buffer, nbytes=nbytes),)
