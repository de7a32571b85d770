"""Pooling of short rows, channels first: as many planes as a vector has lanes, channels last.

A row of a dozen elements leaves lanes empty, and its few windows lie apart. So a strip of rows of
as many planes as there are lanes is transposed into the L1, where a vector holds one pixel of all
of them; windows are what they are channels last, and so is the way back.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step
from convforge.kernels.cpu._block import (
    block_load,
    block_store,
    block_transpose,
    whole_load,
    whole_store,
)
from convforge.kernels.cpu._pool_max import larger, lowest
from convforge.kernels.cpu._pool_mean import column_divisor, divide, rows_divisor
from convforge.kernels.cpu._vector import itemsize, lanes, load, store, vector_bytes, zeros
from convforge.kernels.cpu._wide import Wide
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    axis_view,
    divisor_of,
    meets,
    pack_pool,
    pool_view,
    round_up,
    spans,
)
from convforge.problem import Direction, Order, PoolKind, PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.tasks import claimed

_BLOCKS = Layout("PoolBlocks", "planes strips rows slab_bytes scratch_bytes mean")
_blocks = _BLOCKS.view
_BLOCKS_BYTES = _BLOCKS.nbytes
_POINTERS = Layout("PoolBlocksPointers", "source target scratch")
_pointers = _POINTERS.view
_SLAB_BYTES = 24 << 10
"""Of the source, transposed: half an L1."""
_SHORT = 32
"""Elements of a row, at most, which blocks are faster for than rows."""


def has_short_rows(problem: PoolProblem) -> bool:
    """Whether blocks of planes are made for a problem: forward, without indices, short rows."""
    forward = problem.direction is Direction.FPROP and not problem.indices
    return forward and problem.rank < 3 and problem.axes[-1].size <= _SHORT


def program(problem: PoolProblem, kind: Wide) -> Program:
    """One launch whose tasks are strips of blocks of planes."""
    size = problem.x.dtype.itemsize
    pixel = kind.lanes * size
    _, h, w = spans(problem)
    row_bytes = w.source * pixel
    fitting = max(_SLAB_BYTES // row_bytes - h.axis.extent, 0) // max(h.stride, 1) + 1
    if h.adaptive:
        fitting = h.out if h.source * row_bytes <= _SLAB_BYTES else 1
    strips = -(-h.out // min(fitting, h.out))
    rows = -(-h.out // strips)
    met = h.source if h.adaptive else min((rows - 1) * h.stride + h.axis.extent, h.source)
    slab = round_up(met * w.source, kind.lanes) * pixel
    scratch = slab + round_up(rows * w.out, kind.lanes) * pixel
    planes = problem.N * problem.C
    one = replace(
        problem, N=1, C=kind.lanes, x=replace(problem.x, order=Order.CHANNELS_LAST)
    )  # what a block is in the scratch
    step = Step(
        name="blocks of planes",
        kernel=KernelRef(pool_blocks, kind),
        operands=("x", "y", "scratch"),
        constants=_BLOCKS.pack(
            planes=planes,
            strips=strips,
            rows=rows,
            slab_bytes=slab,
            scratch_bytes=scratch,
            mean=problem.kind is PoolKind.AVG,
        )
        + pack_pool(one, channels_last=True, divisor=divisor_of(problem)),
        tasks=-(-planes // kind.lanes) * strips,
        cost=Cost(
            flops=problem.flops, bytes=size * (prod(problem.x_shape) + prod(problem.y_shape))
        ),
    )
    return Program(steps=(step,), buffers=(Buffer(name="scratch", nbytes=scratch, scope="worker"),))


@device
def _to_lanes(kind, source, plane_bytes, target, count, width):
    """``count`` elements of ``width`` planes: a vector for each place."""
    for i in range(0, count, lanes(kind)):
        here, there = source + i * itemsize(kind), target + i * vector_bytes(kind)
        if width == lanes(kind) and count - i >= lanes(kind):
            block = block_transpose(kind, whole_load(kind, here, plane_bytes))
        else:
            part = block_load(kind, here, plane_bytes, width, count - i)
            block = block_transpose(kind, part)
        whole_store(kind, block, there, vector_bytes(kind))


@device
def _from_lanes(kind, source, target, plane_bytes, count, width):
    """The way back."""
    for i in range(0, count, lanes(kind)):
        here, there = source + i * vector_bytes(kind), target + i * itemsize(kind)
        block = block_transpose(kind, whole_load(kind, here, vector_bytes(kind)))
        if width == lanes(kind) and count - i >= lanes(kind):
            whole_store(kind, block, there, plane_bytes)
        else:
            block_store(kind, block, there, plane_bytes, width, count - i)


@inlined
def _rows_read(axis, begin, end):
    """First and last (exclusive) source row that some rows of the target meet."""
    low, high = axis.size, 0
    for h in range(begin, end):
        first, count = meets(axis, h, False)
        low, high = min(low, first), max(high, first + (count - 1) * axis.step + 1)
    return low, high


@inlined
def _met(kind, mean, total, x):
    """One more element of a window."""
    return total + x if mean else larger(x, total)


@inlined
def _window(kind, mean, place, heights, row_bytes, columns, step_bytes):
    """Sum or largest of a window's pixels, row by row."""
    total = zeros(kind) if mean else lowest(kind)
    for _ in range(heights):
        # Two and three columns are what nearly all windows have.
        total = _met(kind, mean, total, load(kind, place))
        if columns == 2:
            total = _met(kind, mean, total, load(kind, place + step_bytes))
        elif columns == 3:
            total = _met(kind, mean, total, load(kind, place + step_bytes))
            total = _met(kind, mean, total, load(kind, place + 2 * step_bytes))
        else:
            for i in range(1, columns):
                total = _met(kind, mean, total, load(kind, place + i * step_bytes))
        place += row_bytes
    return total


