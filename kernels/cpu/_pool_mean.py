"""Sums over windows and their division.

Channels last, a vector is neighbouring channels, and backward is the same sum with source and
target exchanged: an element of dx adds up the windows that contain it. Channels first, a vector is
neighbouring columns: the rows of a window are summed into a *line* in L1, which has zeros around
it, and the line is summed across.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step
from convforge.kernels.cpu._rows_met import (
    ask_behind,
    box_of_pixels,
    box_of_rows,
    rows_behind,
    rows_met,
)
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    scalar,
    splat,
    zeros,
)
from convforge.kernels.cpu._wide import (
    Wide,
    fill,
    load_every,
    load_run,
    store_run,
)
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    axis_view,
    counted,
    meets,
    pack_pool,
    pool_view,
    round_up,
    spans,
)
from convforge.problem import PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.tasks import claimed, claimed_runs

_POINTERS = Layout("MeanPointers", "source target scratch")
_pointers = _POINTERS.view
MANY_PIXELS = 32
"""Of a window, from which on a vector is not summed over all of them at once."""


@inlined
def sum_box(kind, address, box, count):
    """Sum of the vectors at the runs of a box."""
    total = zeros(kind)
    for d in range(box.d):
        for h in range(box.h):
            place = address + (d * box.d_step + h * box.h_step) * box.run_bytes
            for w in range(box.w):
                total = total + load_run(kind, place + w * box.w_step * box.run_bytes, count)
    return total


@inlined
def divide(kind, g, total, divisor):
    """Quotient; a gradient's is a product with the rounded inverse, many times as fast."""
    if g.backward or divisor & (divisor - 1) == 0:
        return total * splat(kind, scalar(kind, 1) / scalar(kind, divisor))
    return total / splat(kind, scalar(kind, divisor))


@inlined
def rows_divisor(g, axes, d, h):
    """The part of a window's divisor that its row decides."""
    if g.divisor != 0:
        return g.divisor
    return counted(axis_view(axes), d) * counted(axis_view(axes + AXIS_BYTES), h)


@inlined
def column_divisor(g, axes, w):
    """The part of a window's divisor that its column decides."""
    return 1 if g.divisor != 0 else counted(axis_view(axes + 2 * AXIS_BYTES), w)


@inlined
def _mean_of_many(kind, g, source, target, box, begin, end, divisor):
    """Divided sum of a large box: row after row is added to the result, which stays in the L1.

    A row's pixels are a few long runs; all pixels at once would be many short ones, far apart.
    """
    size, width = itemsize(kind), lanes(kind)
    for d in range(box.d):
        for h in range(box.h):
            row = source + (d * box.d_step + h * box.h_step) * box.run_bytes
            last = d + 1 == box.d and h + 1 == box.h
            step = box.w_step * box.run_bytes
            for c in range(begin, end, width):
                count = end - c
                total = zeros(kind)
                place = row + c * size
                if count >= width:
                    if d + h > 0:
                        total = load(kind, target + c * size)
                    for _ in range(box.w):
                        total = total + load(kind, place)
                        place += step
                else:
                    if d + h > 0:
                        total = load_first(kind, target + c * size, count)
                    for _ in range(box.w):
                        total = total + load_first(kind, place, count)
                        place += step
                if last:
                    total = divide(kind, g, total, divisor)
                store_run(kind, target + c * size, total, count)


@kernel
def mean_channels_last(kind, constants, pointers, worker, work):
    """Divided sums, both ways; a task is a block of channels of a row of the target."""
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    count = min(width, g.run)
    blocks = (g.run + g.block - 1) // g.block
    for task in claimed(work, worker):
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
            ask_behind(kind, g, p.source, rows, w, target + begin * size, (end - begin) * size)
            whole = divisor * column_divisor(g, axes, w)
            if box.d * box.h * box.w >= MANY_PIXELS:
                _mean_of_many(kind, g, source, target, box, begin, end, whole)
                continue
            for i in range(begin, end, width):
                c = max(min(i, g.run - width), 0) * size
                mean = divide(kind, g, sum_box(kind, source + c, box, count), whole)
                store_run(kind, target + c, mean, count)


@inlined
def sum_rows(kind, g, source, rows, line):
    """Sum of a row of the target's source rows, as one line."""
    size, width, run = itemsize(kind), lanes(kind), g.run
    count, last = min(width, run), max(run - width, 0)
    box = box_of_rows(kind, g, rows)
    first, step = source + rows.first * run * size, box.h_step * box.run_bytes
    # One to three rows are what nearly all windows have.
    if box.d == 1 and box.h == 1:
        for i in range(0, run, width):
            c = min(i, last) * size
            store_run(kind, line + c, load_run(kind, first + c, count), count)
    elif box.d == 1 and box.h == 2:
        for i in range(0, run, width):
            c = min(i, last) * size
            total = load_run(kind, first + c, count) + load_run(kind, first + step + c, count)
            store_run(kind, line + c, total, count)
    elif box.d == 1 and box.h == 3:
        for i in range(0, run, width):
            c = min(i, last) * size
            total = load_run(kind, first + c, count) + load_run(kind, first + step + c, count)
            total = total + load_run(kind, first + 2 * step + c, count)
            store_run(kind, line + c, total, count)
    else:
        for i in range(0, run, width):
            c = min(i, last) * size
            store_run(kind, line + c, sum_box(kind, first + c, box, count), count)


