"""The way back of a maximum within registers, channels first and stride 1: see _pool_picks."""

from __future__ import annotations

from convforge.kernels.cpu._index import choose, equal, index_kind
from convforge.kernels.cpu._pick import (
    as_numbers,
    load_until,
    number_kind,
    numbers_from,
    pick,
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
    lanes,
    load,
    scalar,
    splat,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._wide import ask, load_run, store_run
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    axis_view,
    first_window,
    last_window,
    pool_view,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.tasks import claimed_runs

_POINTERS = Layout("PickGradientPointers", "source target indices")
_pointers = _POINTERS.view
ROWS = 3
"""Of a window, at most."""


@inlined
def _named(kind, address, count):
    """Positions that indices name, as numbers: those within reach differ in their lower bits."""
    return as_numbers(number_kind(kind), load_run(index_kind(kind), address, count))


@inlined
def _send(kind, sums, dy, named, rows):
    """Add what was picked to the rows that its indices name."""
    one, two, three = sums
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
    size, width, of_lanes, vector = (
        itemsize(kind),
        lanes(kind),
        number_kind(kind),
        vector_bytes(kind),
    )
    to_h, to_w, from_w, stride, pad = g.to_h, g.to_w, g.from_w, h_axis.stride, h_axis.pad
    dy_from, indices_from, dx_to, ahead = p.source, p.indices, p.target, b.ahead
    d_step = d_axis.step * g.from_h * from_w
    for first_task, beyond in claimed_runs(work, worker, b.together):
        part_at, parts = constants + PARTS_AT, b.parts
        while parts > 0:
            part = part_view(part_at)
            count, taps, columns = part.count, part.taps, part.width
            numbers = part_at + PART_BYTES + vector
            lane_one = load(of_lanes, numbers)
            lane_two = load(of_lanes, numbers + min(taps - 1, 1) * vector)
            lane_three = load(of_lanes, numbers + min(taps - 1, 2) * vector)
            row = splat(of_lanes, scalar(of_lanes, to_w))
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
                        h, target = h + 1, target + to_w * size
                    rows = named_row, named_row + row, named_row + row + row
                    at, left = source, depths if q <= last else 0
                    if ahead:
                        ask(dy_from + at * size + ahead, count * size)
                        ask(indices_from + (at * size + ahead) * 8 // size, count * 8)
                        ask(target + STORES_AHEAD, columns * size)
                        ask(target + STORES_AHEAD + to_w * size, columns * size)
                    while left > 0:
                        low = load_until(kind, dy_from + at * size, count, zeros(kind))
                        named_low = _named(kind, indices_from + at * 8, count)
                        high, named_high = zeros(kind), named_low
                        if count > width:
                            beside, more = at + width, count - width
                            high = load_until(kind, dy_from + beside * size, more, zeros(kind))
                            named_high = _named(kind, indices_from + beside * 8, more)
                        dy, named = pick(low, high, lane_one), pick(named_low, named_high, lane_one)
                        sums = _send(kind, sums, dy, named, rows)
                        if taps > 1:
                            dy = pick(low, high, lane_two)
                            named = pick(named_low, named_high, lane_two)
                            sums = _send(kind, sums, dy, named, rows)
                        if taps > 2:
                            dy = pick(low, high, lane_three)
                            named = pick(named_low, named_high, lane_three)
                            sums = _send(kind, sums, dy, named, rows)
                        which, tap = numbers + 3 * vector, taps - 3
                        while tap > 0:
                            lane = load(of_lanes, which)
                            dy, named = pick(low, high, lane), pick(named_low, named_high, lane)
                            sums = _send(kind, sums, dy, named, rows)
                            which += vector
                            tap = unforeseen(tap - 1)
                        at += d_step
                        left = unforeseen(left - 1)
                    source += from_w
            part_at += b.part_bytes
            parts = unforeseen(parts - 1)
