"""Is what a contestant computed right? Asked before it is timed.

The reference is slow, so it computes a large layer in part: the first and the last image, and of
those as many output channels, evenly spread, as :data:`MOST_FLOPS` allow. Every element must be
finite all the same. Small layers are compared whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from convforge.bench.rows import Array
from convforge.problem import ConvProblem, Direction, DType, Order, PoolProblem, Problem
from convforge.testing import oracle
from convforge.testing.data import Operands

MOST_FLOPS = {DType.F64: 4e7}
_OTHERWISE = 1e9
"""What the reference computes of one layer; long double, which judges float64, is slower."""


@dataclass(frozen=True)
class Part:
    """A part of a problem that is a problem itself.

    Attributes:
        problem: The part. data: Its operands.
        take: What the part has of a result of the whole.
    """

    problem: Problem
    data: Operands
    take: Callable[[Array], Array]


class Judge:
    """Compares any number of results of one problem with the reference, computed once."""

    def __init__(self, problem: Problem, data: Operands) -> None:
        self._part = part(problem, data)
        self._wanted = oracle.wanted(self._part.problem, self._part.data)
        self._units = oracle.units(self._part.problem, self._part.data)

    def worst(self, got: Array, *, planewise: bool) -> oracle.Worst:
        """The largest error; infinite if any element of the whole result is not finite."""
        taken = np.ascontiguousarray(self._part.take(got))
        worst = oracle.compare(
            self._part.problem, taken, self._wanted, self._units, planewise=planewise
        )
        if taken.size != got.size and not np.isfinite(got).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(got))[0])
            return replace(worst, units=np.inf, at=at, got=got[at], wanted="a finite number")
        return worst


def part(problem: Problem, data: Operands) -> Part:
    """The whole of a small problem, a part of a large one."""
    most = MOST_FLOPS.get(problem.x.dtype, _OTHERWISE)
    if problem.flops <= most or data.epilogue or data.before is not None:
        return Part(problem, data, lambda got: got)
    if isinstance(problem, PoolProblem):
        return _some_images(problem, data)
    if problem.direction is not Direction.WGRAD:
        images = _some_images(problem, data)
        channels = _some_channels(images.problem, images.data, most)
        return Part(channels.problem, channels.data, lambda got: channels.take(images.take(got)))
    return _some_channels(problem, data, most)


def _some_images(problem: Problem, data: Operands) -> Part:
    kept = _spread(problem.N, 2)
    arrays = list(data.arrays)
    reads_images = 2 if isinstance(problem, PoolProblem) else 1
    arrays[:reads_images] = [array[kept] for array in arrays[:reads_images]]
    return Part(replace(problem, N=len(kept)), Operands(tuple(arrays)), lambda got: got[kept])


def _some_channels(problem: Problem, data: Operands, most: float) -> Part:
    """Of the output: whole groups, or channels of the only group."""
    assert isinstance(problem, ConvProblem)
    first, second = data.arrays
    share = most / problem.flops
    if problem.groups > 1:
        groups = _spread(problem.groups, int(problem.groups * share))
        c, k = (_members(groups, n) for n in (problem.group_C, problem.group_K))
        smaller = replace(problem, groups=len(groups), C=len(c), K=len(k))
    elif problem.direction is Direction.DGRAD:
        c, k = _spread(problem.C, int(problem.C * share)), np.arange(problem.K)
        smaller = replace(problem, C=len(c))
    else:
        c, k = np.arange(problem.C), _spread(problem.K, int(problem.K * share))
        smaller = replace(problem, K=len(k))
    x, y = _axis(problem.x.order), _axis(problem.y.order)
    if problem.direction is Direction.WGRAD:
        arrays = (np.take(first, c, x), np.take(second, k, y))
        return Part(smaller, Operands(arrays), lambda got: got[k])
    w = second[k]
    if problem.groups == 1:
        w = np.take(w, c, _axis(problem.w.order))
    if problem.direction is Direction.DGRAD:
        arrays = (np.take(first, k, y), w)
        return Part(smaller, Operands(arrays), lambda got: np.take(got, c, x))
    arrays = (np.take(first, c, x), w)
    return Part(smaller, Operands(arrays), lambda got: np.take(got, k, y))


def _axis(order: Order) -> int:
    """Where channels are."""
    return 1 if order is Order.CHANNELS_FIRST else -1


def _spread(count: int, wanted: int) -> Array:
    """Up to so many of ``range(count)``, evenly, with the first and the last; two at least."""
    return np.unique(np.linspace(0, count - 1, max(wanted, 2)).round().astype(int))


def _members(groups: Array, size: int) -> Array:
    """Channels of these groups."""
    return (groups[:, None] * size + np.arange(size)).ravel()
