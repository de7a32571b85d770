"""Time several callables against each other in one process, fairly.

Thread pools go on spinning after a call and take a core from whoever runs next, machines drift,
and caches remember. So the callables of a race take turns: in each round every one of them gets
one block, in random order; a block begins with a pause and a few unmeasured calls; a block's time
is the median of its calls, a callable's time the median of its blocks. Ratios are taken within
rounds, where both sides saw the same machine. Identical code against itself must give 1:
:func:`convforge.bench.rows.against_itself` measures that before anything else.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests bring their own."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Let this much time pass."""

    def worked(self) -> float:
        """Seconds that all threads of this process have run so far."""


class SystemClock:
    """The machine's monotonic clock."""

    now = staticmethod(time.perf_counter)
    sleep = staticmethod(time.sleep)
    worked = staticmethod(time.process_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a race is run.

    Attributes:
        rounds: Blocks each callable gets, at least.
        most_rounds: Where times spread, the race goes on up to this many.
        steady: Spread of blocks that needs no more of them.
        wild: Spread that nobody would believe: the race goes on up to twice as long.
        block_s: Seconds measured in one block, at least; one call where a call takes longer.
        pause_s: Seconds of rest before a block, repeated until the previous one's threads sleep.
        unmeasured: Calls before measuring, to wake the callable's own threads and caches.
        sample_s: Shortest time the clock is trusted with; faster calls are timed in batches.
    """

    rounds: int = 5
    most_rounds: int = 8
    steady: float = 0.1
    wild: float | None = 0.2
    block_s: float = 0.05
    pause_s: float = 0.05
    unmeasured: int = 3
    sample_s: float = 50e-6


@dataclass(frozen=True, slots=True)
class Timing:
    """What one callable took: the median of each of its blocks, in seconds per call."""

    blocks: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Seconds per call, median over blocks."""
        return statistics.median(self.blocks)

    @property
    def spread(self) -> float:
        """Distance between the quartiles of the blocks, as a share of their median."""
        if len(self.blocks) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.blocks, n=4, method="inclusive")
        return (high - low) / self.median_s


def speedup(ours: Timing, theirs: Timing) -> float:
    """How many times faster ``ours`` is: the median over rounds of theirs / ours."""
    rounds = zip(ours.blocks, theirs.blocks, strict=True)
    return statistics.median(their_s / our_s for our_s, their_s in rounds)


def geometric_mean(ratios: list[float]) -> float:
    """The mean for ratios; NaN for none."""
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan


STANDARD = Method()
BRIEF = Method(rounds=3, most_rounds=5, block_s=0.03, pause_s=0.02, wild=1.0)
"""For groups of many layers and contestants."""
QUICK = Method(rounds=3, most_rounds=3, block_s=0.015, wild=None)
_SYSTEM = SystemClock()
_MOST_PAUSES = 20
_ASLEEP = 0.2
"""Share of a pause that threads may run and still pass for asleep."""


def race(
    contestants: Mapping[str, Callable[[], object]],
    method: Method = STANDARD,
    *,
    seed: int = 0,
    clock: Clock = _SYSTEM,
) -> dict[str, Timing]:
    """Time callables in turns; the result has their names, in their order."""
    order = list(contestants)
    shuffle = random.Random(seed).shuffle
    blocks: dict[str, list[float]] = {name: [] for name in order}
    with _no_garbage_collection():
        for done in range(2 * max(method.rounds, method.most_rounds)):
            if done >= method.rounds:
                enough = method.steady if done < method.most_rounds else method.wild
                if enough is None or _largest_spread(blocks) <= enough:
                    break
            shuffle(order)
            for name in order:
                blocks[name].append(_block(contestants[name], method, clock))
    return {name: Timing(tuple(blocks[name])) for name in contestants}


def _largest_spread(blocks: Mapping[str, list[float]]) -> float:
    return max(Timing(tuple(times)).spread for times in blocks.values())


def _rest(pause_s: float, clock: Clock) -> None:
    """Wait until no thread runs on after its last call: some spin for a tenth of a second."""
    for _ in range(_MOST_PAUSES):
        worked = clock.worked()
        clock.sleep(pause_s)
        if clock.worked() - worked < _ASLEEP * pause_s:
            break


def _block(call: Callable[[], object], method: Method, clock: Clock) -> float:
    _rest(method.pause_s, clock)
    begin = clock.now()
    once = math.inf
    for _ in range(method.unmeasured):
        start = clock.now()
        call()
        once = min(once, clock.now() - start)
        if clock.now() - begin > method.block_s:
            break
    batch = max(1, math.ceil(method.sample_s / max(once, 1e-9)))
    samples: list[float] = []
    end = clock.now() + method.block_s
    while not samples or clock.now() < end:
        start = clock.now()
        for _ in range(batch):
            call()
        samples.append((clock.now() - start) / batch)
    return statistics.median(samples)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
