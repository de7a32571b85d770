"""The way back of an average, channels first: columns before rows.

A row of dy is spread over the columns of its windows once, into a scratch row as long as a row of
dx; a row of dx is then the sum of the few scratch rows over it, vector by vector. A task is a
strip of a plane's outermost axis, so that its scratch rows stay in the caches.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step
from convforge.kernels.cpu._index import index_kind
from convforge.kernels.cpu._pool_mean import (
    column_divisor,
    rows_divisor,
    sum_box,
    sum_columns,
)
from convforge.kernels.cpu._pool_shares import ENTRY_BYTES, fill_table
from convforge.kernels.cpu._rows_met import Box
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_scalar,
    scalar,
    splat,
    store,
    store_scalar,
    zeros,
)
from convforge.kernels.cpu._wide import (
    Wide,
    fill,
    gather,
    load_run,
    store_run,
    turns_high,
    turns_low,
)
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    Span,
    axis_view,
    divisor_of,
    first_window,
    last_window,
    meets,
    pack_pool,
    pool_view,
    round_up,
    spans,
)
from convforge.problem import PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import load_word, store_word
from convforge.runtime.tasks import claimed

_POINTERS = Layout("MeanBackwardPointers", "dy dx scratch")
_pointers = _POINTERS.view
_SPREAD_BYTES = 1 << 15
"""Scratch rows of a strip: they are read as soon as they are written, from the L1."""

_LONG = 32
"""Elements of a window that is worth a loop: shorter ones wait for what the last one stored."""


def program(problem: PoolProblem, kind: Wide) -> Program:
    """One launch."""
    d, h, w = spans(problem)
    size = problem.x.dtype.itemsize
    outer, inner = (d, h.out) if d.target > 1 else (h, 1)
    pitch = round_up(w.target, kind.lanes) * size
    strip, rows = _strip(outer, max(_SPREAD_BYTES // (pitch * inner), 1))
    line = w.line(kind.lanes) + kind.lanes
    tables = ENTRY_BYTES * h.target + round_up(w.out, kind.lanes) * size
    most = w.out // w.axis.size + 2 if w.adaptive else -(-w.axis.extent // w.stride)
    tables += max(8 * most * round_up(w.target, kind.lanes), ENTRY_BYTES * w.out)
    scratch = round_up(line * size + tables + rows * inner * pitch, 64)
    images = problem.N * problem.C
    step = Step(
        name="windows",
        kernel=KernelRef(mean_channels_first_backward, kind),
        operands=("y", "x", "scratch"),
        constants=pack_pool(
            problem,
            channels_last=False,
            block=strip,
            divisor=divisor_of(problem),
            line=line,
            scratch_bytes=scratch,
        ),
        tasks=images * -(-outer.target // strip),
        cost=Cost(
            flops=images * w.target * prod(s.out * s.axis.filter for s in (d, h)),
            bytes=problem.bytes,
        ),
    )
    return Program(steps=(step,), buffers=(Buffer(name="scratch", nbytes=scratch, scope="worker"),))


def _strip(span: Span, rows: int) -> tuple[int, int]:
    """Positions of a strip over which about so many windows lie, and how many do at most."""
    axis, out = span.axis, span.out
    if span.adaptive:
        length = min(max(rows * axis.size // out, 1), axis.size)
        return length, min(length * out // axis.size + 2, out)
    # Windows over two strips are spread twice: strips are longer than the overlap.
    length = min(max(rows * span.stride, 4 * (axis.extent - span.stride), 1), axis.size)
    return length, min((length + axis.extent - 2) // span.stride + 1, out)


@inlined
def _fill_offsets(kind, g, axis, table):
    """Bytes from dy's row to the elements over each column; a zero where another has more.

    Returns the most that a column has.
    """
    size, width = itemsize(kind), lanes(kind)
    columns, most = (g.to_w + width - 1) // width * width, 0
    for w in range(g.to_w):
        most = max(most, meets(axis, w, True)[1])
    for w in range(columns):
        first, count = meets(axis, min(w, g.to_w - 1), True)
        for i in range(most):
            source = first + i * axis.step if i < count else g.from_w
            store_word(table + (i * columns + w) * 8, source * size)
    return most


@kernel
def mean_channels_first_backward(kind, constants, pointers, worker, work):
    """Any windows; a task is a strip of a plane of dx.

    Scratch: a line of dy with zeros around it, which windows stand over which column and row,
    divisors, and the rows of dy spread over columns.
    """
    g, p, axes = pool_view(constants), _pointers(pointers), constants + POOL_BYTES
    d_axis, h_axis = axis_view(axes), axis_view(axes + AXIS_BYTES)
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width = itemsize(kind), lanes(kind)
    line = p.scratch + worker * g.scratch_bytes
    over_h = line + g.line * size
    divisors = over_h + g.to_h * ENTRY_BYTES
    over_w = divisors + (g.from_w + width - 1) // width * width * size
    pitch = (g.to_w + width - 1) // width * width * size
    fill(kind, line, scalar(kind, 0), g.line)
    fill_table(h_axis, g.to_h, over_h, True)
    by_phase = w_axis.stride == 2 and w_axis.dilation == 1
    most, spread = 0, over_w
    by_window = w_axis.stride == 0 and g.to_w >= _LONG * g.from_w
    if by_window:
        fill_table(w_axis, g.from_w, over_w, False)
        spread += g.from_w * ENTRY_BYTES
    elif w_axis.stride != 1 and not by_phase:
        most = _fill_offsets(kind, g, w_axis, over_w)
        spread += most * pitch // size * 8
    for w in range(g.from_w):
        store_scalar(kind, divisors + w * size, scalar(kind, column_divisor(g, axes, w)))
    scale = splat(kind, scalar(kind, 1))
    if g.divisor != 0:
        scale = scale / splat(kind, scalar(kind, g.divisor))
    to_w, deep = g.to_w, g.to_d > 1
    strips = ((g.to_d if deep else g.to_h) + g.block - 1) // g.block
    for task in claimed(work, worker):
        image = task // strips
        begin = (task - image * strips) * g.block
        d, d_end, h_begin, h_end = 0, 1, begin, min(begin + g.block, g.to_h)
        if deep:
            d, d_end, h_begin, h_end = begin, min(begin + g.block, g.to_d), 0, g.to_h
        first_d, first_h = first_window(d_axis, d), first_window(h_axis, h_begin)
        depths = max(last_window(d_axis, d_end - 1) - first_d + 1, 0)
        heights = max(last_window(h_axis, h_end - 1) - first_h + 1, 0)
        for i in range(depths):
            for j in range(heights):
                row = (image * g.from_d + first_d + i) * g.from_h + first_h + j
                here = spread + (i * heights + j) * pitch
                divisor = rows_divisor(g, axes, first_d + i, first_h + j)
                source = p.dy + row * g.from_w * size
                _spread(kind, g, w_axis, source, line, over_w, most, divisors, divisor, here)
        while d < d_end:
            near_d, count_d = meets(d_axis, d, True)
            place = spread + (near_d - first_d) * heights * pitch
            target = p.dx + ((image * g.to_d + d) * g.to_h + h_begin) * to_w * size
            for h in range(h_begin, h_end):
                near = place + (load_word(over_h + h * ENTRY_BYTES) - first_h) * pitch
                count_h = load_word(over_h + h * ENTRY_BYTES + 8)
                # One or two rows are what nearly all windows have.
                if count_d == 1 and count_h == 1:
                    for w in range(0, to_w, width):
                        total = load(kind, near + w * size)
                        store_run(kind, target + w * size, total * scale, to_w - w)
                elif count_d == 1 and count_h == 2:
                    step = h_axis.step * pitch
                    for w in range(0, to_w, width):
                        total = load(kind, near + w * size) + load(kind, near + step + w * size)
                        store_run(kind, target + w * size, total * scale, to_w - w)
                else:
                    d_step = d_axis.step * heights
                    box = Box(count_d, count_h, 1, d_step, h_axis.step, 0, pitch)
                    for w in range(0, to_w, width):
                        total = sum_box(kind, near + w * size, box, width)
                        store_run(kind, target + w * size, total * scale, to_w - w)
                target += to_w * size
            d += 1


@inlined
def _spread(kind, g, axis, source, line, table, most, divisors, divisor, target):
    """A row of dy over the columns of its windows; divided if its divisors differ."""
    size, width = itemsize(kind), lanes(kind)
    extent = (axis.taps - 1) * axis.dilation + 1
    here = line + (extent - 1) * size
    for q in range(0, g.from_w, width):
        dy = load_run(kind, source + q * size, g.from_w - q)
        if g.divisor == 0:
            counts = load_run(kind, divisors + q * size, g.from_w - q)
            dy = dy / (splat(kind, scalar(kind, divisor)) * counts)
        store_run(kind, here + q * size, dy, g.from_w - q)
    if axis.stride == 1:
        for w in range(0, g.to_w, width):
            place = here + (axis.pad + w) * size
            store(target + w * size, sum_columns(kind, place, 1, -axis.dilation, axis.taps))
    elif axis.stride == 2 and axis.dilation == 1:
        for w in range(0, g.to_w, 2 * width):
            even = _sum_phase(kind, here, w + axis.pad, axis.taps)
            odd = _sum_phase(kind, here, w + axis.pad + 1, axis.taps)
            store(target + w * size, turns_low(even, odd))
            if w + width < g.to_w:
                store(target + (w + width) * size, turns_high(even, odd))
    elif most == 0:
        fill(kind, target, scalar(kind, 0), g.to_w)
        for q in range(g.from_w):
            dy = splat(kind, load_scalar(kind, here + q * size))
            first = load_word(table + q * ENTRY_BYTES)
            end = first + load_word(table + q * ENTRY_BYTES + 8)
            for w in range(first, end, width):
                sums = load_run(kind, target + w * size, end - w) + dy
                store_run(kind, target + w * size, sums, end - w)
    else:
        columns = (g.to_w + width - 1) // width * width
        for w in range(0, columns, width):
            total = zeros(kind)
            for i in range(most):
                place = load(index_kind(kind), table + (i * columns + w) * 8)
                total = total + gather(kind, here, place)
            store(target + w * size, total)


@inlined
def _sum_phase(kind, line, position, taps):
    """Sums of the windows over every second position from a first one, at a stride of 2."""
    tap = position & 1
    place = line + (position >> 1) * itemsize(kind)
    total = zeros(kind) if tap >= taps else load(kind, place)
    for s in range(1, (taps - tap + 1) >> 1):
        total = total + load(kind, place - s * itemsize(kind))
    return total
