"""Fprop and dgrad of small groups, channels last: strips along the rows of a block."""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Machine, Step
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    axis_view,
    extents,
    pack_axis,
    taps_inside,
    three_axes,
)
from convforge.kernels.cpu._group_strip import (
    GroupStrip,
    group_columns,
    group_exchanged,
    group_members,
    group_outputs,
    group_repeated,
    group_store,
    group_zeros,
)
from convforge.kernels.cpu._grouped_slab import SLAB_BYTES, slab, slab_bring, slab_view
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, store_rows, store_view
from convforge.kernels.cpu._strip import strip_pixels, strip_taps
from convforge.kernels.cpu._vector import itemsize, lanes, vector_bytes
from convforge.problem import ConvProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.rawmem import load_word, prefetch, store_word
from convforge.runtime.tasks import claimed

_LINE_BYTES = 64
_TAP_BYTES = 16
"""Of an entry of the list of taps."""

_ROWS = Layout("GroupedRows", "taps plain scratch_bytes slab_bytes")
_rows = _ROWS.view
_ROWS_BYTES = _ROWS.nbytes
_HEAD_BYTES = _ROWS_BYTES + SLAB_BYTES
_POINTERS = Layout("GroupedPointers", "source packed output bias residual scratch")
_pointers = _POINTERS.view


@device
def _list_taps(b, axes, depths, h, top, place_bytes, tap_bytes, chunk, taps):
    """List the taps that a row of the output meets, behind the address of the list's end.

    Of each chunk the first: bytes from the slab's first place, bytes from the first weight.
    """
    d_axis, h_axis, w_axis = axes
    d_low, d_high = depths
    h_low, h_high = taps_inside(h_axis, h)
    at = taps + 8
    for kd in range(d_low, d_high):
        d_tap = (d_axis.tap_first + kd * d_axis.tap_apart) * h_axis.filter
        for kh in range(h_low, h_high):
            row = h_axis.first + h * h_axis.step + kh * h_axis.tap_step - top
            row += (kd - d_low) * b.rows
            h_tap = (d_tap + h_axis.tap_first + kh * h_axis.tap_apart) * w_axis.filter
            for kw in range(0, w_axis.taps, chunk):
                store_word(at, (row * b.columns + kw * w_axis.tap_step) * place_bytes)
                tap = h_tap + w_axis.tap_first + kw * w_axis.tap_apart
                store_word(at + 8, tap * tap_bytes)
                at += _TAP_BYTES
    store_word(taps, at)


@inlined
def _add_taps(strip, sums, x, step, w, tap_bytes):
    """Add what a chunk of taps gives to a strip: at once, or input by input in a wide group."""
    if group_members(strip) < lanes(strip):
        return group_exchanged(strip, sums, x, step, w)
    for c in range(group_members(strip)):
        vector = w + c * group_columns(strip) * vector_bytes(strip)
        sums = group_repeated(strip, sums, x + c * itemsize(strip), step, vector, tap_bytes)
    return sums


