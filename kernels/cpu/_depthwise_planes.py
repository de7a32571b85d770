"""Fprop and dgrad, channels first: a vector is neighbouring columns, a strip lies down a column.

Columns that a tap moves outside the plane are lanes that its load leaves out. Where taps step
over columns, rows are rearranged as lines first (:mod:`convforge.kernels.cpu._depthwise_lines`).
"""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    along,
    axis_view,
    extents,
    pack_axis,
    pack_stuffed,
    phases,
    sweeps,
    taps_inside,
    three_axes,
)
from convforge.kernels.cpu._depthwise_lines import LINES_BYTES, fill_lines, lines_view, pack_lines
from convforge.kernels.cpu._depthwise_plane import (
    PLANES,
    PLANES_BYTES,
    planes_pointers,
    planes_view,
    splat_taps,
)
from convforge.kernels.cpu._depthwise_planes3x3 import depthwise_planes3x3
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, store_rows, store_view
from convforge.kernels.cpu._strip import (
    Strip,
    strip_pixels,
    strip_store,
    strip_zeros,
)
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load_scalar,
    splat,
    store,
    vector_bytes,
)
from convforge.problem import ConvProblem, Direction
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import clear_bytes, store_word
from convforge.runtime.tasks import claimed

_SWEEP = 64
"""Rows of a task where a filter is swept over them: most maps are one."""


