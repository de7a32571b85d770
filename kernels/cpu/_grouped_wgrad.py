"""Wgrad of small groups, channels last: blocks of x and dy in the L1, sums in registers.

Blocks are split into parts, whose number follows from the problem; every part has sums of its own
in the layout of dw, and the last launch adds them in order.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from convforge.contract import Buffer, Cost, KernelRef, Machine, Program, Step
from convforge.kernels.cpu._depthwise_axes import three_axes
from convforge.kernels.cpu._depthwise_images import arranged
from convforge.kernels.cpu._depthwise_wgrad import add_step
from convforge.kernels.cpu._group_outer import (
    GroupOuter,
    outer_add,
    outer_load,
    outer_rows,
    outer_settle,
    outer_store,
    outer_taps,
)
from convforge.kernels.cpu._group_strip import group_columns, group_members
from convforge.kernels.cpu._grouped_slab import (
    PLANE,
    PLANE_BYTES,
    SLAB_BYTES,
    plane_view,
    slab,
    slab_bring,
    slab_view,
)
from convforge.kernels.cpu._planes import to_channels_first, to_channels_last
from convforge.kernels.cpu._vector import itemsize, lanes, vector_bytes
from convforge.problem import ConvProblem, Order
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import device, kernel
from convforge.runtime.rawmem import clear_bytes, prefetch
from convforge.runtime.tasks import claimed

_WGRAD = Layout(
    "GroupedWgrad",
    "taps chunks taps_d part_bytes parts pieces group vectors step_d step_h step_w dilation_d "
    "pad_front vector_sums x_bytes scratch_bytes ahead_x ahead_dy",
)
_wgrad = _WGRAD.view
_WGRAD_BYTES = _WGRAD.nbytes
_POINTERS = Layout("GroupedWgradPointers", "x dy dw scratch")
_pointers = _POINTERS.view

_LINE_BYTES = 64
_PIECES = 16
"""Pieces of work for a few threads to share evenly."""
_RUN = 4
"""Vectors of channels of a piece, where images are many: memory is read in runs."""
_FEWEST_SUMS = 12
"""With fewer, sums wait for one another."""
_COPY = 4
"""Products that take as long as to copy a vector of x and one of dy."""
_PART = 128
"""Pixels that outweigh a part's own sums, which are written and read once."""


@device
def _bring_x(outer, g, b, source, depth, top, left, target):
    """All depths that a block meets, with zeros outside the image."""
    row_bytes = b.columns * group_columns(outer) * vector_bytes(outer)
    plane_bytes = b.from_h * b.from_w * b.channels * itemsize(outer)
    for kd in range(g.taps_d):
        to, d = target + kd * b.rows * row_bytes, depth + kd * g.dilation_d
        above, below = min(max(0, -top), b.rows), min(max(0, b.from_h - top), b.rows)
        if d < 0 or d >= b.from_d:
            above, below = b.rows, b.rows
        clear_bytes(to, above * row_bytes)
        if above < below:
            slab_bring(outer, b, source + d * plane_bytes, top, left, to)
        clear_bytes(to + below * row_bytes, (b.rows - below) * row_bytes)


@device
def _ask(begin, end, step, nbytes):
    """Ask memory for some pixels' vectors."""
    for pixel in range(begin, end, step):
        for line in range(pixel, pixel + nbytes, _LINE_BYTES):
            prefetch(line)


