"""The way back of a maximum within registers, channels first and stride 1: see _pool_picks."""

from __future__ import annotations

from convforge.kernels.cpu._index import choose, equal, index_kind
from convforge.kernels.cpu._pick import (
    as_numbers,
    load_until,
    number_kind,
    numbers_from,
    pick_one,
    unforeseen,
)
from convforge.kernels.cpu._pool_parts import (
    AXES_AT,
    PART_BYTES,
    PARTS_AT,
    POOL_AT,
    part_view,
    picks_view,
    place_of,
)
from convforge.kernels.cpu._rows_met import STORES_AHEAD
from convforge.kernels.cpu._vector import (
    itemsize,
    load,
    scalar,
    splat,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._wide import LINE_BYTES, store_run
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    axis_view,
    first_window,
    last_window,
    pool_view,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import prefetch
from convforge.runtime.tasks import claimed_runs

_POINTERS = Layout("PickGradientPointers", "source target indices")
_pointers = _POINTERS.view
ROWS = 3
"""Of a window, at most."""


@inlined
def _named(kind, address, count):
    """Positions that indices name, as numbers: those within reach differ in their lower bits."""
    index = index_kind(kind)
    return as_numbers(number_kind(kind), load_until(index, address, count, zeros(index)))


@inlined
def _send(sums, dy, named, lanes, rows):
    """Add what a tap picks to the rows that its indices name."""
    one, two, three = sums
    dy, named = pick_one(dy, lanes), pick_one(named, lanes)
    return (
        choose(equal(named, rows[0]), one + dy, one),
        choose(equal(named, rows[1]), two + dy, two),
        choose(equal(named, rows[2]), three + dy, three),
    )


@kernel
def pick_gradient(kind, constants, pointers, worker, work):
    """A maximum's, of windows of at most three rows; a task is a strip of a plane of dx.

    Down the strip go the sums of the three rows that the window reached may name, for as many
    columns as a vector has lanes; rows that no later window reaches are stored.
    """
    b, g, p = picks_view(constants), pool_view(constants + POOL_AT), _pointers(pointers)
    axes = constants + AXES_AT
    d_axis, h_axis = axis_view(axes), axis_view(axes + AXIS_BYTES)
    size, of_lanes, vector = itemsize(kind), number_kind(kind), vector_bytes(kind)
    to_h, to_w, from_w, stride, pad = g.to_h, g.to_w, g.from_w, h_axis.stride, h_axis.pad
    dy_from, indices_from, dx_to, ahead = p.source, p.indices, p.target, b.ahead
    d_step, to_bytes = d_axis.step * g.from_h * from_w, to_w * size
    row = splat(of_lanes, scalar(of_lanes, to_w))
    for first_task, beyond in claimed_runs(work, worker, b.together):
        part_at, parts = constants + PARTS_AT, b.parts
        while parts > 0:
            part = part_view(part_at)
            count, taps, columns = part.count, part.taps, part.width
            numbers = part_at + PART_BYTES + vector
            lane_one = load(of_lanes, numbers)
            lane_two = load(of_lanes, numbers + min(taps - 1, 1) * vector)
            lane_three = load(of_lanes, numbers + min(taps - 1, 2) * vector)
            for task in range(first_task, beyond):
                plane, d, begin, end, source, depths = place_of(g, b, axes, task)
                last = last_window(h_axis, end - 1)
                # Of rows that no window meets the turn past the last one stores zeros.
                first = min(first_window(h_axis, begin), last + 1)
                source = (source + first) * from_w + part.source
                h = min(begin, first * stride - pad)
                named_row = numbers_from(of_lanes, (d * to_h + h) * to_w + part.target)
                target = dx_to + ((plane * to_h + h) * to_w + part.target) * size
                sums = zeros(kind), zeros(kind), zeros(kind)
                for q in range(first, last + 2):
                    start = q * stride - pad if q <= last else end
                    while h < start:
                        if begin <= h:
                            store_run(kind, target, sums[0], columns)
                        sums = sums[1], sums[2], zeros(kind)
                        named_row = named_row + row
                        h, target = unforeseen(h + 1), target + to_bytes
                    rows = named_row, named_row + row, named_row + row + row
                    at, left = source, depths if q <= last else 0
                    if ahead:
                        prefetch(dy_from + at * size + ahead)
                        prefetch(indices_from + (at + ahead // size) * 8)
                        prefetch(indices_from + (at + ahead // size) * 8 + LINE_BYTES)
                        prefetch(target + STORES_AHEAD)
                        prefetch(target + STORES_AHEAD + to_bytes)
                    while left > 0:
                        dy = load_until(kind, dy_from + at * size, count, zeros(kind))
                        named = _named(kind, indices_from + at * 8, count)
                        sums = _send(sums, dy, named, lane_one, rows)
                        if taps > 1:
                            sums = _send(sums, dy, named, lane_two, rows)
                        if taps > 2:
                            sums = _send(sums, dy, named, lane_three, rows)
                        which, tap = numbers + 3 * vector, taps - 3
                        while tap > 0:
                            sums = _send(sums, dy, named, load(of_lanes, which), rows)
                            which += vector
                            tap = unforeseen(tap - 1)
                        at += d_step
                        left = unforeseen(left - 1)
                    source += from_w
            part_at += b.part_bytes
            parts = unforeseen(parts - 1)
