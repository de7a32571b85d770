"""Sums over windows and their division, forward and backward.

Backward is the same sum with source and target exchanged: an element of dx adds up the windows
that contain it. Channels last, a vector is neighbouring channels. Channels first, a vector is
neighbouring columns: the rows of a window are summed into a *line* in L1, which has zeros around
it, and the line is summed across.
"""

from __future__ import annotations

from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_scalar,
    scalar,
    splat,
    store_scalar,
    zeros,
)
from convforge.kernels.cpu._wide import fill, load_every, load_run, store_run, sum_lanes
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    axis_view,
    box_of_pixels,
    box_of_rows,
    counted,
    meets,
    planes_view,
    pool_view,
    rows_met,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel

_POINTERS = Layout("MeanPointers", "source target scratch")
_pointers = _POINTERS.view


@kernel
def _sum_box(kind, address, box, count):
    """Sum of the vectors at the runs of a box."""
    total = zeros(kind)
    for d in range(box.d):
        for h in range(box.h):
            place = address + (d * box.d_step + h * box.h_step) * box.run_bytes
            for w in range(box.w):
                total = total + load_run(kind, place + w * box.w_step * box.run_bytes, count)
    return total


@kernel
def _divide(kind, g, total, divisor):
    """Quotient; a gradient's is a product with the rounded inverse, many times as fast."""
    if g.backward or divisor & (divisor - 1) == 0:
        return total * splat(kind, scalar(kind, 1) / scalar(kind, divisor))
    return total / splat(kind, scalar(kind, divisor))


@kernel
def rows_divisor(g, axes, d, h):
    """The part of a window's divisor that its row decides."""
    if g.divisor != 0:
        return g.divisor
    return counted(axis_view(axes), d) * counted(axis_view(axes + AXIS_BYTES), h)


@kernel
def column_divisor(g, axes, w):
    """The part of a window's divisor that its column decides."""
    return 1 if g.divisor != 0 else counted(axis_view(axes + 2 * AXIS_BYTES), w)


@kernel
def mean_channels_last(kind, constants, pointers, worker, workers):
    """Divided sums, both ways; a task is a block of channels of a row of the target."""
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    count = min(width, g.run)
    blocks = (g.run + g.block - 1) // g.block
    tasks = g.images * g.to_d * g.to_h * blocks
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        row = task // blocks
        begin = (task - row * blocks) * g.block
        end = min(begin + g.block, g.run)
        rows = rows_met(g, axes, row)
        divisor = rows_divisor(g, axes, rows.d, rows.h)
        for w in range(g.to_w):
            first, columns = meets(w_axis, w, g.backward)
            box = box_of_pixels(kind, g, rows, columns, w_axis.step)
            source = p.source + (rows.first * g.from_w + first) * g.run * size
            target = p.target + (row * g.to_w + w) * g.run * size
            whole = divisor * column_divisor(g, axes, w)
            for i in range(begin, end, width):
                c = max(min(i, g.run - width), 0) * size
                mean = _divide(kind, g, _sum_box(kind, source + c, box, count), whole)
                store_run(kind, target + c, mean, count)


@kernel
def sum_rows(kind, g, source, rows, line):
    """Sum of a row of the target's source rows, as one line."""
    size, width = itemsize(kind), lanes(kind)
    box = box_of_rows(kind, g, rows)
    count = min(width, g.run)
    first = source + rows.first * g.run * size
    for i in range(0, g.run, width):
        c = max(min(i, g.run - width), 0) * size
        store_run(kind, line + c, _sum_box(kind, first + c, box, count), count)


