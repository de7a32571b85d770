"""Fprop and dgrad of 3x3 filters, channels first: a vector of columns sweeps down the rows."""

from __future__ import annotations

from convforge.kernels.cpu._depthwise_axes import AXIS_BYTES, axis_view
from convforge.kernels.cpu._depthwise_lines import LINES_BYTES, fill_lines, lines_view
from convforge.kernels.cpu._depthwise_plane import (
    PLANES_BYTES,
    planes_pointers,
    planes_view,
    splat_taps,
)
from convforge.kernels.cpu._store import STORE_BYTES, store_rows, store_view
from convforge.kernels.cpu._strip import strip_pixels
from convforge.kernels.cpu._sweep import sweep
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load_scalar,
    splat,
    store,
    vector_bytes,
)
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import clear_bytes, store_word
from convforge.runtime.tasks import claimed


@inlined
def _places(strip, g, c, w_axis, source, lines, h_low, q):
    """Addresses of row 0 where the three taps of a row read for column q, and their edges."""
    size, width = itemsize(strip), lanes(strip)
    first = w_axis.first + q
    second, third = first + w_axis.tap_step, first + 2 * w_axis.tap_step
    if c.rows:
        source = lines + (c.margin * size - h_low * c.row_bytes)
        a, b = w_axis.first, w_axis.first + w_axis.tap_step
        e = b + w_axis.tap_step
        first = a % c.apart * c.pitch + a // c.apart + q
        second = b % c.apart * c.pitch + b // c.apart + q
        third = e % c.apart * c.pitch + e // c.apart + q
        edges = (0, width, 0, width, 0, width)
    else:
        last = w_axis.size
        edges = (-first, last - first, -second, last - second, -third, last - third)
    return (source + first * size, source + second * size, source + third * size), edges


@kernel
def depthwise_planes3x3(strip, constants, pointers, worker, work):
    """Sweep plane by plane; a task is a few rows of one plane of the output.

    ``fan_out`` planes of the output share one of the source.
    Scratch: the sums on their way out, their places, the bias, the weights, the lines.
    """
    g, p = planes_view(constants), planes_pointers(pointers)
    s = store_view(constants + PLANES_BYTES)
    c = lines_view(constants + PLANES_BYTES + STORE_BYTES)
    d_axes = constants + PLANES_BYTES + STORE_BYTES + LINES_BYTES
    h_axes = d_axes + axis_view(d_axes).phases * AXIS_BYTES
    w_axis = axis_view(h_axes + axis_view(h_axes).phases * AXIS_BYTES)
    d_phases, h_phases = axis_view(d_axes).phases, axis_view(h_axes).phases
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixels = strip_pixels(strip)
    slab = p.scratch + worker * g.scratch_bytes
    bias = slab + pixels * vector
    table = bias + vector
    weights = table + 8 * pixels
    lines = weights + g.taps * vector
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
            splat_taps(strip, p.weights + k * g.taps * size, weights, g.taps, g.flip)
            if s.has_bias:
                store(bias, splat(strip, load_scalar(strip, p.bias + k * size)))
        d_axis = axis_view(d_axes + d % d_phases * AXIS_BYTES)
        d_first = d_axis.first + d // d_phases * d_axis.step
        h_low = max(h_axis.first + i * h_axis.step, 0)
        h_high = h_axis.first + (i + count - 1) * h_axis.step
        h_high = min(h_high + (h_axis.taps - 1) * h_axis.tap_step + 1, h_axis.size)
        row = (plane * g.to_d + d) * g.to_h + h_phase + i * h_phases
        source_rows = (image * g.inputs + k // g.fan_out) * g.from_d
        depth = source_rows + d_first
        plane_source = p.source + depth * g.from_h * g.from_w * size
        if c.rows:
            for h in range(h_low, h_high):
                line = lines + (h - h_low) * c.row_bytes
                fill_lines(strip, c, line, plane_source + h * g.from_w * size, g.from_w)
        for q in range(0, g.to_w, width):
            x, edges = _places(strip, g, c, w_axis, plane_source, lines, h_low, q)
            step = c.row_bytes if c.rows else g.from_w * size
            at = h_axis.first + i * h_axis.step
            x = (x[0] + at * step, x[1] + at * step, x[2] + at * step)
            left = min(width, g.to_w - q)
            y, y_step = slab, vector
            if g.plain:
                y, y_step = p.output + (row * g.to_w + q) * size, g.to_w * size
            sweep(strip, weights, x, step, edges, at, h_axis.size, y, y_step, count, left)
            if not g.plain:
                for t in range(count):
                    store_word(table + 8 * t, row + t)
                output, residual = p.output + q * size, p.residual + q * size
                store_rows(strip, s, slab, count, left, table, output, bias, residual)
