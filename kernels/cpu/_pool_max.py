"""Largest elements of windows, and where they are.

Channels last, a vector is neighbouring channels. Channels first, a vector is neighbouring
columns: the largest of a window's rows go to a *line* in L1, with minus infinity around it, and
the line is searched across. NaN wins, the last of several; of equals the first wins.
"""

from __future__ import annotations

import numpy as np

from convforge.kernels.cpu._index import (
    choose,
    exceeds,
    in_row,
    index_kind,
    outranks,
)
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
    scalar,
    splat,
    where_less,
    where_unordered,
)
from convforge.kernels.cpu._wide import fill, load_every, load_run, store_run
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    axis_view,
    meets,
    pool_view,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.tasks import claimed, claimed_runs

_POINTERS = Layout("MaxPointers", "x y indices scratch")
_pointers = _POINTERS.view
_NOWHERE = np.iinfo(np.int64).max
"""Position of the padding: every equal in the image comes before it."""


@inlined
def lowest(kind):
    return splat(kind, scalar(kind, -np.inf))


@inlined
def larger(x, best):
    """The larger, NaN if either is; in the words that become MAXPS, a compare and a blend."""
    return where_unordered(x, best, x + best, where_less(best, x, x, best))


@inlined
def _max_box(kind, address, box, count):
    """Largest of the vectors at the runs of a box."""
    best = lowest(kind)
    for d in range(box.d):
        for h in range(box.h):
            place = address + (d * box.d_step + h * box.h_step) * box.run_bytes
            for w in range(box.w):
                x = load_run(kind, place + w * box.w_step * box.run_bytes, count)
                best = larger(x, best)
    return best


@inlined
def _argmax_box(kind, address, box, count, first):
    """Largest of the vectors at the runs of a box, and of which run, the first being ``first``."""
    best, where = lowest(kind), splat(index_kind(kind), first)
    for d in range(box.d):
        for h in range(box.h):
            step = d * box.d_step + h * box.h_step
            for _ in range(box.w):
                x = load_run(kind, address + step * box.run_bytes, count)
                better = exceeds(x, best)
                best = choose(better, x, best)
                where = choose(better, splat(index_kind(kind), first + step), where)
                step += box.w_step
    return best, where


@kernel
def max_channels_last(kind, constants, pointers, worker, work):
    """Forward; a task is a block of channels of a row of y."""
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
        image = rows.image * g.from_d * g.from_h * g.from_w
        for w in range(g.to_w):
            first, columns = meets(w_axis, w, False)
            first += rows.first * g.from_w
            box = box_of_pixels(kind, g, rows, columns, w_axis.step)
            pixel = row * g.to_w + w
            written = p.y + (pixel * g.run + begin) * size
            ask_behind(kind, g, p.x, rows, w, written, (end - begin) * size)
            for i in range(begin, end, width):
                c = max(min(i, g.run - width), 0)
                source = p.x + (first * g.run + c) * size
                target = pixel * g.run + c
                if g.indices:
                    best, where = _argmax_box(kind, source, box, count, first - image)
                    store_run(index_kind(kind), p.indices + 8 * target, where, count)
                else:
                    best = _max_box(kind, source, box, count)
                store_run(kind, p.y + target * size, best, count)


@inlined
def max_rows(kind, g, x, rows, line):
    """Largest of the rows that a row of y meets, column by column, as one line."""
    size, width, run = itemsize(kind), lanes(kind), g.run
    count, last = min(width, run), max(run - width, 0)
    box = box_of_rows(kind, g, rows)
    source, step = x + rows.first * run * size, box.h_step * box.run_bytes
    # Two and three rows are what nearly all windows have.
    if box.d == 1 and box.h == 2:
        for i in range(0, run, width):
            at = source + min(i, last) * size
            best = larger(load_run(kind, at + step, count), load_run(kind, at, count))
            store_run(kind, line + min(i, last) * size, best, count)
    elif box.d == 1 and box.h == 3:
        for i in range(0, run, width):
            at = source + min(i, last) * size
            best = larger(load_run(kind, at + step, count), load_run(kind, at, count))
            best = larger(load_run(kind, at + 2 * step, count), best)
            store_run(kind, line + min(i, last) * size, best, count)
    else:
        for i in range(0, run, width):
            best = _max_box(kind, source + min(i, last) * size, box, count)
            store_run(kind, line + min(i, last) * size, best, count)


