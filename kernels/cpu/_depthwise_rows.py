"""Fprop and dgrad, channels last: a vector is neighbouring channels, a strip lies along a row."""

from __future__ import annotations

import numpy as np

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    along,
    axis_view,
    extents,
    pack_axis,
    taps_inside,
    three_axes,
)
from convforge.kernels.cpu._depthwise_blocks import (
    BLOCKS_BYTES,
    blocks_view,
    enter_block,
    leave_block,
    make_blocks,
)
from convforge.kernels.cpu._depthwise_channels import Channels, copy_channels, finish, pack_taps
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, store_view
from convforge.kernels.cpu._strip import Strip, strip_pixels, strip_store, strip_zeros
from convforge.kernels.cpu._vector import itemsize, lanes, vector_bytes
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.tasks import claimed

_PACKED_BYTES = 8 << 10
"""Packed weights of a group of channels for each image, up to ``_MOST_IMAGES``.

Wide groups read whole pixels, which memory and its prefetch want; a single image is rather split.
"""
_MOST_IMAGES = 8
_SHORT_BAND = 4
"""With many images, so that the rows of a group of channels stay in the L2."""
BAND = 16
"""Rows of a task: rows of the image are read again from the L1, and threads share the work."""
_TASKS = 16
"""Wanted, for a few threads to share evenly; with fewer bands, channels are split."""

_ROWS = Layout(
    "DepthwiseRows",
    "images channels group prepared flip taps plain scratch_bytes "
    "from_d from_h from_w to_d to_h to_w",
)
_rows = _ROWS.view
_ROWS_BYTES = _ROWS.nbytes
_POINTERS = Layout("DepthwisePointers", "source weights output bias residual scratch")
_pointers = _POINTERS.view