@kernel
def _column_divisors(kind, g, axes, table, columns, repeat):
    """Fill a table with the columns' parts of the divisors, each ``repeat`` times."""
    for i in range(columns * repeat):
        value = scalar(kind, column_divisor(g, axes, i // repeat))
        store_scalar(kind, table + i * itemsize(kind), value)


@kernel
def mean_channels_first(kind, constants, pointers, worker, workers):
    """Divided sums forward; a task is a row of one plane of y.

    Scratch: the line, then the divisors of the columns.
    """
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    line = p.scratch + worker * g.scratch_bytes
    table = line + g.line * size
    fill(kind, line, scalar(kind, 0), g.line)
    _column_divisors(kind, g, axes, table, g.to_w, 1)
    tasks = g.images * g.to_d * g.to_h
    for row in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        rows = rows_met(g, axes, row)
        sum_rows(kind, g, p.source, rows, line + w_axis.pad * size)
        divisor = splat(kind, scalar(kind, rows_divisor(g, axes, rows.d, rows.h)))
        target = p.target + row * g.to_w * size
        for w in range(0, g.to_w, width):
            total = zeros(kind)
            for s in range(w_axis.taps):
                place = line + (w * w_axis.stride + s * w_axis.dilation) * size
                total = total + load_every(kind, place, w_axis.stride)
            mean = total / (divisor * load(kind, table + w * size))
            store_run(kind, target + w * size, mean, g.to_w - w)


@kernel
def mean_planes(kind, constants, pointers, worker, workers):
    """Averages of whole planes, channels first; a task is a plane."""
    g, p = planes_view(constants), _pointers(pointers)
    size, width = itemsize(kind), lanes(kind)
    divisor = scalar(kind, g.divisor)
    for plane in range(g.count * worker // workers, g.count * (worker + 1) // workers):
        source = p.source + plane * g.length * size
        total = zeros(kind)
        for i in range(0, g.length, width):
            total = total + load_run(kind, source + i * size, g.length - i)
        store_scalar(kind, p.target + plane * size, sum_lanes(kind, total) / divisor)


@kernel
def spread_planes(kind, constants, pointers, worker, workers):
    """Backward of :func:`mean_planes`."""
    g, p = planes_view(constants), _pointers(pointers)
    size = itemsize(kind)
    divisor = scalar(kind, g.divisor)
    for plane in range(g.count * worker // workers, g.count * (worker + 1) // workers):
        share = load_scalar(kind, p.source + plane * size) / divisor
        fill(kind, p.target + plane * g.length * size, share, g.length)


@kernel
def mean_channels_first_backward(kind, constants, pointers, worker, workers):
    """Divided sums backward; a task is a row of one plane of dx.

    The rows of windows over it are summed and spread on a line of zeros to where the windows
    start; an element of dx adds up the elements of the line before it, one a tap. Windows that
    do not overlap are spread to all their taps instead, and nothing is left to add.
    """
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    line = p.scratch + worker * g.scratch_bytes
    sums = line + g.line * size
    fill(kind, line, scalar(kind, 0), g.line)
    extent = (w_axis.taps - 1) * w_axis.dilation + 1
    start = line + (extent - 1) * size
    copies, taps = 1, w_axis.taps
    if w_axis.stride >= extent:
        copies, taps = taps, copies
    tasks = g.images * g.to_d * g.to_h
    for row in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        rows = rows_met(g, axes, row)
        target = p.target + row * g.to_w * size
        if w_axis.stride == 1:
            sum_rows(kind, g, p.source, rows, start)
        else:
            sum_rows(kind, g, p.source, rows, sums)
            for w in range(g.from_w):
                value = load_scalar(kind, sums + w * size)
                for i in range(copies):
                    place = start + (w * w_axis.stride + i * w_axis.dilation) * size
                    store_scalar(kind, place, value)
        for w in range(0, g.to_w, width):
            total = zeros(kind)
            for s in range(taps):
                place = start + (w_axis.pad + w - s * w_axis.dilation) * size
                total = total + load(kind, place)
            mean = _divide(kind, g, total, g.divisor)
            store_run(kind, target + w * size, mean, g.to_w - w)


@kernel
def divide_gradient(kind, constants, pointers, worker, workers):
    """``dy`` over the divisors of its windows, where these differ; a task is a row of y."""
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    size, width = itemsize(kind), lanes(kind)
    table = p.scratch + worker * g.scratch_bytes
    length = g.from_w * g.channels
    _column_divisors(kind, g, axes, table, g.from_w, g.channels)
    count = min(width, length)
    tasks = g.images * g.from_d * g.from_h
    for row in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        h, d = row % g.from_h, row // g.from_h % g.from_d
        divisor = splat(kind, scalar(kind, rows_divisor(g, axes, d, h)))
        for i in range(0, length, width):
            c = max(min(i, length - width), 0) * size
            dy = load_run(kind, p.source + row * length * size + c, count)
            share = dy / (divisor * load_run(kind, table + c, count))
            store_run(kind, p.target + row * length * size + c, share, count)
