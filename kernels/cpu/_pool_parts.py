"""How rows are cut into parts that two registers hold, and which lanes windows pick from them.

Tables say where each column of the target finds its first tap, its second, and so on; so strides,
padding, dilation, adaptive windows and the way back differ in numbers alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import lru_cache

from convforge.kernels.cpu._windows import AXIS_BYTES, POOL_BYTES, Span, axis_view, meets, spans
from convforge.problem import PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined

PICKS = Layout("PoolPicks", "parts part_bytes rows_at strips rows pairs together mean ahead")
picks_view = PICKS.view
POOL_AT = PICKS.nbytes
AXES_AT = POOL_AT + POOL_BYTES
PARTS_AT = AXES_AT + 3 * AXIS_BYTES
_PART = Layout("PoolPart", "source count target width taps")
part_view = _PART.view
PART_BYTES = _PART.nbytes
_LONGEST = 1024
"""Columns and rows that tables are made for."""


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring columns of the target, and the columns of the source that they meet.

    Attributes:
        source, count: The source's first column and how many there are.
        target, width: The target's.
        taps: For each tap, the lane that each column picks.
        counts: The columns' parts of divisors.
    """

    source: int
    count: int
    target: int
    width: int
    taps: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]


def meetings(span: Span, include_pad: bool) -> tuple[list[list[int]], list[int]]:
    """Source columns that each column of the target meets, and columns counted in each window."""
    axis, windows, counts = span.axis, [], []
    for q in range(span.out):
        if span.adaptive:
            taps = list(range(q * axis.size // span.out, -(-(q + 1) * axis.size // span.out)))
            low, high = 0, axis.size
        else:
            first = q * axis.stride - axis.pad_lo
            taps = list(range(first, first + axis.extent, axis.dilation))
            low, high = -axis.pad_lo * include_pad, axis.size + axis.pad_hi * include_pad
        counts.append(sum(low <= w < high for w in taps))
        windows.append([w for w in taps if 0 <= w < axis.size])
    if not span.backward:
        return windows, counts
    over: list[list[int]] = [[] for _ in range(axis.size)]
    for q, taps in enumerate(windows):
        for w in taps:
            over[w].append(q)
    return over, [1] * axis.size


def _reach(some: list[list[int]]) -> range:
    """From the first to the last source column that some columns of the target meet."""
    met = [taps for taps in some if taps]
    if not met:
        return range(0)
    return range(min(taps[0] for taps in met), max(taps[-1] for taps in met) + 1)


def _fits(some: list[list[int]], room: int, named: bool) -> bool:
    """Whether so many lanes hold what some columns meet, and one for those that meet less."""
    uneven = len({len(taps) for taps in some}) > 1 or not some[0]
    return len(_reach(some)) <= room - (uneven and not named)


def _part_of(
    begin: int, some: list[list[int]], counts: list[int], lanes: int, room: int, named: bool
) -> Part:
    reach, most = _reach(some), max(1, *map(len, some))
    behind = [1] * (lanes - len(some))

    def lane(taps: list[int], t: int) -> int:
        if t < len(taps):
            return taps[t] - reach.start
        if not named:
            return room - 1
        return next(lane for lane in range(room) if lane + reach.start not in taps)

    return Part(
        source=reach.start,
        count=len(reach),
        target=begin,
        width=len(some),
        taps=tuple((*[lane(each, t) for each in some], *behind) for t in range(most)),
        counts=(*counts, *behind),
    )


def pairs(parts: tuple[Part, ...], lanes: int) -> tuple[Part, ...]:
    """The same for two rows of the target at once, each in a register; none where that is too much.

    The rows are neighbours in memory: they are stored as one run.
    """
    part, absent = parts[0], 2 * lanes - 1
    rows = [tap[: part.width] for tap in part.taps]
    uneven = any(absent in row for row in rows)
    if len(parts) > 1 or part.count > lanes - uneven or 2 * part.width > lanes:
        return ()
    beside = [[lane if lane == absent else lane + lanes for lane in row] for row in rows]
    behind = [1] * (lanes - 2 * part.width)
    taps = tuple((*row, *other, *behind) for row, other in zip(rows, beside, strict=True))
    return (replace(part, taps=taps),)


@lru_cache(maxsize=256)
def _cut(span: Span, include_pad: bool, lanes: int, named: bool) -> tuple[Part, ...]:
    """See :func:`parts_of`."""
    room = lanes if named else 2 * lanes
    met, counts = meetings(span, include_pad)
    parts: list[Part] = []
    begin = 0
    while begin < len(met):
        end = begin + 1
        while end < min(begin + lanes, len(met)) and _fits(met[begin : end + 1], room, named):
            end += 1
        if not _fits(met[begin:end], room, named):
            return ()
        parts.append(_part_of(begin, met[begin:end], counts[begin:end], lanes, room, named))
        begin = end
    return tuple(parts)


def parts_of(problem: PoolProblem, lanes: int, named: bool = False) -> tuple[Part, ...]:
    """A row of the target by parts of at most a register, each from two of the source.

    Args:
        named: From one. Who meets less picks a lane that it does not meet, as what a lane holds
            says where it belongs; else it picks one behind those that are met.

    Returns:
        None where that many registers are too few.
    """
    if max(*problem.size, *problem.out) > _LONGEST:
        return ()
    return _cut(spans(problem)[2], problem.count_include_pad, lanes, named)


def pack_part(part: Part, size: int) -> bytes:
    """The struct ``PoolPart``, the counts of columns as elements, and the lanes of every tap."""
    head = _PART.pack(
        source=part.source,
        count=part.count,
        target=part.target,
        width=part.width,
        taps=len(part.taps),
    )
    element, number = ("f", "i") if size == 4 else ("d", "q")
    counts = struct.pack(f"={len(part.counts)}{element}", *part.counts)
    numbers = [lane for tap in part.taps for lane in tap]
    return head + counts + struct.pack(f"={len(numbers)}{number}", *numbers)


@inlined
def place_of(g, b, axes, task):
    """Plane and depth of a strip, its first row and the one after its last.

    Then the first source row that its depth meets, counted over all images, and how many depths.
    """
    plane, begin = task, 0
    if b.strips > 1:
        plane = task // b.strips
        begin = (task - plane * b.strips) * b.rows
    image, d = plane, 0
    if g.to_d > 1:
        image = plane // g.to_d
        d = plane - image * g.to_d
    first, depths = meets(axis_view(axes), d, g.backward)
    end = min(begin + b.rows, g.to_h)
    return plane, d, begin, end, (image * g.from_d + first) * g.from_h, depths