@kernel
def depthwise_rows(strip, constants, pointers, worker, work):
    """Sum taps channel by channel; a task is a group of channels of a band of rows.

    Scratch: the block, the sums on their way out, the packed weights of the group, their pixels.
    """
    g, p = _rows(constants), _pointers(pointers)
    s = store_view(constants + _ROWS_BYTES)
    b = blocks_view(constants + _ROWS_BYTES + STORE_BYTES)
    d_axes = constants + _ROWS_BYTES + STORE_BYTES + BLOCKS_BYTES
    d_phases = axis_view(d_axes).phases
    h_axes = d_axes + d_phases * AXIS_BYTES
    h_phases, h_filter = axis_view(h_axes).phases, axis_view(h_axes).filter
    w_axes = h_axes + h_phases * AXIS_BYTES
    w_phases, w_filter = axis_view(w_axes).phases, axis_view(w_axes).filter
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixel, pixels = b.pixel, strip_pixels(strip)
    rows_at = p.scratch + worker * g.scratch_bytes
    slab = rows_at + b.nbytes
    packed = slab + (pixels + 1) * vector
    table = packed + g.group * g.taps * size
    tiles = (g.to_h + b.tile - 1) // b.tile
    planes = g.images * g.to_d * tiles
    ready = -1
    for task in claimed(work, worker):
        group, rest = task // planes, task % planes
        tile, plane = rest % tiles, rest // tiles
        d, image = plane % g.to_d, plane // g.to_d
        begin = group * g.group
        end = min(begin + g.group, g.channels)
        if g.prepared:
            packed = p.weights + begin * g.taps * size
        elif group != ready:
            ready = group
            for c in range(begin, end, width):
                at = min(c, g.channels - width)
                target = packed + (c - begin) * g.taps * size
                pack_taps(strip, p.weights + at * g.taps * size, target, g.taps, g.flip)
        d_axis = axis_view(d_axes + d % d_phases * AXIS_BYTES)
        d_low, d_high = taps_inside(d_axis, d // d_phases)
        d_first = d_axis.first + d // d_phases * d_axis.step
        top, bottom = tile * b.tile, min((tile + 1) * b.tile, g.to_h)
        lead = min(begin, g.channels - width)
        source = p.source + image * g.from_d * g.from_h * g.from_w * pixel
        output = p.output + plane * g.to_h * g.to_w * pixel
        residual = p.residual + plane * g.to_h * g.to_w * pixel
        if b.blocked:
            low, high = g.from_h, np.int64(0)
            for h in range(top, bottom):
                h_axis = axis_view(h_axes + h % h_phases * AXIS_BYTES)
                first = h_axis.first + h // h_phases * h_axis.step
                near, far = taps_inside(h_axis, h // h_phases)
                if near < far:
                    low = min(low, first + near * h_axis.tap_step)
                    high = max(high, first + (far - 1) * h_axis.tap_step + 1)
            low = min(low, high)
            enter_block(strip, g, b, s, p, rows_at, plane, lead, low, high, top, bottom)
            source = rows_at - low * g.from_w * pixel - lead * size
            output = rows_at + b.output_at - top * g.to_w * pixel - lead * size
            residual = rows_at + b.residual_at - top * g.to_w * pixel - lead * size
        for c in range(begin, end, width):
            at = min(c, g.channels - width)
            weights = packed + (c - begin) * g.taps * size
            v = Channels(
                source=source + at * size,
                output=output + at * size,
                weights=weights,
                bias=p.bias + at * size,
                residual=residual + at * size,
                done=c - at,
                slab=slab,
                table=table,
            )
            for h in range(top, bottom):
                h_axis = axis_view(h_axes + h % h_phases * AXIS_BYTES)
                h_low, h_high = taps_inside(h_axis, h // h_phases)
                h_first = h_axis.first + h // h_phases * h_axis.step
                for phase in range(w_phases):
                    w_axis = axis_view(w_axes + phase * AXIS_BYTES)
                    w_step = w_axis.tap_apart * vector
                    for i in range(0, w_axis.count, pixels):
                        count = min(pixels, w_axis.count - i)
                        sums = strip_zeros(strip)
                        for kd in range(d_low, d_high):
                            depth = (d_first + kd * d_axis.tap_step) * g.from_h
                            d_tap = (d_axis.tap_first + kd * d_axis.tap_apart) * h_filter
                            for kh in range(h_low, h_high):
                                line = (depth + h_first + kh * h_axis.tap_step) * g.from_w
                                tap = (d_tap + h_axis.tap_first + kh * h_axis.tap_apart) * w_filter
                                x = v.source + line * pixel
                                w = v.weights + (tap + w_axis.tap_first) * vector
                                sums = along(
                                    strip, sums, w_axis, x, pixel, i, count, w, w_step, 0, width
                                )
                        target = h * g.to_w + phase + i * w_phases
                        # Overlapping the vector before, it stores the same again, if that is its
                        # task's.
                        step, place = w_phases * pixel, v.output + target * pixel
                        if g.plain and (v.done == 0 or c > begin or b.blocked):
                            strip_store(strip, sums, place, step, count, width)
                            continue
                        strip_store(strip, sums, slab, vector, pixels, width)
                        if g.plain:
                            done = v.done * size
                            for t in range(count):
                                to, out = place + t * step, slab + t * vector
                                copy_channels(strip, to + done, out + done, width - v.done)
                            continue
                        finish(strip, s, v, target, w_phases, count)
        if b.blocked:
            leave_block(strip, g, b, p, rows_at, plane, lead, begin, top, bottom)


def rows_step(problem: ConvProblem, strip: Strip, operands: tuple[str, ...]) -> tuple[Step, int]:
    """Channels last: the launch, and the scratch bytes of a worker."""
    size = problem.x.dtype.itemsize
    vector = strip.lanes * size
    vectors = -(-problem.C // strip.lanes)
    packed = _PACKED_BYTES * min(problem.N, _MOST_IMAGES)
    shape = extents(problem)
    band = min(BAND if problem.N == 1 else _SHORT_BAND, shape["to_h"])
    blocks = make_blocks(problem, strip.lanes, band)
    bands = shape["to_d"] * -(-shape["to_h"] // blocks.tile)
    most = max(1, packed // (vector * problem.taps))
    pieces = min(vectors, max(-(-vectors // most), -(-_TASKS // (problem.N * bands))))
    group = strip.lanes if blocks.nbytes else -(-vectors // pieces) * strip.lanes
    scratch = (strip.pixels + 1) * vector + 8 * strip.pixels + group * problem.taps * size
    scratch += blocks.nbytes
    scratch = -(-scratch // 64) * 64
    constants = _ROWS.pack(
        images=problem.N,
        channels=problem.C,
        group=group,
        prepared=operands[1] == "packed",
        flip=problem.direction is Direction.DGRAD,
        taps=problem.taps,
        plain=not (problem.post or problem.accumulate),
        scratch_bytes=scratch,
        **shape,
    )
    constants += pack_store(problem, blocks.pixel) + blocks.packed
    constants += b"".join(pack_axis(problem, axis) for axis in three_axes(problem))
    step = Step(
        name="slide",
        kernel=KernelRef(depthwise_rows, strip),
        operands=operands,
        constants=constants,
        tasks=-(-problem.C // group) * problem.N * bands,
        cost=Cost(flops=problem.flops * vectors * strip.lanes // problem.C, bytes=problem.bytes),
    )
    return step, scratch
