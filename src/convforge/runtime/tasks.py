"""Which tasks of a step a worker does: its own share, then what others have not begun.

Every worker owns an equal range of a step's tasks and takes them from its front. One that has none
left takes the rear half of another's (work stealing: Blumofe & Leiserson 1999,
doi:10.1145/324133.324234). So a core that wakes late, is slower or serves other programs too holds
nobody up, and what neighbouring tasks have in common stays in one worker's cache. A task writes
what no other task writes: who does it changes no bit.

A share is cut into *lots* of tasks. A range of lots is two 32-bit numbers in one word, which a
single atomic instruction replaces.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.runtime.jit import device, embedded
from convforge.runtime.memory import LINE_BYTES
from convforge.runtime.rawmem import load_word, replace_word, store_word

_LOT_BITS = 10
_MOST_LOTS = 1 << _LOT_BITS
"""Lots of a share: short ones, so that workers end together."""
_BITES = 16
"""A worker begins one part in so many of its lots at once: few atomic instructions, and what it
has begun and others cannot take shrinks towards the end."""
EVERY = 1 << 40
"""For runs as long as what a worker has."""
_FRONT = 1 << 32
_REAR = _FRONT - 1


@embedded
def deal(work, tasks, workers, movable):  # type: ignore[no-untyped-def]
    """Give every worker its share.

    Args:
        work: Address of ``workers + 1`` cache lines: one of what all know, then each worker's own.
        movable: Whether a worker may do what is in another's share.
    """
    lot = 1 + (tasks - 1) // (workers * _MOST_LOTS) if tasks else 1
    store_word(work, lot)
    store_word(work + 8, workers)
    store_word(work + 16, movable)
    for worker in range(workers):
        begin, end = tasks * worker // workers, tasks * (worker + 1) // workers
        front = worker << _LOT_BITS
        own = work + LINE_BYTES * (worker + 1)
        store_word(own, (front << 32) + front + (end - begin + lot - 1) // lot)
        store_word(own + 8, begin)
        store_word(own + 16, end)


@embedded
def _tasks_of(work, front, rear):  # type: ignore[no-untyped-def]
    """First task of a range of lots, and the one after its last."""
    share = work + LINE_BYTES * ((front >> _LOT_BITS) + 1)
    lot, begin, end = load_word(work), load_word(share + 8), load_word(share + 16)
    first = front & (_MOST_LOTS - 1)
    beyond = begin + (first + rear - front) * lot
    return begin + first * lot, beyond if beyond < end else end


@embedded
def _rob(work, worker):  # type: ignore[no-untyped-def]
    """Move the rear half of another worker's lots to one that has none; whether there were any."""
    workers = load_word(work + 8)
    for i in range(1, workers * load_word(work + 16)):
        victim = work + LINE_BYTES * ((worker + i) % workers + 1)
        seen = load_word(victim)
        while seen >> 32 < seen & _REAR:
            middle = ((seen >> 32) + (seen & _REAR)) // 2
            found = replace_word(victim, seen, (seen >> 32) * _FRONT + middle)
            if found == seen:
                own = work + LINE_BYTES * (worker + 1)
                replace_word(own, load_word(own), middle * _FRONT + (seen & _REAR))
                return True
            seen = found
    return False


@device
def _take(work, worker, least):  # type: ignore[no-untyped-def]
    """The next lots of a worker, so many if it has them: the first, and the one after the last."""
    own = work + LINE_BYTES * (worker + 1)
    seen = load_word(own)
    while True:
        front, rear = seen >> 32, seen & _REAR
        if front == rear:
            if not _rob(work, worker):
                return rear, rear
            seen = load_word(own)
            continue
        # Ternaries: Numba compiles min and max anew for every function that calls them.
        bite = (rear - front) // _BITES
        count = least if bite < least else bite
        count = count if front + count < rear else rear - front
        found = replace_word(own, seen, seen + count * _FRONT)
        if found == seen:
            return front, front + count
        seen = found


@device
def claimed(work: int, worker: int) -> Any:
    """Tasks for a worker to do, one after another, until nobody has any."""
    one = np.int64(1)  # a bare 1 is a type of its own: _take would be compiled for it too
    front, rear = _take(work, worker, one)
    while front < rear:
        task, end = _tasks_of(work, front, rear)
        while task < end:
            yield task
            task += 1
        front, rear = _take(work, worker, one)


@device
def claimed_runs(work: int, worker: int, most: int) -> Any:
    """The same by runs of neighbours: the first task of each, and the one after its last.

    Args:
        most: Tasks of a run, or :data:`EVERY`.
    """
    lots = max(1, most // load_word(work))
    front, rear = _take(work, worker, lots)
    while front < rear:
        first, end = _tasks_of(work, front, rear)
        while first < end:
            yield first, min(first + most, end)
            first += most
        front, rear = _take(work, worker, lots)
