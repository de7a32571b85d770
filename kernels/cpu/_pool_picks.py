"""Windows along a row, channels first, within registers: every tap of a vector is picked.

The rows that a row of the target meets become one, which two registers hold as far as some
neighbouring columns of the target meet it. Each of these columns picks its taps there, one
instruction for a tap of all of them; rows that are shorter than a register need no code of their
own. Where a column has fewer taps than others it picks a lane that changes nothing.
"""

from __future__ import annotations

from itertools import groupby
from math import prod

from convforge.contract import Cost, KernelRef, Machine, Program, Step
from convforge.kernels.cpu._pick import can_pick, load_until, number_kind, pick, unforeseen
from convforge.kernels.cpu._pool_max import larger, lowest
from convforge.kernels.cpu._pool_mean import divide, rows_divisor
from convforge.kernels.cpu._pool_parts import (
    AXES_AT,
    PART_BYTES,
    PARTS_AT,
    PICKS,
    POOL_AT,
    meetings,
    pack_part,
    pairs,
    part_view,
    parts_of,
    picks_view,
    place_of,
)
from convforge.kernels.cpu._pool_picks_backward import ROWS, pick_gradient
from convforge.kernels.cpu._rows_met import STORES_AHEAD, Box
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    scalar,
    splat,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._wide import Wide, ask, store_run
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    Span,
    axis_view,
    divisor_of,
    pack_pool,
    pool_view,
    spans,
)
from convforge.problem import Direction, PoolKind, PoolProblem
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import load_word
from convforge.runtime.tasks import claimed_runs

_POINTERS = Layout("PickPointers", "source target")
_pointers = _POINTERS.view
_STRIP_BYTES = 16 << 10
"""Of all operands: a strip is met part by part, and stays in the L1."""

_MET_BYTES = 24
"""Of the table of rows: what a row of the target meets, and how many rows do alike."""
_MOST_PARTS = 2
"""Rows of more are faster through a line in L1, whose cost hardly depends on how long they are;
each part repeats the way down its columns."""
_MOST_MAXIMA = 13
"""Of picks a row: a line finds the maxima of long windows from those of shorter ones."""


def can_program(problem: PoolProblem, machine: Machine) -> bool:
    """Whether :func:`program` is made for a problem, whose channels come first."""
    lanes = machine.vector_bytes // problem.x.dtype.itemsize
    if not can_pick(machine) or problem.indices:
        return False
    mean = problem.kind is PoolKind.AVG
    if problem.direction is Direction.DGRAD and not mean:
        return _can_send(problem, lanes)
    parts = parts_of(problem, lanes)
    if not parts or len(parts) > _MOST_PARTS:
        return False
    if not mean and len(parts) * max(len(part.taps) for part in parts) > _MOST_MAXIMA:
        return False
    if problem.direction is Direction.FPROP:
        return True
    return divisor_of(problem) != 0


def _can_send(problem: PoolProblem, lanes: int) -> bool:
    """Whether :func:`pick_gradient` takes a maximum's gradient, and is worth it."""
    _, h, w = spans(problem)
    # Windows further apart, and short rows, leave lanes empty: elements are sent one by one.
    full = w.stride == 1 and w.target >= lanes // 2
    if not full or problem.adaptive or h.axis.extent > ROWS:
        return False
    return parts_of(problem, lanes, named=True) != ()


def _met_rows(h: Span) -> list[tuple[int, int, int]]:
    """Per row of the target: the first it meets, how many, and how many from it on do alike."""
    rows = [(taps[0] if taps else 0, len(taps)) for taps in meetings(h, True)[0]]
    alike = [len(list(same)) for _, same in groupby(rows)]
    left = [n - i for n in alike for i in range(n)]
    return [(first, count, n) for (first, count), n in zip(rows, left, strict=True)]


