"""Power means: sums of powers over windows and their roots, one pass each way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from numba import cuda

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cuda_numba._element import (
    FLOATS,
    Types,
    inlined,
    loader,
    number_type,
    storer,
)
from convforge.kernels.cuda_numba._geometry import index_of
from convforge.kernels.cuda_numba._windows import (
    POOL,
    THREADS,
    count_of,
    holders_of,
    pack_pool,
    place_of,
    visited_of,
    window_of,
)
from convforge.problem import Direction, PoolProblem
from convforge.runtime.cuda.jit import kernel

_MOST_FACTORS = 8
"""A product of so many is faster than a power."""


@dataclass(frozen=True, slots=True)
class PowerConfig(Types):
    """The power, besides the types."""

    power: float


def raiser(power: float, acc: str) -> Callable[[Any], Any]:
    """``raised(x)``: x to a power, by the cheaper operations where there are some."""
    number = number_type(acc)
    if power == 0.5:

        @inlined
        def raised(x):
            return math.sqrt(x)
    elif power == int(power) and 1 <= power <= _MOST_FACTORS:
        factors = int(power)

        @inlined
        def raised(x):
            product = x
            for _ in range(1, factors):
                product *= x
            return product
    else:

        @inlined
        def raised(x):
            return number(math.pow(x, number(power)))

    return raised


@kernel(POOL, threads=THREADS, registers={"f32": 48, "f64": 64})
def pool_window_powers(config):
    """The root of the sum of powers of a window; with ``indices``, the sum too, for the way back.

    Without a divisor the mean is scaled up to a whole window.
    """
    index, acc = number_type(config.index), number_type(config.acc)
    load, store = loader(config.pointers[0], config.acc), storer(config.pointers[1])
    raised, root = raiser(config.power, config.acc), raiser(1 / config.power, config.acc)
    place, window = place_of(config.index), window_of(config.index)
    count = count_of(config.index, config.acc)

    def pool_window_powers(g, x, y, sums):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.elements:
            return
        n, c, z, p, q = place(i, g.channels, g.out_d, g.out_h, g.out_w, g.channels_last)
        d0, d1 = window(z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.windows_d)
        h0, h1 = window(p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.windows_h)
        w0, w1 = window(q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.windows_w)
        plane = index(n * g.source_n + c * g.source_c)
        total = acc(0)
        for d in range(d0, d1, g.dilation_d):
            for h in range(h0, h1, g.dilation_h):
                for w in range(w0, w1, g.dilation_w):
                    at = index(plane + d * g.source_d + h * g.source_h + w * g.source_w)
                    total += raised(load(x, at))
        if g.divisor == 0:
            counted = count(
                z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.beyond_d,
                g.windows_d, g.padded,
            ) * count(
                p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.beyond_h,
                g.windows_h, g.padded,
            ) * count(
                q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.beyond_w,
                g.windows_w, g.padded,
            )  # fmt: skip
            total = total / counted * acc(index(g.taps_d * g.taps_h * g.taps_w))
        if g.indices != 0:
            sums[i] = total
        store(y, i, root(total))

    return pool_window_powers


@kernel(POOL, threads=THREADS, registers={"f32": 80, "f64": 96})
def pool_window_powers_backward(config):
    """The slope of each root by the power's slope; of a sum of 0 it is 0."""
    index, acc = number_type(config.index), number_type(config.acc)
    load_y, load_x, store = (
        loader(config.pointers[0], config.acc),
        loader(config.pointers[2], config.acc),
        storer(config.pointers[3]),
    )
    power = config.power
    root = raiser(1 / power, config.acc)
    first = power == 1
    slope_at_infinity = math.inf if 0 < power < 1 else 0.0
    raised = raiser(1 if first else power - 1, config.acc)
    place, holders = place_of(config.index), holders_of(config.index)
    count, visited = count_of(config.index, config.acc), visited_of(config.index)

    @inlined
    def slope(total):
        if first:
            found = acc(1)
            if total != total:
                found = acc(0)
        else:
            found = root(total) / total
            if abs(total) == acc(math.inf):
                found = acc(slope_at_infinity)
        return found

    def pool_window_powers_backward(g, y, sums, x, target):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.elements:
            return
        n, c, d, h, w = place(i, g.channels, g.size_d, g.size_h, g.size_w, g.channels_last)
        z0, z1 = holders(
            d, g.size_d, g.out_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.windows_d
        )
        p0, p1 = holders(
            h, g.size_h, g.out_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.windows_h
        )
        q0, q1 = holders(
            w, g.size_w, g.out_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.windows_w
        )
        plane = index(n * g.source_n + c * g.source_c)
        scale = acc(index(g.taps_d * g.taps_h * g.taps_w))
        total = acc(0)
        for z in range(z0, z1):
            if visited(d, z, g.stride_d, g.dilation_d, g.pad_d):
                for p in range(p0, p1):
                    if visited(h, p, g.stride_h, g.dilation_h, g.pad_h):
                        for q in range(q0, q1):
                            if visited(w, q, g.stride_w, g.dilation_w, g.pad_w):
                                at = plane + z * g.source_d + p * g.source_h + q * g.source_w
                                whole = sums[index(at)]
                                share = load_y(y, index(at)) * slope(whole)
                                if g.divisor == 0:
                                    counted = count(
                                        z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d,
                                        g.beyond_d, g.windows_d, g.padded,
                                    ) * count(
                                        p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h,
                                        g.beyond_h, g.windows_h, g.padded,
                                    ) * count(
                                        q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w,
                                        g.beyond_w, g.windows_w, g.padded,
                                    )  # fmt: skip
                                    share = share * scale / counted
                                if whole != 0:
                                    total += share
        if not first:
            total *= raised(load_x(x, i))
        store(target, i, total)

    return pool_window_powers_backward


def powers_program(problem: PoolProblem, power: float, *, keeps_sums: bool) -> Program:
    """From ``x`` to ``y`` and ``sums``; backward from ``y``, ``sums`` and ``x`` to ``dx``.

    The problem is the average of the powers, with the divisor 1 for their sum, or none for the
    mean scaled up to a whole window. Sums are in its accumulator's type.

    Raises:
        TypeError: Elements that have no powers here.
    """
    dtype = problem.x.dtype
    if dtype not in FLOATS:
        raise TypeError(f"powers of {dtype}: {', '.join(FLOATS)} only")
    x, acc = dtype.value, dtype.accumulator.value
    backward = problem.direction is Direction.DGRAD
    elements = prod(problem.x_shape if backward else problem.y_shape)
    config = PowerConfig(
        index_of(problem),
        acc,
        (x, acc, x, x) if backward else (x, x, acc),
        float(power),
    )
    step = Step(
        name="powers",
        kernel=KernelRef(pool_window_powers_backward if backward else pool_window_powers, config),
        operands=("y", "sums", "x", "dx") if backward else ("x", "y", "sums"),
        constants=pack_pool(problem, config.index, indices=keeps_sums),
        tasks=-(-elements // THREADS),
        cost=Cost(flops=2 * problem.flops, bytes=problem.bytes + prod(problem.y_shape) * 4),
    )
    return Program(steps=(step,))
