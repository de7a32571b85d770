"""Time on a device: blocks of calls in turns, between events of the device's own clock.

As on the CPU (:mod:`convforge.bench.timer`) contestants take turns and ratios are taken within
rounds. A block is many calls, enqueued behind each other, of which each has another set of
arrays: together they exceed the device's cache, so that no call finds its operands there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from convforge.bench.rows import taking_turns
from convforge.bench.timer import Timing
from convforge.runtime.cuda.device import Device

Run = Callable[[], Any]
_PAST_CACHE = 2
"""Times the cache that all sets hold together."""


class Laboratory(Protocol):
    """What only a device can do for a measurement; tests bring one with a clock of theirs."""

    @property
    def device(self) -> Device:
        """What is measured."""

    def seconds(self, run: Run) -> float:
        """Of the device, for what a function enqueues on the current stream; waits for it."""

    def host_seconds(self, run: Run) -> float:
        """Of the host, until a function has enqueued its work on an idle device."""

    def captured(self, run: Run) -> Run:
        """Replays the launches of a function as one graph."""

    def bare_launch(self) -> Run:
        """Enqueues an empty kernel, with as little as there can be in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a race is run.

    Attributes:
        rounds: Blocks of each contestant.
        block_s: Seconds of the device in one block, about.
        most_calls: Calls of a block, at most.
        most_sets: Sets of arrays, at most.
    """

    rounds: int = 7
    block_s: float = 0.02
    most_calls: int = 400
    most_sets: int = 32


STANDARD = Method()
QUICK = Method(rounds=3, block_s=0.005)


def sets_wanted(nbytes: int, l2_bytes: int, room_bytes: int, method: Method = STANDARD) -> int:
    """How many sets of arrays of so many bytes a race rotates over."""
    wanted = math.ceil(_PAST_CACHE * l2_bytes / max(nbytes, 1)) + 1
    return max(1, min(wanted, method.most_sets, room_bytes // max(nbytes, 1)))


def race(
    laboratory: Laboratory,
    contestants: Mapping[str, Sequence[Run]],
    method: Method = STANDARD,
    *,
    seed: int = 0,
) -> dict[str, Timing]:
    """Seconds of one call of each contestant, by blocks.

    Args:
        laboratory: Has the clock.
        contestants: Calls that do the same to different sets of arrays.
        method: Rounds and lengths.
        seed: Of the order within a round.
    """
    order = list(contestants)
    shuffle = random.Random(seed).shuffle
    blocks: dict[str, Run] = {}
    counts = {}
    for name, calls in contestants.items():
        once = laboratory.seconds(_block(calls, len(calls)))  # what is made once is made here
        once = laboratory.seconds(_block(calls, len(calls))) / len(calls)
        count = min(max(math.ceil(method.block_s / max(once, 1e-9)), len(calls)), method.most_calls)
        blocks[name], counts[name] = _block(calls, count), count
    times: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(method.rounds):
        shuffle(order)
        for name in order:
            times[name].append(laboratory.seconds(blocks[name]) / counts[name])
    return {name: Timing(tuple(times[name])) for name in contestants}


def _block(calls: Sequence[Run], count: int) -> Run:
    following = taking_turns(calls)

    def run() -> None:
        for _ in range(count):
            following()

    return run
