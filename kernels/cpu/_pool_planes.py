"""Planes as runs of memory, channels first: windows as large as they, gradients of maxima."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cpu._pick import unforeseen
from convforge.kernels.cpu._pool_max import larger, lowest
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    load_scalar,
    scalar,
    splat,
    store_first,
    store_scalar,
    zeros,
)
from convforge.kernels.cpu._wide import Wide, fill, max_lanes, sum_lanes_of_four
from convforge.kernels.cpu._windows import PLANES, planes_view
from convforge.problem import PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import load_word
from convforge.runtime.tasks import claimed, claimed_runs

_POINTERS = Layout("PlanesPointers", "source target indices")
_pointers = _POINTERS.view
_RUN_BYTES = 1 << 14
"""Planes in an L1, cleared at once."""


def program(
    problem: PoolProblem, kernel: Callable[..., None], kind: Wide, *operands: str
) -> Program:
    """One launch whose tasks are whole planes."""
    count, divisor = problem.N * problem.C, problem.divisor or problem.taps
    step = Step(
        name="planes",
        kernel=KernelRef(kernel, kind),
        operands=operands,
        constants=PLANES.pack(
            count=count, length=prod(problem.size), windows=prod(problem.out), divisor=divisor
        ),
        tasks=count,
        cost=Cost(flops=problem.flops, bytes=problem.bytes),
    )
    return Program(steps=(step,))


@kernel
def max_planes(kind, constants, pointers, worker, work):
    """Forward over whole planes, channels first, without indices; a task is a plane."""
    g, p = planes_view(constants), _pointers(pointers)
    size, width = itemsize(kind), lanes(kind)
    for plane in claimed(work, worker):
        x = p.source + plane * g.length * size
        best = scalar(kind, -np.inf)
        if g.length >= width:
            largest = lowest(kind)
            for i in range(0, g.length, width):
                at = min(i, g.length - width)
                largest = larger(load(kind, x + at * size), largest)
            best = max_lanes(kind, largest)
        else:
            for i in range(g.length):
                value = load_scalar(kind, x + i * size)
                if value > best or value != value:
                    best = value
        store_scalar(kind, p.target + plane * size, best)


@kernel
def mean_planes(kind, constants, pointers, worker, work):
    """Averages of whole planes, channels first; a task is a plane, and four go together."""
    g, p = planes_view(constants), _pointers(pointers)
    size, width, length = itemsize(kind), lanes(kind), g.length
    divisor, plane_bytes = splat(kind, scalar(kind, g.divisor)), length * itemsize(kind)
    whole = length - length % width
    for plane, beyond in claimed_runs(work, worker, 4):
        # Behind the last plane stands the last plane: every sum is the same tree.
        a = p.source + plane * plane_bytes
        b = p.source + min(plane + 1, beyond - 1) * plane_bytes
        c = p.source + min(plane + 2, beyond - 1) * plane_bytes
        d = p.source + min(plane + 3, beyond - 1) * plane_bytes
        sum_a, sum_b, sum_c, sum_d = zeros(kind), zeros(kind), zeros(kind), zeros(kind)
        i = 0
        while i < whole:
            sum_a = sum_a + load(kind, a + i * size)
            sum_b = sum_b + load(kind, b + i * size)
            sum_c = sum_c + load(kind, c + i * size)
            sum_d = sum_d + load(kind, d + i * size)
            i = unforeseen(i + width)
        if whole < length:
            sum_a = sum_a + load_first(kind, a + whole * size, length - whole)
            sum_b = sum_b + load_first(kind, b + whole * size, length - whole)
            sum_c = sum_c + load_first(kind, c + whole * size, length - whole)
            sum_d = sum_d + load_first(kind, d + whole * size, length - whole)
        means = sum_lanes_of_four(sum_a, sum_b, sum_c, sum_d) / divisor
        store_first(p.target + plane * size, means, beyond - plane)


@kernel
def spread_planes(kind, constants, pointers, worker, work):
    """Backward of :func:`mean_planes`."""
    g, p = planes_view(constants), _pointers(pointers)
    size = itemsize(kind)
    divisor = scalar(kind, g.divisor)
    for plane in claimed(work, worker):
        share = load_scalar(kind, p.source + plane * size) / divisor
        fill(kind, p.target + plane * g.length * size, share, g.length)


@kernel
def send_planes(kind, constants, pointers, worker, work):
    """Backward of a maximum, channels first: zeros, and each dy where its index says."""
    g, p = planes_view(constants), _pointers(pointers)
    size, length, windows = itemsize(kind), g.length, g.windows
    for first, beyond in claimed_runs(work, worker, max(_RUN_BYTES // (length * size), 1)):
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
