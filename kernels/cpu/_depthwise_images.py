"""The memory order in which a depthwise problem is computed, and its operands in that order."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from convforge.contract import Buffer, Step
from convforge.kernels.cpu._depthwise_blocks import in_blocks
from convforge.kernels.cpu._planes import to_channels_first, to_channels_last
from convforge.problem import ConvProblem, Direction, Operand, Order, PostOp


def order_of(problem: ConvProblem) -> Order:
    """Order the kernels work in: columns of a single row would fill one output of a strip."""
    if problem.group_K != 1:
        return Order.CHANNELS_FIRST
    if problem.x.order is problem.y.order is Order.CHANNELS_LAST:
        return Order.CHANNELS_LAST
    rows = problem.rank > 1 and max(problem.out[-2], problem.size[-2]) > 1
    if not rows or in_blocks(problem):
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


class Arrangement(NamedTuple):
    """The operands of fprop or dgrad in one memory order.

    Attributes:
        source, output, residual: What the kernel reads and writes; "" for no residual.
        before, after: Steps that bring arrays into this order, and the result out of it.
        buffers: What those steps need.
    """

    source: str
    output: str
    residual: str
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    buffers: tuple[Buffer, ...]


def arrangement(problem: ConvProblem, order: Order) -> Arrangement:
    """All operands of fprop or dgrad in this order: in place, where they are in it anyway."""
    fprop = problem.direction is Direction.FPROP
    source, output = ("x", "y") if fprop else ("y", "x")
    if in_blocks(problem):
        residual = "residual" if PostOp.RESIDUAL in problem.post else ""
        return Arrangement(source, output, residual, (), (), ())
    x = (problem.x, problem.C, problem.size)
    y = (problem.y, problem.K, problem.out)
    source_is, output_is = (x, y) if fprop else (y, x)
    source, before, buffers = arranged(problem, order, source, *source_is)
    place, into, own = arranged(problem, order, output, *output_is)
    residual, after = "", tuple[Step, ...]()
    if PostOp.RESIDUAL in problem.post:
        residual, steps, more = arranged(problem, order, "residual", *output_is)
        before, buffers = before + steps, buffers + more
    if place != output:
        before += into if problem.accumulate else ()
        back = to_channels_last if order is Order.CHANNELS_FIRST else to_channels_first
        operand, channels, spatial = output_is
        after = (back(place, output, operand.dtype, problem.N, channels, spatial),)
    return Arrangement(source, place, residual, before, after, buffers + own)