@kernel
def grouped_outer(outer, constants, pointers, worker, work):
    """A task is a part of the blocks of all images, and a piece of the channels.

    Scratch: sums of all taps for each vector of a piece, a block of x, a block of dy.
    """
    g, p = _wgrad(constants), _pointers(pointers)
    b = slab_view(constants + _WGRAD_BYTES)
    e = plane_view(constants + _WGRAD_BYTES + SLAB_BYTES)
    offsets = constants + _WGRAD_BYTES + SLAB_BYTES + PLANE_BYTES
    size, members, taps = itemsize(outer), group_members(outer), outer_taps(outer)
    rows = outer_rows(outer)
    width, place = group_columns(outer) * lanes(outer), group_columns(outer) * vector_bytes(outer)
    pixel, tile = b.channels * size, rows * taps * place
    scratch = p.scratch + worker * g.scratch_bytes
    xs = scratch + g.group * g.vector_sums
    dys = xs + g.x_bytes
    x_step, x_row, dy_row = g.step_w * place, g.step_h * b.columns * place, e.columns * place
    blocks = b.images * b.to_d * b.bands * b.spans
    # Rows of a group that is narrower than a vector are its exchanges, all of one vector of dy.
    repeated = size if members >= lanes(outer) else 0
    for task in claimed(work, worker):
        part, piece = task // g.pieces, task % g.pieces
        begin = piece * g.group
        end = min(begin + g.group, g.vectors)
        clear_bytes(scratch, (end - begin) * g.vector_sums)
        for block in range(blocks * part // g.parts, blocks * (part + 1) // g.parts):
            column_block, rest = block % b.spans, block // b.spans
            row_block, plane = rest % b.bands, rest // b.bands
            image, d = plane // b.to_d, plane % b.to_d
            band, first = row_block * b.band, column_block * b.span
            top, left = b.top + row_block * b.rows_apart, b.left + column_block * b.columns_apart
            high, count = min(b.band, b.to_h - band), min(b.span, b.to_w - first)
            x = p.x + image * b.from_d * b.from_h * b.from_w * pixel
            dy = p.dy + plane * b.to_h * b.to_w * pixel
            for v in range(begin, end):
                # The last vector overlaps the one before where channels do not fill it.
                at = min(v * width, b.channels - width) * size
                _bring_x(outer, g, b, x + at, d * g.step_d - g.pad_front, top, left, xs)
                slab_bring(outer, e, dy + at, band, first, dys)
                next_x = x + at + (d * g.step_d * b.from_h + top + b.rows) * b.from_w * pixel
                next_dy = dy + at + (band + b.band) * b.to_w * pixel
                to = scratch + (v - begin) * g.vector_sums
                for chunk in range(g.chunks):
                    met = offsets + chunk * taps * 8
                    for k in range(0, members, rows):
                        sums = outer_load(outer, to)
                        for h in range(high):
                            _ask(next_x, next_x + g.ahead_x * pixel, pixel, place)
                            _ask(next_dy, next_dy + g.ahead_dy * pixel, pixel, place)
                            next_x += g.ahead_x * pixel
                            next_dy += g.ahead_dy * pixel
                            from_x, from_dy = xs + h * x_row, dys + h * dy_row + k * repeated
                            for i in range(count):
                                sums = outer_add(
                                    outer, sums, from_x + i * x_step, met, from_dy + i * place
                                )
                        outer_store(outer, sums, to)
                        to += tile
        for v in range(begin, end):
            at = min(v * width, b.channels - width)
            target = p.dw + part * g.part_bytes + at * g.taps * members * size
            sums = scratch + (v - begin) * g.vector_sums
            for tap in range(g.taps):
                chunk, place_of = tap // taps, tap % taps
                for k in range(0, members, rows):
                    outer_settle(
                        outer,
                        sums + (chunk * (members // rows) + k // rows) * tile,
                        place_of,
                        target + (k * g.taps + tap) * members * size,
                        g.taps * members * size,
                        v * width - at,
                    )


def outer_program(problem: ConvProblem, outer: GroupOuter, machine: Machine) -> Program:
    """Sums of every part of the blocks, then their sum, both in channels-last order."""
    size, members = problem.x.dtype.itemsize, problem.group_C
    x, before, buffers = arranged(
        problem, Order.CHANNELS_LAST, "x", problem.x, problem.C, problem.size
    )
    y, more, own = arranged(problem, Order.CHANNELS_LAST, "y", problem.y, problem.K, problem.out)
    before, buffers = before + more, buffers + own
    w, after = "w", tuple[Step, ...]()
    length = problem.K * problem.taps * members
    if problem.w.order is not Order.CHANNELS_LAST and problem.taps > 1:
        w, shape = "w_arranged", (problem.w.dtype, problem.K, members, problem.filter)
        before += (to_channels_last("w", w, *shape),) if problem.accumulate else ()
        after = (to_channels_first(w, "w", *shape),)
        buffers += (Buffer(name=w, nbytes=length * size),)
    parts, collect, scratch = _collect(problem, outer, machine)
    several = parts > 1 or problem.accumulate
    step = replace(collect, operands=(x, y, "parts" if several else w, "scratch"))
    buffers += (Buffer(name="scratch", nbytes=scratch, scope="worker"),)
    if several:
        after = (add_step(problem, parts, w), *after)
        buffers += (Buffer(name="parts", nbytes=parts * length * size),)
    return Program(steps=(*before, step, *after), buffers=buffers)


def _collect(problem: ConvProblem, outer: GroupOuter, machine: Machine) -> tuple[int, Step, int]:
    """Parts, their launch, and the scratch bytes of a worker."""
    size, members = problem.x.dtype.itemsize, problem.group_C
    width = outer.columns * outer.lanes
    place = width * size
    vectors = -(-problem.C // width)
    blocks = slab(problem, outer, 1, machine)
    depth, height, columns = three_axes(problem)
    pixels = problem.N * depth.out * height.out * columns.out
    pieces = -(-vectors * outer.columns // _RUN)
    parts = max(1, min(-(-_PIECES // pieces), blocks.blocks, pixels // _PART))
    pieces = max(pieces, min(vectors, -(-_PIECES // parts)))
    group = -(-vectors // pieces)
    pieces = -(-vectors // group)
    chunks = -(-problem.taps // outer.taps)
    rows = (height.filter, columns.filter)
    high = -(-blocks.nbytes // (blocks.columns * place * ((depth.filter - 1) * depth.dilation + 1)))
    offsets = [
        ((d * high + h * height.dilation) * blocks.columns + w * columns.dilation) * place
        for d, h, w in product(range(depth.filter), *map(range, rows))
    ]
    offsets += offsets[-1:] * (chunks * outer.taps - problem.taps)
    vector_sums = chunks * outer.taps * members * place
    block_bytes = (-(-n // 64) * 64 for n in (blocks.nbytes, blocks.band * blocks.span * place))
    x_bytes, dy_bytes = block_bytes
    scratch = group * vector_sums + x_bytes + dy_bytes
    rounds = chunks * (members // outer.rows) * blocks.band
    alone = blocks.blocks > 1 and blocks.span == columns.out
    constants = _WGRAD.pack(
        ahead_x=alone * -(-blocks.band * height.stride * columns.size // rounds),
        ahead_dy=alone * -(-blocks.band * columns.out // rounds),
        taps=problem.taps,
        chunks=chunks,
        taps_d=depth.filter,
        part_bytes=problem.K * problem.taps * members * size,
        parts=parts,
        pieces=pieces,
        group=group,
        vectors=vectors,
        step_d=depth.stride,
        step_h=height.stride,
        step_w=columns.stride,
        dilation_d=depth.dilation,
        pad_front=depth.pad_lo,
        vector_sums=vector_sums,
        x_bytes=x_bytes,
        scratch_bytes=scratch,
    )
    constants += blocks.constants
    constants += PLANE.pack(
        rows=blocks.band,
        columns=blocks.span,
        channels=problem.K,
        from_h=height.out,
        from_w=columns.out,
    )
    constants += pack_table([(offset,) for offset in offsets])
    tiles, sums = chunks * (members // outer.rows), outer.rows * outer.taps * outer.columns
    products = tiles * max(sums, _FEWEST_SUMS) + _COPY * outer.columns
    step = Step(
        name="collect",
        kernel=KernelRef(grouped_outer, outer),
        operands=(),
        constants=constants,
        tasks=parts * pieces,
        # Sums stay in registers for a whole block: 1.4 times the rate of the other tiles.
        cost=Cost(
            flops=2 * pixels * vectors * outer.lanes * products * 5 // 7, bytes=problem.bytes
        ),
    )
    return parts, step, scratch