@kernel
def pool_blocks(kind, constants, pointers, worker, work):
    """Forward without indices; a task is a strip of rows of a block of planes."""
    b, p, g = _blocks(constants), _pointers(pointers), pool_view(constants + _BLOCKS_BYTES)
    axes = constants + _BLOCKS_BYTES + POOL_BYTES
    h_axis, w_axis = axis_view(axes + AXIS_BYTES), axis_view(axes + 2 * AXIS_BYTES)
    size, many = itemsize(kind), lanes(kind)
    from_plane, to_plane = g.from_h * g.from_w * size, g.to_h * g.to_w * size
    slab = p.scratch + worker * b.scratch_bytes
    vector = vector_bytes(kind)
    row_bytes = g.from_w * vector
    apart, step = h_axis.step * row_bytes, w_axis.step * vector
    for task in claimed(work, worker):
        block = task // b.strips
        begin = (task - block * b.strips) * b.rows
        end, width = min(begin + b.rows, g.to_h), min(many, b.planes - block * many)
        low, high = _rows_read(h_axis, begin, end)
        source = p.source + block * many * from_plane + low * g.from_w * size
        _to_lanes(kind, source, from_plane, slab, (high - low) * g.from_w, width)
        result = slab + b.slab_bytes
        for h in range(begin, end):
            first_h, heights = meets(h_axis, h, False)
            line = slab + (first_h - low) * row_bytes
            divisor = rows_divisor(g, axes, 0, h) if b.mean else 1
            for w in range(g.to_w):
                first, columns = meets(w_axis, w, False)
                place = line + first * vector
                # Two loops: within one, a choice for every element.
                if b.mean:
                    total = _window(kind, True, place, heights, apart, columns, step)
                    total = divide(kind, g, total, divisor * column_divisor(g, axes, w))
                else:
                    total = _window(kind, False, place, heights, apart, columns, step)
                store(result, total)
                result += vector
        target = p.target + block * many * to_plane + begin * g.to_w * size
        count = (end - begin) * g.to_w
        _from_lanes(kind, slab + b.slab_bytes, target, to_plane, count, width)
