"""Blocks: a few rows of as many channels as lanes, pixel after pixel, in the cache.

Where channels come first, a block is transposed in, computed on as an image that has no other
channels, and transposed out. It never leaves the L2, where whole images rearranged would leave it
twice. Vectors are full however narrow planes are, and no row is longer than its pixels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from convforge.kernels.cpu._block import (
    block_load,
    block_store,
    block_transpose,
    whole_load,
    whole_store,
)
from convforge.kernels.cpu._vector import itemsize, lanes, vector_bytes
from convforge.problem import ConvProblem, Direction, Order, PostOp
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

BLOCKS = Layout("DepthwiseBlocks", "blocked tile pixel output_at residual_at nbytes")
blocks_view = BLOCKS.view
BLOCKS_BYTES = BLOCKS.nbytes
_FEWEST_CHANNELS = 16
"""With fewer, a vector of columns is fuller than one of channels."""
_WIDE, _FAR_BYTES = 28, 24 << 20
"""Sweeps down columns fill their vectors in rows so long, and read an image that caches hold. What
is decided must not know N: the two orders of sums differ in their bits."""
_BLOCK_BYTES = 128 << 10
"""Of the rows a block writes: beside those it reads, in an L2."""
_TASKS = 16
"""Wanted, for a few threads to share evenly; with fewer blocks, these have fewer rows."""


class Blocks(NamedTuple):
    """How a problem is cut.

    Attributes:
        packed: The struct ``DepthwiseBlocks``. tile: Rows of the output in a task.
        pixel: Bytes from one pixel to the next where computed. nbytes: Of a worker's block, or 0.
    """

    packed: bytes
    tile: int
    pixel: int
    nbytes: int


def in_blocks(problem: ConvProblem) -> bool:
    """Whether fprop and dgrad bring images in and out by blocks."""
    return (
        problem.rank == 2
        and problem.direction is not Direction.WGRAD
        and problem.group_K == 1
        and problem.C >= _FEWEST_CHANNELS
        and problem.x.order is problem.y.order is Order.CHANNELS_FIRST
        and not _swept_in_place(problem)
    )


def _swept_in_place(problem: ConvProblem) -> bool:
    """Whether a sweep down the columns takes less time than to move images twice."""
    small = all(
        axis.filter == 3 and axis.stride == 1 and axis.dilation == 1 for axis in problem.axes
    )
    image = replace(problem, N=1)
    return small and problem.axes[-1].out >= _WIDE and image.bytes < _FAR_BYTES


def make_blocks(problem: ConvProblem, lanes: int, rows: int) -> Blocks:
    """Blocks of whole images' width, or the images in place.

    Args:
        rows: That are computed together.
    """
    size = problem.x.dtype.itemsize
    vector = lanes * size
    if not in_blocks(problem):
        pixel = problem.C * size
        where = {"output_at": 0, "residual_at": 0, "nbytes": 0}
        packed = BLOCKS.pack(blocked=0, tile=rows, pixel=pixel, **where)
        return Blocks(packed, rows, pixel, 0)
    forward = problem.direction is Direction.FPROP
    high, across = problem.axes
    from_w, to_w = (across.size, across.out) if forward else (across.out, across.size)
    from_h, to_h = (high.size, high.out) if forward else (high.out, high.size)
    most = max(1, _BLOCK_BYTES // (rows * to_w * vector))
    pieces = -(-to_h // rows)
    wanted = -(-_TASKS // (problem.N * -(-problem.C // lanes)))
    tile = -(-pieces // min(pieces, max(-(-pieces // most), wanted))) * rows
    read = min(from_h, (tile - 1) * (high.stride if forward else 1) + high.extent) * from_w
    # Blocks of as many pixels as lanes are moved, from any lane on.
    output_at = max(read, lanes) * vector
    nbytes = output_at + (max(min(tile, to_h) * to_w, lanes) + 1) * vector
    residual_at = nbytes
    if PostOp.RESIDUAL in problem.post:
        nbytes += nbytes - output_at
    where = {"output_at": output_at, "residual_at": residual_at, "nbytes": nbytes}
    packed = BLOCKS.pack(blocked=1, tile=tile, pixel=vector, **where)
    return Blocks(packed, tile, vector, nbytes)


@device
def _bring(kind, target, source, plane_bytes, pixels):
    """As many planes as lanes into a block: ``pixels`` of each, that are adjacent."""
    size, vector = itemsize(kind), vector_bytes(kind)
    columns = min(pixels, lanes(kind))
    for i in range(0, pixels, lanes(kind)):
        # Whole blocks: the last one overlaps the one before.
        at = min(i, pixels - columns)
        block = block_load(kind, source + at * size, plane_bytes, lanes(kind), columns)
        whole_store(kind, block_transpose(kind, block), target + at * vector, vector)


@device
def enter_block(kind, g, b, s, p, block, plane, at, low, high, top, bottom):
    """Bring in the channels from ``at`` on of one image.

    Args:
        g: Extents. low, high: Rows of the source. top, bottom: Rows of the output.
    """
    size, first = itemsize(kind), plane * g.channels + at
    source = p.source + (first * g.from_h + low) * g.from_w * size
    _bring(kind, block, source, g.from_h * g.from_w * size, (high - low) * g.from_w)
    if s.has_residual | s.accumulate:
        offset, plane_bytes = (first * g.to_h + top) * g.to_w * size, g.to_h * g.to_w * size
        pixels = (bottom - top) * g.to_w
        if s.has_residual:
            _bring(kind, block + b.residual_at, p.residual + offset, plane_bytes, pixels)
        if s.accumulate:
            _bring(kind, block + b.output_at, p.output + offset, plane_bytes, pixels)


@device
def leave_block(kind, g, b, p, block, plane, at, begin, top, bottom):
    """Take out the rows that were written, of the channels from ``begin`` on."""
    size, vector = itemsize(kind), vector_bytes(kind)
    done, pixels = begin - at, (bottom - top) * g.to_w
    target = p.output + ((plane * g.channels + begin) * g.to_h + top) * g.to_w * size
    plane_bytes = g.to_h * g.to_w * size
    # Lanes of other tasks' channels come in as the last ones, from the pixel behind.
    source = block + b.output_at + done * size
    columns = min(pixels, lanes(kind))
    for i in range(0, pixels, lanes(kind)):
        i = min(i, pixels - columns)
        sums = block_transpose(kind, whole_load(kind, source + i * vector, vector))
        if done == 0 and columns == lanes(kind):
            whole_store(kind, sums, target + i * size, plane_bytes)
        else:
            block_store(kind, sums, target + i * size, plane_bytes, lanes(kind) - done, columns)
