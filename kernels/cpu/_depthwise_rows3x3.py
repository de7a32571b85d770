"""Fprop and dgrad of 3x3 filters, channels last: sweeps along a few rows of the output together."""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._convert import vectors_of
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    axis_view,
    extents,
    pack_axis,
    three_axes,
)
from convforge.kernels.cpu._depthwise_blocks import (
    BLOCKS_BYTES,
    blocks_view,
    enter_block,
    leave_block,
    make_blocks,
)
from convforge.kernels.cpu._depthwise_channels import copy_channels, pack_taps
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, put_rows, store_view
from convforge.kernels.cpu._sweep_rows import (
    Sweep,
    sweep_lag,
    sweep_reach,
    sweep_rows,
    sweep_step,
    sweep_stride,
    sweep_turn,
    sweep_weights,
    sweep_zeros,
)
from convforge.kernels.cpu._vector import itemsize, lanes, store, vector_bytes, zeros
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import store_word
from convforge.runtime.tasks import claimed

_TAPS = 9
_WAITING = 56
"""Vectors of a row whose sums wait in scratch, where they are not stored as they are."""
_SEGMENTS = (7, 14)
"""Pixels these are of: the fewer, the more vectors of each are stored together."""
_ALIASED_BYTES = 2 << 10
"""Pixels a multiple of this apart share so few sets of an L1 that they drive each other out.

Stores to them lose their lines to later stores before they are done, so sums go through scratch and
are stored several vectors at a time: 1024 channels @7 take 15 microseconds and not 25. With stride
2 there are few of them among the loads, and scratch takes longer: 512 channels @14 160, not 140.
"""
_MOST_PACKED_BYTES = 48 << 10
"""Packed weights of a group of channels: a few of them stay in the L2 beside the rows."""
_TASKS = 16
"""Wanted, for a few threads to share evenly; with fewer bands, channels are split."""

_ROWS = Layout(
    "DepthwiseRows3x3",
    "images channels group prepared flip plain direct segment scratch_bytes "
    "from_d from_h from_w to_d to_h to_w",
)
_rows = _ROWS.view
_ROWS_BYTES = _ROWS.nbytes
_POINTERS = Layout("DepthwiseRows3x3Pointers", "source weights output bias residual scratch")
_pointers = _POINTERS.view


def sweeps_rows(problem: ConvProblem) -> bool:
    """Whether :func:`depthwise_rows3x3` runs a problem: 3x3, stride 1, or fprop with stride 2."""
    d, h, w = three_axes(problem)
    strides = (1, 2) if problem.direction is Direction.FPROP else (1,)
    alone = d.padded == d.size and d.filter == d.stride == 1
    near = h.filter == w.filter == 3 and h.dilation == w.dilation == 1
    return alone and near and h.stride == w.stride and h.stride in strides


@inlined
def _bits_between(low, high):
    """Bits from ``low`` to before ``high``."""
    low, high = min(max(low, 0), 62), min(max(high, 0), 62)
    return ((1 << high) - 1) & ~((1 << low) - 1)


