"""Complex filters as real ones: a number as the matrix that multiplies by it.

A complex channel is two real ones, its real and its imaginary part. A filter's number is then a
block of two output and two input channels, ``[[re, -im], [im, re]]``; transposed in dgrad, because
the real dgrad transposes it once more.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._vector import Vector, itemsize, load_scalar, store_scalar
from convforge.problem import ConvProblem, Direction, DType, Order
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.tasks import claimed

REAL = {DType.C64: DType.F32, DType.C128: DType.F64}

_BLOCKS = Layout("Blocks", "outputs taps channels channel_bytes tap_bytes transposed accumulate")
_blocks = _BLOCKS.view
_FROM_TO = Layout("BlockPointers", "numbers blocks")
_from_to = _FROM_TO.view


def expand_step(problem: ConvProblem, target: str) -> Step:
    """Complex filters to real ones, channels last."""
    return _step("expand", expand_numbers, problem, target)


def combine_step(problem: ConvProblem, source: str) -> Step:
    """Gradients by real filters, channels last, to those by complex ones."""
    return _step("combine", combine_blocks, problem, source)


def _step(name, function, problem: ConvProblem, real: str) -> Step:
    size, last = problem.w.dtype.itemsize, problem.w.order is Order.CHANNELS_LAST
    constants = _BLOCKS.pack(
        outputs=problem.K,
        taps=problem.taps,
        channels=problem.group_C,
        channel_bytes=size if last else problem.taps * size,
        tap_bytes=problem.group_C * size if last else size,
        transposed=problem.direction is Direction.DGRAD,
        accumulate=problem.accumulate,
    )
    return Step(
        name=name,
        kernel=KernelRef(function, Vector(REAL[problem.w.dtype].value)),
        operands=("w", real),
        constants=constants,
        tasks=problem.K,
        cost=Cost(bytes=3 * prod(problem.w_shape) * size),
    )


@kernel
def expand_numbers(kind, constants, pointers, worker, work):
    """Each number to its block; a task is an output channel."""
    b, p = _blocks(constants), _from_to(pointers)
    size = itemsize(kind)
    row = b.taps * b.channels * 2 * size
    for k in claimed(work, worker):
        for tap in range(b.taps):
            source = p.numbers + k * b.taps * b.channels * 2 * size + tap * b.tap_bytes
            target = p.blocks + 2 * k * row + tap * b.channels * 2 * size
            for c in range(b.channels):
                re = load_scalar(kind, source + c * b.channel_bytes)
                im = load_scalar(kind, source + c * b.channel_bytes + size)
                right, below = (im, -im) if b.transposed else (-im, im)
                at = target + c * 2 * size
                store_scalar(kind, at, re)
                store_scalar(kind, at + size, right)
                store_scalar(kind, at + row, below)
                store_scalar(kind, at + row + size, re)


@kernel
def combine_blocks(kind, constants, pointers, worker, work):
    """Each block of sums to the number that they are the gradient of; a task is an output."""
    b, p = _blocks(constants), _from_to(pointers)
    size = itemsize(kind)
    row = b.taps * b.channels * 2 * size
    for k in claimed(work, worker):
        for tap in range(b.taps):
            target = p.numbers + k * b.taps * b.channels * 2 * size + tap * b.tap_bytes
            source = p.blocks + 2 * k * row + tap * b.channels * 2 * size
            for c in range(b.channels):
                at, place = source + c * 2 * size, target + c * b.channel_bytes
                re = load_scalar(kind, at) - load_scalar(kind, at + row + size)
                im = load_scalar(kind, at + size) + load_scalar(kind, at + row)
                if b.accumulate:
                    re += load_scalar(kind, place)
                    im += load_scalar(kind, place + size)
                store_scalar(kind, place, re)
                store_scalar(kind, place + size, im)
