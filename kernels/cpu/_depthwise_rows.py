"""Fprop and dgrad, channels last: a vector is neighbouring channels, a strip lies along a row."""

from __future__ import annotations

from typing import NamedTuple

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._block import block_load, block_store, block_transpose
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    along,
    axis_view,
    extents,
    pack_axis,
    sweeps,
    taps_inside,
    three_axes,
)
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, store_rows, store_view
from convforge.kernels.cpu._strip import (
    Strip,
    strip_pixels,
    strip_step,
    strip_store,
    strip_zeros,
)
from convforge.kernels.cpu._sweep import sweep, sweep_apart
from convforge.kernels.cpu._vector import itemsize, lanes, vector_bytes
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.rawmem import clear_bytes, store_word

_PACKED_BYTES = 8 << 10
"""Packed weights of a group of channels for each image, up to ``_MOST_IMAGES``.

Wide groups read whole pixels, which memory and its prefetch want; a single image is rather split.
"""
_MOST_IMAGES = 8
_SHORT_BAND = 4
"""With many images, so that the rows of a group of channels stay in the L2."""
BAND = 16
"""Rows of a task: rows of the image are read again from the L1, and threads share the work."""

_ROWS = Layout(
    "DepthwiseRows",
    "images channels group band sweeps flip taps plain scratch_bytes "
    "from_d from_h from_w to_d to_h to_w",
)
_rows = _ROWS.view
_ROWS_BYTES = _ROWS.nbytes
_POINTERS = Layout("DepthwisePointers", "source weights output bias residual scratch")
_pointers = _POINTERS.view


@device
def pack_taps(strip, w, target, taps, flip):
    """Weights of as many channels as lanes, a vector for each tap."""
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    for tap in range(0, taps, width):
        count = min(width, taps - tap)
        block = block_transpose(strip, block_load(strip, w + tap * size, taps * size, width, count))
        if flip:
            block_store(strip, block, target + (taps - 1 - tap) * vector, -vector, count, width)
        else:
            block_store(strip, block, target + tap * vector, vector, count, width)


class _Channels(NamedTuple):
    """A vector of channels: where its source, output and weights begin, and its scratch memory.

    Attributes:
        done: Lanes that the vector before has in common with this, the last one, and has written.
        slab: Where sums wait that are not stored as they are. table: For the pixels they go to.
        nothing: A vector of zeros.
    """

    source: int
    output: int
    weights: int
    bias: int
    residual: int
    done: int
    slab: int
    table: int
    nothing: int


@device
def _finish(strip, s, v, target, apart, count):
    """Write the sums in the slab to the pixels from ``target`` on, through the post ops."""
    for t in range(count):
        store_word(v.table + 8 * t, target + t * apart)
    done = v.done * itemsize(strip)
    width = lanes(strip) - v.done
    place, output = v.slab + done, v.output + done
    store_rows(strip, s, place, count, width, v.table, output, v.bias + done, v.residual + done)


@inlined
def _sweep_row(strip, g, s, v, h_axis, w_axis, plane, row, h):
    """A row of the output where the filter is 3x3."""
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    edges = (0, width, 0, width, 0, width)
    pixel = g.channels * size
    top, middle, bottom = v.nothing, v.nothing, v.nothing
    top_step, middle_step, bottom_step = 0, 0, 0
    first = h_axis.first + h * h_axis.step
    line = v.source + (plane * g.from_h * g.from_w + w_axis.first) * pixel
    line_bytes = g.from_w * pixel
    if 0 <= first < g.from_h:
        top, top_step = line + first * line_bytes, pixel
    first += h_axis.tap_step
    if 0 <= first < g.from_h:
        middle, middle_step = line + first * line_bytes, pixel
    first += h_axis.tap_step
    if 0 <= first < g.from_h:
        bottom, bottom_step = line + first * line_bytes, pixel
    steps = (top_step, middle_step, bottom_step)
    direct = g.plain != 0 and v.done == 0
    most = g.to_w if direct else strip_pixels(strip)
    for i in range(0, g.to_w, most):
        count = min(most, g.to_w - i)
        moved = i * w_axis.step
        x = (top + moved * top_step, middle + moved * middle_step, bottom + moved * bottom_step)
        at = w_axis.first + moved
        target = row * g.to_w + i
        y, y_step = v.slab, vector
        if direct:
            y, y_step = v.output + target * pixel, pixel
        w, across, extent = v.weights, 3 * vector, g.from_w
        if strip_step(strip) == 1:
            sweep(strip, w, across, vector, x, steps, edges, at, extent, y, y_step, count, width)
        else:
            sweep_apart(
                strip, w, across, vector, x, steps, edges, at, extent, y, y_step, count, width
            )
        if not direct:
            _finish(strip, s, v, target, 1, count)