@kernel
def depthwise_rows3x3(sweep, constants, pointers, worker, work):
    """Sum taps channel by channel; a task is a group of channels of a few rows, or a block.

    Scratch: the block, a pixel of zeros, the sums on their way out, the packed weights of the
    group, the sums' pixels.
    """
    g, p = _rows(constants), _pointers(pointers)
    s = store_view(constants + _ROWS_BYTES)
    b = blocks_view(constants + _ROWS_BYTES + STORE_BYTES)
    h_axis = axis_view(constants + _ROWS_BYTES + STORE_BYTES + BLOCKS_BYTES)
    w_axis = axis_view(constants + _ROWS_BYTES + STORE_BYTES + BLOCKS_BYTES + AXIS_BYTES)
    size, width, vector = itemsize(sweep), lanes(sweep), vector_bytes(sweep)
    rows, stride, lag = sweep_rows(sweep), sweep_stride(sweep), sweep_lag(sweep)
    reach, turn = sweep_reach(sweep), lag + 1
    block = _WAITING // g.segment * width
    block_bytes = block * size
    pixel = b.pixel
    line, out_line = g.from_w * pixel, g.to_w * pixel
    rows_at = p.scratch + worker * g.scratch_bytes
    nothing = rows_at + b.nbytes
    store(nothing, zeros(sweep))
    slab = nothing + vector
    packed = slab + rows * _WAITING * vector + vector
    table = packed + g.group * _TAPS * size
    tiles = (g.to_h + b.tile - 1) // b.tile
    planes = g.images * g.to_d * tiles
    ready = -1
    for task in claimed(work, worker):
        group, rest = task // planes, task % planes
        tile, plane = rest % tiles, rest // tiles
        begin = group * g.group
        end = min(begin + g.group, g.channels)
        if g.prepared:
            packed = p.weights + begin * _TAPS * size
        elif group != ready:
            ready = group
            for c in range(begin, end, width):
                at = min(c, g.channels - width)
                target = packed + (c - begin) * _TAPS * size
                pack_taps(sweep, p.weights + at * _TAPS * size, target, _TAPS, g.flip)
        top, bottom = tile * b.tile, min((tile + 1) * b.tile, g.to_h)
        lead = min(begin, g.channels - width)
        origin = p.source + plane * g.from_h * line
        output, residual = p.output + plane * g.to_h * out_line, p.residual
        residual += plane * g.to_h * out_line
        if b.blocked:
            low = max(h_axis.first + top * stride, 0)
            high = min(h_axis.first + (bottom - 1) * stride + 3, g.from_h)
            enter_block(sweep, g, b, s, p, rows_at, plane, lead, low, high, top, bottom)
            origin = rows_at - low * line - lead * size
            output = rows_at + b.output_at - top * out_line - lead * size
            residual = rows_at + b.residual_at - top * out_line - lead * size
        for h in range(top, bottom, rows):
            first = h_axis.first + h * stride
            count = min(rows, bottom - h)
            near = _bits_between(-first, min(g.from_h - first, (count - 1) * stride + 3))
            written = _bits_between(0, count)
            whole = count == rows and near | 1 | 1 << reach - 1 == (1 << reach) - 1
            for c in range(begin, end, block):
                last, base = min(c + block, end), min(c, g.channels - width)
                # A vector that overlaps the one before stores the same again, if that is its
                # task's.
                direct = g.direct != 0 and (base == c or b.blocked != 0)
                most = g.to_w if direct else g.segment
                for i in range(0, g.to_w, most):
                    pixels = min(most, g.to_w - i)
                    for lane in range(c, last, width):
                        at = min(lane, g.channels - width)
                        w = sweep_weights(sweep, packed + (lane - begin) * _TAPS * size)
                        y, y_step = slab + (at - base) * size, block_bytes
                        y_line = _WAITING * vector
                        if direct:
                            y, y_step = output + h * out_line + at * size, pixel
                            y_line = out_line
                        place = w_axis.first + i * stride - (stride - 1)
                        x = origin + first * line + at * size + place * pixel
                        sums, t = sweep_zeros(sweep), -lag
                        while t < pixels:
                            turns = 0
                            if whole and t >= 0 and place >= 0:
                                ahead = (g.from_w - place) // (turn * stride)
                                # Beyond a wide border none are ahead, and fewer than none.
                                turns = max(min((pixels - t) // turn, ahead), 0)
                            above, above_pixel = x, pixel
                            if near & 1 == 0:
                                above, above_pixel = nothing, 0
                            below, below_pixel = x + (reach - 1) * line, pixel
                            if near >> reach - 1 == 0:
                                below, below_pixel = nothing, 0
                            for _ in range(turns):
                                sums = sweep_turn(
                                    sweep,
                                    sums,
                                    w,
                                    above,
                                    above_pixel,
                                    x + line,
                                    pixel,
                                    line,
                                    below,
                                    below_pixel,
                                    y + t * y_step,
                                    y_step,
                                    y_line,
                                )
                                above += turn * stride * above_pixel
                                below += turn * stride * below_pixel
                                x += turn * stride * pixel
                                t += turn
                            place += turns * turn * stride
                            if t < pixels:
                                sums = sweep_step(
                                    sweep,
                                    sums,
                                    w,
                                    x,
                                    line,
                                    near,
                                    place,
                                    g.from_w,
                                    pixel,
                                    y + t * y_step,
                                    y_line,
                                    written if t >= 0 else 0,
                                )
                                place += stride
                                x += stride * pixel
                                t += 1
                    if direct:
                        continue
                    for r in range(count):
                        sums_at = slab + r * _WAITING * vector + (c - base) * size
                        target = (h + r) * g.to_w + i
                        if g.plain:
                            for t in range(pixels):
                                to = output + (target + t) * pixel + c * size
                                copy_channels(sweep, to, sums_at + t * block_bytes, last - c)
                            continue
                        for t in range(pixels):
                            store_word(table + 8 * t, target + t)
                        put_rows(
                            vectors_of(sweep),
                            s,
                            sums_at,
                            block_bytes,
                            pixels,
                            last - c,
                            table,
                            output + c * size,
                            p.bias + c * size,
                            residual + c * size,
                        )
        if b.blocked:
            leave_block(sweep, g, b, p, rows_at, plane, lead, begin, top, bottom)


def rows3x3_step(problem: ConvProblem, sweep: Sweep, operands: tuple[str, ...]) -> tuple[Step, int]:
    """The launch, and the scratch bytes of a worker."""
    size = problem.x.dtype.itemsize
    vector = sweep.lanes * size
    vectors = -(-problem.C // sweep.lanes)
    shape = extents(problem)
    blocks = make_blocks(problem, sweep.lanes, sweep.rows)
    bands = problem.N * shape["to_d"] * -(-shape["to_h"] // blocks.tile)
    most = max(1, _MOST_PACKED_BYTES // (_TAPS * vector))
    pieces = min(vectors, max(-(-vectors // most), -(-_TASKS // bands)))
    group = sweep.lanes if blocks.nbytes else -(-vectors // pieces) * sweep.lanes
    slab = (1 + sweep.rows * _WAITING + 1) * vector
    scratch = slab + 8 * _SEGMENTS[-1] + group * _TAPS * size + blocks.nbytes
    scratch = -(-scratch // 64) * 64
    plain = not (problem.post or problem.accumulate)
    constants = _ROWS.pack(
        images=problem.N,
        channels=problem.C,
        group=group,
        prepared=operands[1] == "packed",
        flip=problem.direction is Direction.DGRAD,
        plain=plain,
        direct=plain and (sweep.step > 1 or blocks.pixel % _ALIASED_BYTES != 0),
        segment=next((n for n in _SEGMENTS if shape["to_w"] <= n), _SEGMENTS[-1]),
        scratch_bytes=scratch,
        **shape,
    )
    constants += pack_store(problem, blocks.pixel) + blocks.packed
    constants += b"".join(pack_axis(problem, axis) for axis in three_axes(problem)[1:])
    step = Step(
        name="sweep",
        kernel=KernelRef(depthwise_rows3x3, sweep),
        operands=operands,
        constants=constants,
        tasks=-(-problem.C // group) * bands,
        cost=Cost(flops=problem.flops * vectors * sweep.lanes // problem.C, bytes=problem.bytes),
    )
    return step, scratch