@inlined
def _max_columns(kind, line, step, dilation, taps):
    """Largest of the elements of a line that a vector of windows sees, ``step`` apart."""
    size = itemsize(kind)
    best = load_every(kind, line, step)
    if taps == 2:
        return larger(load_every(kind, line + dilation * size, step), best)
    if taps == 3:
        best = larger(load_every(kind, line + dilation * size, step), best)
        return larger(load_every(kind, line + 2 * dilation * size, step), best)
    for s in range(1, taps):
        best = larger(load_every(kind, line + s * dilation * size, step), best)
    return best


@inlined
def argmax_rows(kind, g, x, rows, line, places):
    """As :func:`max_rows`; the positions of the largest go to a line of their own."""
    size, width = itemsize(kind), lanes(kind)
    count = min(width, g.run)
    box = box_of_rows(kind, g, rows)
    source = x + rows.first * g.run * size
    first = rows.first - rows.image * g.from_d * g.from_h
    for i in range(0, g.run, width):
        c = max(min(i, g.run - width), 0)
        best, where = _argmax_box(kind, source + c * size, box, count, first)
        store_run(kind, line + c * size, best, count)
        store_run(index_kind(kind), places + c * 8, in_row(where, g.run, c), count)


@kernel
def max_channels_first(kind, constants, pointers, worker, work):
    """Forward without indices; a task is a row of one plane of y. Scratch: lines."""
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    line = p.scratch + worker * g.scratch_bytes
    fill(kind, line, scalar(kind, -np.inf), g.line * g.chunk)
    to_w, pitch, pad = g.to_w, g.line * size, w_axis.pad * size
    stride, dilation, taps = w_axis.stride, w_axis.dilation, w_axis.taps
    for first, beyond in claimed_runs(work, worker, g.chunk):
        count = beyond - first
        rows = rows_met(g, axes, first)
        for i in range(count):
            target = p.y + (first + i) * to_w * size
            ask_behind(kind, g, p.x, rows, 0, target, to_w * size)
            max_rows(kind, g, p.x, rows, line + i * pitch + pad)
            rows = rows_behind(g, axes, rows)
        for i in range(count):
            target = p.y + (first + i) * to_w * size
            for w in range(0, to_w, width):
                place = line + i * pitch + w * stride * size
                best = _max_columns(kind, place, stride, dilation, taps)
                store_run(kind, target + w * size, best, to_w - w)


@kernel
def argmax_channels_first(kind, constants, pointers, worker, work):
    """Forward with indices; a task is a row of one plane of y.

    Scratch: the line, then the positions of its elements.
    """
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width, index = itemsize(kind), lanes(kind), index_kind(kind)
    line = p.scratch + worker * g.scratch_bytes
    places = line + g.line * size
    fill(kind, line, scalar(kind, -np.inf), g.line)
    fill(index, places, _NOWHERE, g.line)
    for row in claimed(work, worker):
        rows = rows_met(g, axes, row)
        argmax_rows(kind, g, p.x, rows, line + w_axis.pad * size, places + w_axis.pad * 8)
        for w in range(0, g.to_w, width):
            best, where = lowest(kind), splat(index, _NOWHERE)
            for s in range(w_axis.taps):
                at = w * w_axis.stride + s * w_axis.dilation
                x = load_every(kind, line + at * size, w_axis.stride)
                position = load_every(index, places + at * 8, w_axis.stride)
                better = outranks(x, position, best, where)
                best = choose(better, x, best)
                where = choose(better, position, where)
            target = row * g.to_w + w
            store_run(kind, p.y + target * size, best, g.to_w - w)
            store_run(index, p.indices + target * 8, where, g.to_w - w)
