"""Wgrad: for every tap, the sum over pixels of dy times the element of x that the tap reads.

The pixels are split into parts, whose number follows from the problem; every part has sums of its
own in the layout of dw, and the last launch adds them in order.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step
from convforge.kernels.cpu._depthwise_axes import (
    AXIS_BYTES,
    axis_view,
    collect_along,
    extents,
    pack_axis,
    taps_inside,
    three_axes,
)
from convforge.kernels.cpu._depthwise_images import arranged, order_of
from convforge.kernels.cpu._depthwise_lines import LINES_BYTES, fill_lines, lines_view, pack_lines
from convforge.kernels.cpu._depthwise_rows import BAND
from convforge.kernels.cpu._strip import Strip, strip_pixels
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load,
    load_scalar,
    store_scalar,
    vector_bytes,
)
from convforge.kernels.cpu._wide import load_run, store_run, sum_lanes
from convforge.problem import ConvProblem, Order
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import clear_bytes
from convforge.runtime.tasks import claimed

_WGRAD = Layout(
    "DepthwiseWgrad",
    "images channels inputs fan_out parts group tiles taps scratch_bytes "
    "from_d from_h from_w to_d to_h to_w",
)
_wgrad = _WGRAD.view
_WGRAD_BYTES = _WGRAD.nbytes
_POINTERS = Layout("DepthwiseWgradPointers", "x dy sums scratch")
_pointers = _POINTERS.view
_PARTS = Layout("DepthwiseParts", "parts length accumulate")
_parts = _PARTS.view
_FROM_TO = Layout("DepthwisePartsPointers", "sums dw")
_from_to = _FROM_TO.view
_ADD_BLOCK = 4096
"""Elements of dw that a task adds up."""
_PIECES = 16
"""Pieces of work for a few threads to share evenly."""


@kernel
def wgrad_rows(strip, constants, pointers, worker, work):
    """Channels last; a task is a part of all rows of dy and a group of channels.

    Scratch: a vector of sums for each tap.
    """
    g, p = _wgrad(constants), _pointers(pointers)
    d_axis = axis_view(constants + _WGRAD_BYTES)
    h_axis = axis_view(constants + _WGRAD_BYTES + AXIS_BYTES)
    w_axis = axis_view(constants + _WGRAD_BYTES + 2 * AXIS_BYTES)
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixel, pixels = g.channels * size, strip_pixels(strip)
    sums = p.scratch + worker * g.scratch_bytes
    rows = g.images * g.to_d * g.to_h
    for task in claimed(work, worker):
        group, part = task // g.parts * g.group, task % g.parts
        for c in range(group, min(group + g.group, g.channels), width):
            at = min(c, g.channels - width)
            clear_bytes(sums, g.taps * vector)
            for row in range(rows * part // g.parts, rows * (part + 1) // g.parts):
                h, plane = row % g.to_h, row // g.to_h
                d, image = plane % g.to_d, plane // g.to_d
                d_low, d_high = taps_inside(d_axis, d)
                h_low, h_high = taps_inside(h_axis, h)
                d_first = d_axis.first + d * d_axis.step + image * g.from_d
                h_first = h_axis.first + h * h_axis.step
                dy = p.dy + row * g.to_w * pixel + at * size
                for i in range(0, w_axis.count, pixels):
                    count = min(pixels, w_axis.count - i)
                    for kd in range(d_low, d_high):
                        depth = (d_first + kd * d_axis.tap_step) * g.from_h
                        for kh in range(h_low, h_high):
                            line = (depth + h_first + kh * h_axis.tap_step) * g.from_w
                            tap = (kd * h_axis.taps + kh) * w_axis.taps
                            collect_along(
                                strip,
                                w_axis,
                                p.x + line * pixel + at * size,
                                pixel,
                                dy,
                                pixel,
                                i,
                                count,
                                sums + tap * vector,
                                vector,
                                0,
                                width,
                            )
            target = p.sums + (part * g.channels + at) * g.taps * size
            for lane in range(c - at, width):
                for tap in range(g.taps):
                    value = load_scalar(strip, sums + tap * vector + lane * size)
                    store_scalar(strip, target + (lane * g.taps + tap) * size, value)


@kernel
def wgrad_planes(strip, constants, pointers, worker, work):
    """Channels first; a task is a part of the rows of one plane of dy in all images.

    Scratch: a vector of sums for each tap, the lines.
    """
    g, p = _wgrad(constants), _pointers(pointers)
    c = lines_view(constants + _WGRAD_BYTES)
    axes = constants + _WGRAD_BYTES + LINES_BYTES
    d_axis, h_axis = axis_view(axes), axis_view(axes + AXIS_BYTES)
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    pixels = strip_pixels(strip)
    sums = p.scratch + worker * g.scratch_bytes
    lines = sums + g.taps * vector
    clear_bytes(lines, c.rows * c.row_bytes)
    units = g.images * g.to_d * g.tiles
    for task in claimed(work, worker):
        k, part = task // g.parts, task % g.parts
        clear_bytes(sums, g.taps * vector)
        for unit in range(units * part // g.parts, units * (part + 1) // g.parts):
            i, plane = unit % g.tiles * pixels, unit // g.tiles
            d, image = plane % g.to_d, plane // g.to_d
            count = min(pixels, h_axis.count - i)
            d_low, d_high = taps_inside(d_axis, d)
            d_first = d_axis.first + d * d_axis.step
            h_low = max(h_axis.first + i * h_axis.step, 0)
            h_high = h_axis.first + (i + count - 1) * h_axis.step
            h_high = min(h_high + (h_axis.taps - 1) * h_axis.tap_step + 1, h_axis.size)
            dy = p.dy + ((image * g.channels + k) * g.to_d + d) * g.to_h * g.to_w * size
            for kd in range(d_low, d_high):
                depth = (image * g.inputs + k // g.fan_out) * g.from_d
                depth += d_first + kd * d_axis.tap_step
                source = p.x + depth * g.from_h * g.from_w * size
                step = g.from_w * size
                if c.rows:
                    step = c.row_bytes
                    for h in range(h_low, h_high):
                        line = lines + (h - h_low) * step
                        fill_lines(strip, c, line, source + h * g.from_w * size, g.from_w)
                    source = lines + c.margin * size - h_low * step
                for q in range(0, g.to_w, width):
                    for kw in range(w_axis.taps):
                        at = w_axis.first + kw * w_axis.tap_step
                        first, last = max(-(at + q), 0), w_axis.size - (at + q)
                        if c.rows:
                            first, last = 0, width
                            if c.apart > 1:
                                at = at % c.apart * c.pitch + at // c.apart
                        last = min(last, g.to_w - q)
                        if last <= 0 or first >= width:
                            continue
                        tap = kd * h_axis.taps * w_axis.taps + kw
                        collect_along(
                            strip,
                            h_axis,
                            source + (at + q) * size,
                            step,
                            dy + q * size,
                            g.to_w * size,
                            i,
                            count,
                            sums + tap * vector,
                            w_axis.taps * vector,
                            first,
                            last,
                        )
        target = p.sums + (part * g.channels + k) * g.taps * size
        for tap in range(g.taps):
            total = sum_lanes(strip, load(strip, sums + tap * vector))
            store_scalar(strip, target + tap * size, total)


@kernel
def add_parts(kind, constants, pointers, worker, work):
    """Sums of the parts in their order, to dw; a task is a block of elements."""
    g, p = _parts(constants), _from_to(pointers)
    size, width = itemsize(kind), lanes(kind)
    for task in claimed(work, worker):
        begin = task * _ADD_BLOCK
        for i in range(begin, min(begin + _ADD_BLOCK, g.length), width):
            left = g.length - i
            total = load_run(kind, p.sums + i * size, left)
            for part in range(1, g.parts):
                total = total + load_run(kind, p.sums + (part * g.length + i) * size, left)
            if g.accumulate:
                total = total + load_run(kind, p.dw + i * size, left)
            store_run(kind, p.dw + i * size, total, left)


def wgrad_program(problem: ConvProblem, strip: Strip) -> Program:
    """Sums of every part of the pixels, then their sum."""
    size = problem.x.dtype.itemsize
    order = order_of(problem)
    x, before, buffers = arranged(problem, order, "x", problem.x, problem.C, problem.size)
    y, more, own = arranged(problem, order, "y", problem.y, problem.K, problem.out)
    before, buffers = before + more, buffers + own
    rows_last = order is Order.CHANNELS_LAST
    shape = extents(problem)
    vectors = -(-problem.C // strip.lanes)
    tiles = -(-shape["to_h"] // strip.pixels)
    scratch = problem.taps * strip.lanes * size
    group, lines = strip.lanes, b""
    if rows_last:
        rows = problem.N * shape["to_d"] * shape["to_h"]
        # A part's sums are written and read once: so few that this is little beside its pixels.
        longest = max(BAND, 8 * problem.taps // shape["to_w"])
        parts = -(-rows // longest)
        group *= min(8, vectors)
        pieces = -(-problem.C // group)
        work = problem.flops * vectors * strip.lanes // problem.C
    else:
        lines, line_bytes = pack_lines(problem, strip.lanes, strip.pixels)
        scratch += line_bytes
        pieces = problem.K
        parts = min(-(-_PIECES // pieces), problem.N * shape["to_d"] * tiles)
        work = problem.flops * -(-shape["to_w"] // strip.lanes) * strip.lanes
        work //= shape["to_w"]
    scratch = -(-scratch // 64) * 64
    constants = _WGRAD.pack(
        images=problem.N,
        channels=problem.K,
        inputs=problem.C,
        fan_out=problem.group_K,
        parts=parts,
        group=group,
        tiles=tiles,
        taps=problem.taps,
        scratch_bytes=scratch,
        **shape,
    )
    constants += lines + b"".join(pack_axis(problem, axis) for axis in three_axes(problem))
    length = problem.K * problem.taps
    several = parts > 1 or problem.accumulate
    collect = Step(
        name="collect",
        kernel=KernelRef(wgrad_rows if rows_last else wgrad_planes, strip),
        operands=(x, y, "parts" if several else "w", "scratch"),
        constants=constants,
        tasks=pieces * parts,
        cost=Cost(flops=work, bytes=problem.bytes),
    )
    buffers += (Buffer(name="scratch", nbytes=scratch, scope="worker"),)
    if not several:
        return Program(steps=(*before, collect), buffers=buffers)
    add = add_step(problem, parts, "w")
    buffers += (Buffer(name="parts", nbytes=parts * length * size),)
    return Program(steps=(*before, collect, add), buffers=buffers)


def add_step(problem: ConvProblem, parts: int, target: str) -> Step:
    """The launch that adds up ``parts``."""
    size, length = problem.w.dtype.itemsize, prod(problem.w_shape)
    return Step(
        name="add",
        kernel=KernelRef(add_parts, Vector(problem.w.dtype.value)),
        operands=("parts", target),
        constants=_PARTS.pack(parts=parts, length=length, accumulate=problem.accumulate),
        tasks=-(-length // _ADD_BLOCK),
        cost=Cost(flops=parts * length, bytes=(parts + 1) * length * size),
    )
