"""The way back of a maximum: every element of dx belongs to one worker.

Channels last and windows of at most three columns: a row of dx asks the rows of windows over it.
A vector is neighbouring channels; from window to window it carries the sums of the three pixels
that a window may name, and stores those that no later window reaches. Otherwise the image is cut
into strips, and one dy after the other is sent to where its index says.
"""

from __future__ import annotations

from convforge.kernels.cpu._index import choose, equal, half_kind, index_kind, low_halves
from convforge.kernels.cpu._rows_met import STORES_AHEAD, box_of_pixels, rows_met
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load_scalar,
    scalar,
    splat,
    store_scalar,
    zeros,
)
from convforge.kernels.cpu._wide import ask, fill, load_run, store_run
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    axis_view,
    first_window,
    last_window,
    pool_view,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import load_word
from convforge.runtime.tasks import claimed

COLUMNS = 3
"""Of a window, for :func:`gather_channels_last`."""
_POINTERS = Layout("MaxBackwardPointers", "dy indices dx")
_pointers = _POINTERS.view
STRIPS = Layout("PoolStrips", "images channels block strips length from_inner to_inner")
_strips = STRIPS.view
STRIPS_BYTES = STRIPS.nbytes


@inlined
def _name(kind, pixel):
    """A position as indices name it: those within reach of it differ in their lower halves."""
    return splat(half_kind(kind), scalar(half_kind(kind), pixel))


@kernel
def gather_channels_last(kind, constants, pointers, worker, work):
    """Windows of at most three columns; a task is a block of channels of a row of dx."""
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width, index = itemsize(kind), lanes(kind), index_kind(kind)
    run, stride, to_w, from_w = g.run, w_axis.stride, g.to_w, g.from_w
    count, blocks = min(width, run), (run + g.block - 1) // g.block
    for task in claimed(work, worker):
        row = task // blocks
        begin = (task - row * blocks) * g.block
        rows = rows_met(g, axes, row)
        box = box_of_pixels(kind, g, rows, 1, 1)
        pixel = (rows.d * g.to_h + rows.h) * to_w
        fresh = (rows.first + rows.heights) * from_w * run + begin
        for i in range(begin, min(begin + g.block, run), width):
            c = max(min(i, run - width), 0)
            source = rows.first * from_w * run + c
            target = p.dx + (row * to_w * run + c) * size
            w, here, after, last = -w_axis.pad, zeros(kind), zeros(kind), zeros(kind)
            for q in range(from_w):
                if g.ahead_bytes:
                    ask(p.indices + fresh * 8, width * 8)
                    ask(p.dy + fresh * size, width * size)
                    fresh += width
                one, two, three = (
                    _name(kind, pixel + w),
                    _name(kind, pixel + w + 1),
                    _name(kind, pixel + w + 2),
                )
                for d in range(box.d):
                    for h in range(box.h):
                        at = source + (d * box.d_step + h * box.h_step) * run
                        dy = load_run(kind, p.dy + at * size, count)
                        named = low_halves(load_run(index, p.indices + at * 8, count))
                        here = choose(equal(named, one), here + dy, here)
                        after = choose(equal(named, two), after + dy, after)
                        last = choose(equal(named, three), last + dy, last)
                source += run
                behind = w + stride if q + 1 < from_w else to_w
                while w < behind:
                    place = target + w * run * size
                    if g.ahead_bytes:
                        ask(place + STORES_AHEAD, width * size)
                    if 0 <= w < to_w:
                        store_run(kind, place, here, count)
                    here, after, last = after, last, zeros(kind)
                    w += 1


@kernel
def scatter(kind, constants, pointers, worker, work):
    """Any windows; a task is a strip of an image or plane, and a block of its channels.

    The windows that reach a strip are adjacent in memory, and each is asked whether it points
    into the strip: no two workers meet, and every element adds up its windows in their order.
    """
    g, p = _strips(constants), _pointers(pointers)
    axis = axis_view(constants + STRIPS_BYTES)
    size = itemsize(kind)
    blocks = (g.channels + g.block - 1) // g.block
    tasks = g.images * g.strips * blocks
    for task in claimed(work, worker):
        image, begin, block = task, 0, 0
        if tasks > g.images:
            strip, block = task // blocks, task % blocks * g.block
            image, begin = strip // g.strips, strip % g.strips * g.length
        end = min(begin + g.length, axis.size)
        low, high = begin * g.to_inner, end * g.to_inner
        first, last = 0, axis.out - 1
        if g.strips > 1:
            first, last = first_window(axis, begin), last_window(axis, end - 1)
        window = (image * axis.out + first) * g.from_inner * g.channels + block
        windows = (last + 1 - first) * g.from_inner
        dy, indices = p.dy + window * size, p.indices + window * 8
        dx = p.dx + (image * axis.size * g.to_inner * g.channels + block) * size
        count = min(g.block, g.channels - block)
        if count == g.channels:
            fill(kind, dx + low * count * size, scalar(kind, 0), (high - low) * count)
        else:
            for pixel in range(low, high):
                fill(kind, dx + pixel * g.channels * size, scalar(kind, 0), count)
        if g.channels == 1:
            _scatter(kind, dy, indices, windows, dx, low, high, 1, 0)
            continue
        for i in range(windows):
            at = i * g.channels
            _scatter(kind, dy + at * size, indices + at * 8, count, dx, low, high, g.channels, 1)


@inlined
def _scatter(kind, dy, indices, count, dx, low, high, channels, step):
    """Add a run of dy to the pixels from ``low`` to ``high`` that its indices name."""
    size = itemsize(kind)
    for i in range(count):
        pixel = load_word(indices + i * 8)
        if low <= pixel < high:
            place = dx + (pixel * channels + i * step) * size
            value = load_scalar(kind, place) + load_scalar(kind, dy + i * size)
            store_scalar(kind, place, value)