@kernel
def grouped_rows(strip, constants, pointers, worker, work):
    """Sum taps, a vector of channels after the other; a task is a block of outputs.

    Scratch: the sums on their way out, the pixels they go to, the taps of the rows, the slab.
    """
    g, p = _rows(constants), _pointers(pointers)
    b = slab_view(constants + _ROWS_BYTES)
    s = store_view(constants + _HEAD_BYTES)
    d_axes = constants + _HEAD_BYTES + STORE_BYTES
    d_phases = axis_view(d_axes).phases
    h_axes = d_axes + d_phases * AXIS_BYTES
    h_phases = axis_view(h_axes).phases
    w_axes = h_axes + h_phases * AXIS_BYTES
    w_phases = axis_view(w_axes).phases
    size, columns, pixels = itemsize(strip), group_columns(strip), strip_pixels(strip)
    width, place = columns * lanes(strip), columns * vector_bytes(strip)
    pixel, tap_bytes = b.channels * size, group_members(strip) * place
    sums_out = p.scratch + worker * g.scratch_bytes
    table = sums_out + (pixels + 1) * place
    taps = table + 8 * pixels
    slab = p.scratch + (worker + 1) * g.scratch_bytes - g.slab_bytes
    list_bytes = 8 + _TAP_BYTES * g.taps
    blocks = b.bands * b.spans
    for task in claimed(work, worker):
        rest, piece = task // b.pieces, task % b.pieces
        plane, block = rest // blocks, rest % blocks
        row_block, column_block = block // b.spans, block % b.spans
        band, first = row_block * b.band, column_block * b.span
        image, d = plane // b.to_d, plane % b.to_d
        begin = piece * b.group
        end = min(begin + b.group, b.channels)
        top, left = b.top + row_block * b.rows_apart, b.left + column_block * b.columns_apart
        d_axis = axis_view(d_axes + d % d_phases * AXIS_BYTES)
        depths = taps_inside(d_axis, d // d_phases)
        depth = image * b.from_d + d_axis.first + d // d_phases * d_axis.step
        for h in range(band, min(band + b.band, b.to_h)):
            for phase in range(w_phases):
                h_axis = axis_view(h_axes + h % h_phases * AXIS_BYTES)
                axes = d_axis, h_axis, axis_view(w_axes + phase * AXIS_BYTES)
                to = taps + ((h - band) * w_phases + phase) * list_bytes
                row = h // h_phases
                _list_taps(b, axes, depths, row, top, place, tap_bytes, strip_taps(strip), to)
        ahead = p.source + ((depth * b.from_h + top + b.rows) * b.from_w) * pixel
        for c in range(begin, end, width):
            # The last vector overlaps the one before where channels do not fill it.
            at = min(c, b.channels - width)
            done = c - at
            for kd in range(depths[0], depths[1]):
                source = (depth + kd * d_axis.tap_step) * b.from_h * b.from_w * pixel + at * size
                to = slab + (kd - depths[0]) * b.rows * b.columns * place
                slab_bring(strip, b, p.source + source, top, left, to)
            weights = p.packed + c // width * g.taps * tap_bytes
            for h in range(band, min(band + b.band, b.to_h)):
                for phase in range(w_phases):
                    w_axis = axis_view(w_axes + phase * AXIS_BYTES)
                    met = taps + ((h - band) * w_phases + phase) * list_bytes
                    step, apart = w_axis.step * place, w_axis.tap_apart * tap_bytes
                    last = min(first + b.span, w_axis.count)
                    for i in range(first, last, pixels):
                        count = min(pixels, last - i)
                        for line in range(ahead, ahead + b.ahead, _LINE_BYTES):
                            prefetch(line)
                        ahead += b.ahead
                        near = slab + (w_axis.first + i * w_axis.step - left) * place
                        sums = group_zeros(strip)
                        for tap in range(met + 8, load_word(met), _TAP_BYTES):
                            x, w = near + load_word(tap), weights + load_word(tap + 8)
                            sums = _add_taps(strip, sums, x, step, w, apart)
                        outputs = group_outputs(strip, sums)
                        target = (plane * b.to_h + h) * b.to_w + phase + i * w_phases
                        if g.plain and done == 0:
                            y = p.output + target * pixel + at * size
                            group_store(strip, outputs, y, w_phases * pixel, count)
                            continue
                        group_store(strip, outputs, sums_out, place, pixels)
                        for t in range(count):
                            store_word(table + 8 * t, target + t * w_phases)
                        channel = c * size
                        store_rows(
                            strip,
                            s,
                            sums_out + done * size,
                            count,
                            width - done,
                            table,
                            p.output + channel,
                            p.bias + channel,
                            p.residual + channel,
                        )


def grouped_step(
    problem: ConvProblem, strip: GroupStrip, operands: tuple[str, ...], machine: Machine
) -> tuple[Step, int]:
    """The launch, and the scratch bytes of a worker."""
    size, width = problem.x.dtype.itemsize, strip.columns * strip.lanes
    blocks = slab(problem, strip, strip.pixels, machine)
    scratch = (strip.pixels + 1) * width * size + 8 * strip.pixels
    scratch += blocks.lists * (8 + _TAP_BYTES * problem.taps)
    scratch = -(-scratch // 64) * 64 + -(-blocks.nbytes // 64) * 64
    constants = _ROWS.pack(
        taps=problem.taps,
        plain=not (problem.post or problem.accumulate),
        scratch_bytes=scratch,
        slab_bytes=-(-blocks.nbytes // 64) * 64,
    )
    constants += blocks.constants + pack_store(problem, problem.C * size)
    constants += b"".join(pack_axis(problem, axis) for axis in three_axes(problem))
    columns = extents(problem)["to_w"]
    computed = -(-columns // strip.pixels) * strip.pixels * -(-problem.C // width) * width
    step = Step(
        name="slide",
        kernel=KernelRef(grouped_rows, strip),
        operands=operands,
        constants=constants,
        tasks=blocks.tasks,
        cost=Cost(flops=problem.flops * computed // (columns * problem.C), bytes=problem.bytes),
    )
    return step, scratch