@kernel
def depthwise_planes(strip, constants, pointers, worker, work):
    """Sum taps plane by plane; a task is a few rows of one plane of the output.

    An output plane reads ``fan_in`` planes of the source, ``fan_out`` of them share one.
    Scratch: the sums on their way out, their places, the bias, the weights, the lines.
    """
    g, p = planes_view(constants), planes_pointers(pointers)
    s = store_view(constants + PLANES_BYTES)
    c = lines_view(constants + PLANES_BYTES + STORE_BYTES)
    d_axes = constants + PLANES_BYTES + STORE_BYTES + LINES_BYTES
    h_axes = d_axes + axis_view(d_axes).phases * AXIS_BYTES
    w_axis = axis_view(h_axes + axis_view(h_axes).phases * AXIS_BYTES)
    d_phases, h_phases = axis_view(d_axes).phases, axis_view(h_axes).phases
    h_filter, w_filter = axis_view(h_axes).filter, w_axis.filter
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixels = strip_pixels(strip)
    slab = p.scratch + worker * g.scratch_bytes
    bias = slab + pixels * vector
    table = bias + vector
    weights = table + 8 * pixels
    lines = weights + g.fan_in * g.taps * vector
    clear_bytes(lines, c.rows * c.row_bytes)
    plane_tiles = g.to_d * h_phases * g.tiles
    ready = -1
    for task in claimed(work, worker):
        plane = task // plane_tiles
        tile, rest = task % g.tiles, task % plane_tiles // g.tiles
        d, h_phase = rest // h_phases, rest % h_phases
        image, k = plane // g.channels, plane % g.channels
        h_axis = axis_view(h_axes + h_phase * AXIS_BYTES)
        i = tile * g.tile
        count = min(g.tile, h_axis.count - i)
        if count <= 0:
            continue
        if plane != ready:
            ready = plane
            filters = p.weights + k * g.fan_in * g.taps * size
            for j in range(g.fan_in):
                at = j * g.taps
                splat_taps(strip, filters + at * size, weights + at * vector, g.taps, g.flip)
            if s.has_bias:
                store(bias, splat(strip, load_scalar(strip, p.bias + k * size)))
        d_axis = axis_view(d_axes + d % d_phases * AXIS_BYTES)
        d_low, d_high = taps_inside(d_axis, d // d_phases)
        d_first = d_axis.first + d // d_phases * d_axis.step
        h_low = max(h_axis.first + i * h_axis.step, 0)
        h_high = h_axis.first + (i + count - 1) * h_axis.step
        h_high = min(h_high + (h_axis.taps - 1) * h_axis.tap_step + 1, h_axis.size)
        row = (plane * g.to_d + d) * g.to_h + h_phase + i * h_phases
        source_rows = (image * g.inputs + k * g.fan_in // g.fan_out) * g.from_d
        again = g.fan_in * (d_high - d_low) > 1
        for q in range(0, g.to_w, width):
            sums = strip_zeros(strip)
            for j in range(g.fan_in):
                for kd in range(d_low, d_high):
                    depth = source_rows + j * g.from_d + d_first + kd * d_axis.tap_step
                    source = p.source + depth * g.from_h * g.from_w * size
                    d_tap = j * g.taps + (d_axis.tap_first + kd * d_axis.tap_apart) * (
                        h_filter * w_filter
                    )
                    step = g.from_w * size
                    if c.rows:
                        step = c.row_bytes
                        if again or q == 0:
                            for h in range(h_low, h_high):
                                line = lines + (h - h_low) * step
                                fill_lines(strip, c, line, source + h * g.from_w * size, g.from_w)
                        source = lines + c.margin * size - h_low * step
                    for kw in range(w_axis.taps):
                        at = w_axis.first + kw * w_axis.tap_step
                        first, last = -(at + q), w_axis.size - (at + q)
                        if c.rows:
                            first, last = 0, width
                            if c.apart > 1:
                                at = at % c.apart * c.pitch + at // c.apart
                        elif last <= 0 or first >= width:
                            continue
                        tap = d_tap + h_axis.tap_first * w_filter + kw
                        sums = along(
                            strip,
                            sums,
                            h_axis,
                            source + (at + q) * size,
                            step,
                            i,
                            count,
                            weights + tap * vector,
                            h_axis.tap_apart * w_filter * vector,
                            first,
                            last,
                        )
            left = min(width, g.to_w - q)
            output = p.output + q * size
            line = g.to_w * size
            if g.plain:
                strip_store(strip, sums, output + row * line, h_phases * line, count, left)
                continue
            strip_store(strip, sums, slab, vector, pixels, width)
            for t in range(count):
                store_word(table + 8 * t, row + t * h_phases)
            residual = p.residual + q * size
            store_rows(strip, s, slab, count, left, table, output, bias, residual)


def planes_step(problem: ConvProblem, strip: Strip, operands: tuple[str, ...]) -> tuple[Step, int]:
    """Channels first: the launch, and the scratch bytes of a worker."""
    size = problem.x.dtype.itemsize
    fprop = problem.direction is Direction.FPROP
    vector = strip.lanes * size
    outputs, inputs = (problem.K, problem.C) if fprop else (problem.C, problem.K)
    fan_in, fan_out = max(1, inputs // outputs), max(1, outputs // inputs)
    shape = extents(problem)
    d, h, w = three_axes(problem)
    lines, line_bytes = pack_lines(problem, strip.lanes, strip.pixels)
    scratch = (strip.pixels + 1) * vector + 8 * strip.pixels
    scratch += fan_in * problem.taps * vector + line_bytes
    scratch = -(-scratch // 64) * 64
    longest = -(-shape["to_h"] // phases(problem, h))
    swept = fan_in == 1 and sweeps(problem, strip, 1)
    plain = not (problem.post or problem.accumulate)
    tile = _SWEEP if swept and plain and not line_bytes else strip.pixels
    tiles = -(-longest // tile)
    constants = PLANES.pack(
        images=problem.N,
        channels=outputs,
        inputs=inputs,
        fan_in=fan_in,
        fan_out=fan_out,
        tile=tile,
        tiles=tiles,
        flip=not fprop,
        taps=problem.taps,
        plain=plain,
        scratch_bytes=scratch,
        **shape,
    )
    constants += pack_store(problem, shape["to_w"] * size) + lines
    constants += pack_axis(problem, d) + pack_axis(problem, h) + pack_stuffed(problem, w)
    columns = shape["to_w"]
    computed = -(-columns // strip.lanes) * strip.lanes
    step = Step(
        name="slide",
        kernel=KernelRef(depthwise_planes3x3 if swept else depthwise_planes, strip),
        operands=operands,
        constants=constants,
        tasks=problem.N * outputs * shape["to_d"] * phases(problem, h) * tiles,
        cost=Cost(flops=problem.flops * computed // columns, bytes=problem.bytes),
    )
    return step, scratch