@inlined
def sum_columns(kind, line, step, apart, taps):
    """Sum of elements of a line ``apart`` from each other, for a vector of windows."""
    size = itemsize(kind)
    total = load_every(kind, line, step)
    if taps == 2:
        return total + load_every(kind, line + apart * size, step)
    if taps == 3:
        total = total + load_every(kind, line + apart * size, step)
        return total + load_every(kind, line + 2 * apart * size, step)
    for s in range(1, taps):
        total = total + load_every(kind, line + s * apart * size, step)
    return total


@inlined
def _column_divisors(kind, g, axes, table, columns, repeat):
    """Fill a table with the columns' parts of the divisors, each ``repeat`` times."""
    for w in range(columns):
        value = scalar(kind, column_divisor(g, axes, w))
        fill(kind, table + w * repeat * itemsize(kind), value, repeat)


@kernel
def mean_channels_first(kind, constants, pointers, worker, work):
    """Divided sums forward; a task is a row of one plane of y.

    Scratch: the lines, then the divisors of the columns.
    """
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    line = p.scratch + worker * g.scratch_bytes
    table = line + g.line * g.chunk * size
    fill(kind, line, scalar(kind, 0), g.line * g.chunk)
    _column_divisors(kind, g, axes, table, g.to_w, 1)
    to_w, pitch, pad = g.to_w, g.line * size, w_axis.pad * size
    stride, dilation, taps = w_axis.stride, w_axis.dilation, w_axis.taps
    for first, beyond in claimed_runs(work, worker, g.chunk):
        count = beyond - first
        rows = rows_met(g, axes, first)
        d, h = rows.d, rows.h
        for i in range(count):
            target = p.target + (first + i) * to_w * size
            ask_behind(kind, g, p.source, rows, 0, target, to_w * size)
            sum_rows(kind, g, p.source, rows, line + i * pitch + pad)
            rows = rows_behind(g, axes, rows)
        for i in range(count):
            divisor = rows_divisor(g, axes, d, h)
            target = p.target + (first + i) * to_w * size
            for w in range(0, to_w, width):
                place = line + i * pitch + w * stride * size
                total = sum_columns(kind, place, stride, dilation, taps)
                if g.divisor != 0:
                    mean = divide(kind, g, total, divisor)
                else:
                    counts = splat(kind, scalar(kind, divisor)) * load(kind, table + w * size)
                    mean = total / counts
                store_run(kind, target + w * size, mean, to_w - w)
            h += 1
            if h == g.to_h:
                h, d = 0, d + 1 if d + 1 < g.to_d else 0


def divide_program(problem: PoolProblem, kind: Wide) -> Program:
    """The launch before a backward average, channels last, whose divisors differ."""
    d, h, w = spans(problem)
    y_bytes = prod(problem.y_shape) * problem.x.dtype.itemsize
    table = round_up(w.out * problem.C * problem.x.dtype.itemsize, 64)
    step = Step(
        name="divide",
        kernel=KernelRef(divide_gradient, kind),
        operands=("y", "shares", "divisors"),
        constants=pack_pool(problem, channels_last=True, divisor=0, scratch_bytes=table),
        tasks=problem.N * d.out * h.out,
        cost=Cost(flops=prod(problem.y_shape), bytes=2 * y_bytes),
    )
    return Program(
        steps=(step,),
        buffers=(
            Buffer(name="shares", nbytes=y_bytes),
            Buffer(name="divisors", nbytes=table, scope="worker"),
        ),
    )


@kernel
def divide_gradient(kind, constants, pointers, worker, work):
    """``dy`` over the divisors of its windows, where these differ; a task is a row of y."""
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    size, width = itemsize(kind), lanes(kind)
    table = p.scratch + worker * g.scratch_bytes
    length = g.from_w * g.channels
    _column_divisors(kind, g, axes, table, g.from_w, g.channels)
    count = min(width, length)
    for row in claimed(work, worker):
        h, d = row % g.from_h, row // g.from_h % g.from_d
        divisor = splat(kind, scalar(kind, rows_divisor(g, axes, d, h)))
        for i in range(0, length, width):
            c = max(min(i, length - width), 0) * size
            dy = load_run(kind, p.source + row * length * size + c, count)
            share = dy / (divisor * load_run(kind, table + c, count))
            store_run(kind, p.target + row * length * size + c, share, count)
