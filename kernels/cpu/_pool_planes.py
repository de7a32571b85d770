"""Planes as runs of memory, channels first: windows as large as they, gradients of maxima."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cpu._pool_max import larger, lowest
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_scalar,
    scalar,
    splat,
    store_first,
    store_scalar,
)
from convforge.kernels.cpu._wide import Wide, fill, max_lanes, sum_runs
from convforge.kernels.cpu._windows import PLANES, planes_view
from convforge.problem import Direction, PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import load_word
from convforge.runtime.tasks import claimed

_POINTERS = Layout("PlanesPointers", "source target indices")
_pointers = _POINTERS.view
_GROUP_BYTES = 1 << 14
"""Planes of a task: they stay in an L1."""
ALONE_BYTES = 1 << 19
"""What one thread reads sooner than it wakes another; written, half as much."""


def program(
    problem: PoolProblem, kernel: Callable[..., None], kind: Wide, *operands: str
) -> Program:
    """One launch whose tasks are groups of whole planes."""
    count, divisor = problem.N * problem.C, problem.divisor or problem.taps
    length, windows = prod(problem.size), prod(problem.out)
    group = max(_GROUP_BYTES // (length * problem.x.dtype.itemsize), 1)
    group = 1 << group.bit_length() - 1
    backward = problem.direction is Direction.DGRAD
    if windows == 1 and problem.bytes << backward <= ALONE_BYTES:
        group = count
    step = Step(
        name="planes",
        kernel=KernelRef(kernel, kind),
        operands=operands,
        constants=PLANES.pack(
            count=count, group=group, length=length, windows=windows, divisor=divisor
        ),
        tasks=-(-count // group),
        cost=Cost(flops=problem.flops, bytes=problem.bytes),
    )
    return Program(steps=(step,))


@inlined
def _planes(g, task):
    """First plane of a group, and the one after its last."""
    return task * g.group, min(task * g.group + g.group, g.count)


@inlined
def _max_of(kind, x, length):
    """Largest element of a plane."""
    size, width, best = itemsize(kind), lanes(kind), scalar(kind, -np.inf)
    if length >= width:
        largest = lowest(kind)
        for i in range(0, length, width):
            at = min(i, length - width)
            largest = larger(load(kind, x + at * size), largest)
        return max_lanes(kind, largest)
    for i in range(length):
        value = load_scalar(kind, x + i * size)
        if value > best or value != value:
            best = value
    return best


@kernel
def max_planes(kind, constants, pointers, worker, work):
    """Forward over whole planes, channels first, without indices; a task is a group of planes."""
    g, p = planes_view(constants), _pointers(pointers)
    size = itemsize(kind)
    for task in claimed(work, worker):
        first, beyond = _planes(g, task)
        for plane in range(first, beyond):
            best = _max_of(kind, p.source + plane * g.length * size, g.length)
            store_scalar(kind, p.target + plane * size, best)


@kernel
def mean_planes(kind, constants, pointers, worker, work):
    """Averages of whole planes, channels first; a task is a group, a vector of sums at once."""
    g, p = planes_view(constants), _pointers(pointers)
    size, plane_bytes = itemsize(kind), g.length * itemsize(kind)
    divisor = splat(kind, scalar(kind, g.divisor))
    for task in claimed(work, worker):
        first, beyond = _planes(g, task)
        for plane in range(first, beyond, lanes(kind)):
            x, last = p.source + plane * plane_bytes, beyond - 1 - plane
            means = sum_runs(kind, x, plane_bytes, last, g.length) / divisor
            store_first(p.target + plane * size, means, beyond - plane)


@kernel
def spread_planes(kind, constants, pointers, worker, work):
    """Backward of :func:`mean_planes`."""
    g, p = planes_view(constants), _pointers(pointers)
    size = itemsize(kind)
    divisor = scalar(kind, g.divisor)
    for task in claimed(work, worker):
        first, beyond = _planes(g, task)
        for plane in range(first, beyond):
            share = load_scalar(kind, p.source + plane * size) / divisor
            fill(kind, p.target + plane * g.length * size, share, g.length)


@kernel
def send_planes(kind, constants, pointers, worker, work):
    """Backward of a maximum, channels first: zeros, and each dy where its index says."""
    g, p = planes_view(constants), _pointers(pointers)
    size, length, windows = itemsize(kind), g.length, g.windows
    for task in claimed(work, worker):
        first, beyond = _planes(g, task)
        dx = p.target + first * length * size
        fill(kind, dx, scalar(kind, 0), (beyond - first) * length)
        dy, indices = p.source + first * windows * size, p.indices + first * windows * 8
        for _ in range(first, beyond):
            for i in range(windows):
                pixel = load_word(indices + i * 8)
                if 0 <= pixel < length:
                    place = dx + pixel * size
                    value = load_scalar(kind, place) + load_scalar(kind, dy + i * size)
                    store_scalar(kind, place, value)
            dx, dy, indices = dx + length * size, dy + windows * size, indices + windows * 8