@kernel
def depthwise_rows(strip, constants, pointers, worker, workers):
    """Sum taps channel by channel; a task is a group of channels of a band of rows.

    Scratch: zeros, the sums on their way out, their pixels, the packed weights of the group.
    """
    g, p = _rows(constants), _pointers(pointers)
    s = store_view(constants + _ROWS_BYTES)
    d_axes = constants + _ROWS_BYTES + STORE_BYTES
    d_phases = axis_view(d_axes).phases
    h_axes = d_axes + d_phases * AXIS_BYTES
    h_phases, h_filter = axis_view(h_axes).phases, axis_view(h_axes).filter
    w_axes = h_axes + h_phases * AXIS_BYTES
    w_phases, w_filter = axis_view(w_axes).phases, axis_view(w_axes).filter
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixel, pixels = g.channels * size, strip_pixels(strip)
    nothing = p.scratch + worker * g.scratch_bytes
    slab = nothing + vector
    table = slab + (pixels + 1) * vector
    packed = table + 8 * pixels
    clear_bytes(nothing, vector)
    groups = (g.channels + g.group - 1) // g.group
    bands = (g.to_h + g.band - 1) // g.band
    planes = g.images * g.to_d * bands
    tasks, ready = groups * planes, -1
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        group, rest = task // planes, task % planes
        band, plane = rest % bands, rest // bands
        d, image = plane % g.to_d, plane // g.to_d
        begin = group * g.group
        end = min(begin + g.group, g.channels)
        if group != ready:
            ready = group
            for c in range(begin, end, width):
                at = min(c, g.channels - width)
                target = packed + (c - begin) * g.taps * size
                pack_taps(strip, p.weights + at * g.taps * size, target, g.taps, g.flip)
        d_axis = axis_view(d_axes + d % d_phases * AXIS_BYTES)
        d_low, d_high = taps_inside(d_axis, d // d_phases)
        d_first = d_axis.first + d // d_phases * d_axis.step + image * g.from_d
        for c in range(begin, end, width):
            at = min(c, g.channels - width)
            weights = packed + (c - begin) * g.taps * size
            v = _Channels(
                source=p.source + at * size,
                output=p.output + at * size,
                weights=weights,
                bias=p.bias + at * size,
                residual=p.residual + at * size,
                done=c - at,
                slab=slab,
                table=table,
                nothing=nothing,
            )
            for h in range(band * g.band, min((band + 1) * g.band, g.to_h)):
                row = plane * g.to_h + h
                if g.sweeps:
                    axes = axis_view(h_axes), axis_view(w_axes)
                    _sweep_row(strip, g, s, v, *axes, d_first, row, h)
                    continue
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
                        target = row * g.to_w + phase + i * w_phases
                        if g.plain and v.done == 0:
                            step, place = w_phases * pixel, v.output + target * pixel
                            strip_store(strip, sums, place, step, count, width)
                        else:
                            strip_store(strip, sums, slab, vector, pixels, width)
                            _finish(strip, s, v, target, w_phases, count)


def rows_step(problem: ConvProblem, strip: Strip, operands: tuple[str, ...]) -> tuple[Step, int]:
    """Channels last: the launch, and the scratch bytes of a worker."""
    size = problem.x.dtype.itemsize
    vector = strip.lanes * size
    vectors = -(-problem.C // strip.lanes)
    packed = _PACKED_BYTES * min(problem.N, _MOST_IMAGES)
    group = max(1, min(vectors, packed // (vector * problem.taps))) * strip.lanes
    scratch = (strip.pixels + 2) * vector + 8 * strip.pixels + group * problem.taps * size
    scratch = -(-scratch // 64) * 64
    shape = extents(problem)
    band = min(BAND if problem.N == 1 else _SHORT_BAND, shape["to_h"])
    constants = _ROWS.pack(
        images=problem.N,
        channels=problem.C,
        group=group,
        band=band,
        sweeps=sweeps(problem, strip, 2),
        flip=problem.direction is Direction.DGRAD,
        taps=problem.taps,
        plain=not (problem.post or problem.accumulate),
        scratch_bytes=scratch,
        **shape,
    )
    constants += pack_store(problem, problem.C * size)
    constants += b"".join(pack_axis(problem, axis) for axis in three_axes(problem))
    bands = shape["to_d"] * -(-shape["to_h"] // band)
    step = Step(
        name="slide",
        kernel=KernelRef(depthwise_rows, strip),
        operands=operands,
        constants=constants,
        tasks=-(-problem.C // group) * problem.N * bands,
        cost=Cost(flops=problem.flops * vectors * strip.lanes // problem.C, bytes=problem.bytes),
    )
    return step, scratch
