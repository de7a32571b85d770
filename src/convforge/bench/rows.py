"""What is timed of a layer, and on what data.

functional
    A call with plain weights every time.
plain
    A plan that is given plain weights every time, as training does, where they change.
warm
    Weights prepared once, and in the cache, as in most benchmarks.
cold
    Weights prepared once, and from memory: copies take turns, so that none is in any cache when
    it is needed. So it is in a network, where every other layer ran since.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from convforge.problem import Problem
from convforge.runtime import machine
from convforge.testing.data import Operands

Array = NDArray[Any]

_MOST_COPIES = 4096


class Row(StrEnum):
    """A way to run a layer."""

    FUNCTIONAL = "functional"
    PLAIN = "plain"
    WARM = "warm"
    COLD = "cold"


class Unable(Exception):
    """A runner cannot run a problem; says why."""


def as_is(result: Array) -> Array:
    """The result of a call that returns an array in the problem's memory order."""
    return result


@dataclass(frozen=True, slots=True)
class Call:
    """Something to time.

    Attributes:
        run: Computes the layer.
        read: Turns what ``run`` returned into an array in the problem's memory order.
        layers: How many times ``run`` computes the layer.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Array] = as_is
    layers: int = 1


class Runner(Protocol):
    """Who computes: convforge itself or a peer."""

    name: str

    def set_threads(self, count: int) -> None:
        """Limit the threads of what is called from now on."""

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Ready-made calls for those of the rows that this runner has.

        Raises:
            Unable: It has none for this problem.
        """

    def quiet(self) -> AbstractContextManager[Any]:
        """Entered while calls are made: what users of it do for inference."""


def copies_past_cache(nbytes: int) -> int:
    """How many copies of weights are twice the shared cache, so that taking turns misses it."""
    wanted = math.ceil(2 * machine.cpu().l3_bytes / max(nbytes, 1)) + 1
    return min(wanted, _MOST_COPIES)


def taking_turns(calls: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """A call that makes the next of these calls, round and round."""
    following = itertools.cycle(calls).__next__
    return lambda: following()()