def program(problem: PoolProblem, kind: Wide, near_bytes: int) -> Program:
    """One launch whose tasks are strips of planes of the target.

    Args:
        near_bytes: Operands that stay in the caches from call to call.
    """
    backward, mean = problem.direction is Direction.DGRAD, problem.kind is PoolKind.AVG
    sends = backward and not mean
    d, h, w = spans(problem)
    size, parts = problem.x.dtype.itemsize, parts_of(problem, kind.lanes, named=sends)
    # Rows that have divisors of their own, and maxima, which are quicker so, go one by one.
    alone = backward or not mean or h.target == 1 or not divisor_of(problem)
    paired = () if alone else pairs(parts, kind.lanes)
    parts = paired or parts
    nbytes = problem.bytes + sends * 8 * prod(problem.y_shape)
    # A strip's part of every operand stays in the L1 while it is met part by part.
    row_bytes = nbytes // (problem.N * problem.C * d.target * h.target)
    rows = min(max(_STRIP_BYTES // row_bytes, 4 * (h.axis.extent - h.stride), 1), h.target)
    strips = -(-h.target // rows)
    part_bytes = PART_BYTES + (1 + max(len(part.taps) for part in parts)) * kind.lanes * size
    met = [] if sends else _met_rows(h)
    planes = problem.N * problem.C * d.target
    source, target = ("y", "x") if backward else ("x", "y")
    step = Step(
        name="windows",
        kernel=KernelRef(pick_gradient if sends else pick_windows, kind),
        operands=(source, target, "indices" if sends else ""),
        constants=PICKS.pack(
            parts=len(parts),
            part_bytes=part_bytes,
            rows_at=len(parts) * part_bytes,
            strips=strips,
            rows=rows,
            pairs=bool(paired),
            together=max(_STRIP_BYTES // (row_bytes * h.target), 1),
            mean=mean,
            ahead=rows * h.source // h.target * w.source * size
            if nbytes > (1 << 18 if sends else near_bytes)
            else 0,
        )
        + pack_pool(problem, channels_last=False, divisor=divisor_of(problem))
        + b"".join(pack_part(part, size).ljust(part_bytes, b"\0") for part in parts)
        + pack_table(met),
        tasks=planes * strips,
        cost=Cost(flops=problem.flops, bytes=nbytes),
    )
    return Program(steps=(step,))


@inlined
def _met(kind, mean, total, x):
    """One more element of a window."""
    return total + x if mean else larger(x, total)


@inlined
def _down(kind, mean, place, box, count):
    """Sum or largest of the first elements of a box's rows, column by column."""
    nothing = zeros(kind) if mean else lowest(kind)
    step = box.h_step * box.run_bytes
    # Two and three rows are what nearly all windows have.
    if box.d == 1 and box.h == 2:
        total = load_until(kind, place, count, nothing)
        return _met(kind, mean, total, load_until(kind, place + step, count, nothing))
    if box.d == 1 and box.h == 3:
        total = load_until(kind, place, count, nothing)
        total = _met(kind, mean, total, load_until(kind, place + step, count, nothing))
        return _met(kind, mean, total, load_until(kind, place + 2 * step, count, nothing))
    if mean and box.d == 1 and box.h == 5:
        total = load_until(kind, place, count, nothing)
        total = _met(kind, mean, total, load_until(kind, place + step, count, nothing))
        total = _met(kind, mean, total, load_until(kind, place + 2 * step, count, nothing))
        total = _met(kind, mean, total, load_until(kind, place + 3 * step, count, nothing))
        return _met(kind, mean, total, load_until(kind, place + 4 * step, count, nothing))
    total, depths = nothing, box.d
    while depths > 0:
        row, heights = place, box.h
        while heights > 0:
            total = _met(kind, mean, total, load_until(kind, row, count, nothing))
            row += step
            heights = unforeseen(heights - 1)
        place += box.d_step * box.run_bytes
        depths = unforeseen(depths - 1)
    return total


@inlined
def _strips(kind, mean, g, b, axes, part_at, rows_at, p, first, beyond):
    """A part of the rows of some strips."""
    d_axis, h_axis = axis_view(axes), axis_view(axes + AXIS_BYTES)
    part, of_lanes = part_view(part_at), number_kind(kind)
    size, width, vector = itemsize(kind), lanes(kind), vector_bytes(kind)
    count, taps, divisor, columns = part.count, part.taps, g.divisor, part.width
    counts = load(kind, part_at + PART_BYTES)
    numbers = part_at + PART_BYTES + vector
    # Three taps are what nearly all windows have at most.
    one = load(of_lanes, numbers)
    two = load(of_lanes, numbers + min(taps - 1, 1) * vector)
    three = load(of_lanes, numbers + min(taps - 1, 2) * vector)
    d_step, h_step, row_bytes = d_axis.step * g.from_h, h_axis.step, g.run * size
    to_h, to_bytes, ahead = g.to_h, g.to_w * size, b.ahead
    at_once = 1 + b.pairs if mean else 1
    source_from, target_to = p.source, p.target
    for task in range(first, beyond):
        plane, d, begin, end, source_row, depths = place_of(g, b, axes, task)
        source = source_from + source_row * row_bytes + part.source * size
        target = target_to + (plane * to_h + begin) * to_bytes + part.target * size
        h = begin
        while h < end:
            entry = rows_at + _MET_BYTES * h
            first_row, heights = load_word(entry), load_word(entry + 8)
            row = source + first_row * row_bytes
            if ahead:
                fresh = row + ahead
                ask(fresh, count * size)
                ask(fresh + row_bytes, count * size)
                if mean and b.pairs:
                    ask(fresh + 2 * row_bytes, 2 * row_bytes)
                ask(target + STORES_AHEAD, at_once * columns * size)
            box = Box(depths, heights, 1, d_step, h_step, 0, row_bytes)
            low, high = _down(kind, mean, row, box, count), zeros(kind) if mean else lowest(kind)
            beside, more, stored = row + vector, count - width, columns
            if mean and b.pairs and h + 1 < end:
                below = entry + _MET_BYTES
                beside, more = source + load_word(below) * row_bytes, count
                heights, stored = load_word(below + 8), 2 * columns
            if more > 0:
                box = Box(depths, heights, 1, d_step, h_step, 0, row_bytes)
                high = _down(kind, mean, beside, box, more)
            total = pick(low, high, one)
            if taps > 1:
                total = _met(kind, mean, total, pick(low, high, two))
            if taps > 2:
                total = _met(kind, mean, total, pick(low, high, three))
            left, which = taps - 3, numbers + 3 * vector
            while left > 0:
                total = _met(kind, mean, total, pick(low, high, load(of_lanes, which)))
                which += vector
                left = unforeseen(left - 1)
            if mean:
                if divisor != 0:
                    total = divide(kind, g, total, divisor)
                else:
                    rows = splat(kind, scalar(kind, rows_divisor(g, axes, d, h)))
                    total = total / (rows * counts)
            store_run(kind, target, total, stored)
            target += at_once * to_bytes
            h += at_once
            if mean and g.backward:
                alike = min(load_word(entry + 16), end + 1 - h)
                while alike > 1:
                    store_run(kind, target, total, columns)
                    target, h, alike = target + to_bytes, h + 1, unforeseen(alike - 1)


@kernel
def pick_windows(kind, constants, pointers, worker, work):
    """Divided sums, both ways, and maxima forward; a task is a strip of a plane of the target."""
    b, g, p = picks_view(constants), pool_view(constants + POOL_AT), _pointers(pointers)
    axes, rows_at = constants + AXES_AT, constants + PARTS_AT + b.rows_at
    for first, beyond in claimed_runs(work, worker, b.together):
        part_at, left = constants + PARTS_AT, b.parts
        while left > 0:
            # Two calls: within one, a choice for every element.
            if b.mean:
                _strips(kind, True, g, b, axes, part_at, rows_at, p, first, beyond)
            else:
                _strips(kind, False, g, b, axes, part_at, rows_at, p, first, beyond)
            part_at += b.part_bytes
            left = unforeseen(left - 1)
