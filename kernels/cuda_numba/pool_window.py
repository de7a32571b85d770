"""Pooling by its definition: a thread for each element of what is written.

Computes: max with and without indices, average and adaptive windows, forward and backward, one to
    three axes; any stride, dilation, padding, ceil_mode, divisor.
Layout: channels first and last in place.
Accumulates: averages in float32 (float16, bfloat16, float32) or float64, taps in row-major order;
    gradients window by window, in order. No atomics.
Good at: windows of a few taps, which memory bounds. Bad at: windows as large as the image, which
    leave most of the device idle.

Neighbouring threads write neighbouring elements, and read such, whichever axis is the innermost.
The way back asks every element of x which windows hold it: the sum of each is in one thread, and
its order is always the same. See docs/algorithms/pool_window.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from numba import cuda

from convforge.contract import (
    Cost,
    KernelRef,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cuda_numba._element import FLOATS, Types, number_type
from convforge.kernels.cuda_numba._geometry import index_of
from convforge.kernels.cuda_numba._pool_backward import (
    pool_window_max_backward,
    pool_window_mean_backward,
)
from convforge.kernels.cuda_numba._wide import LANES, is_wide, wide_access
from convforge.kernels.cuda_numba._windows import (
    POOL,
    REGISTERS,
    THREADS,
    count_of,
    pack_pool,
    place_of,
    window_of,
)
from convforge.problem import Direction, DType, Order, PoolKind, PoolProblem, Problem
from convforge.runtime.cuda.jit import kernel

_WHOLE = (DType.I8, DType.U8, DType.I16, DType.I32, DType.I64)


@kernel(POOL, threads=THREADS, registers=REGISTERS | {"f32": 56})
def pool_window_max(config):
    """The largest element of a window, the first of equals, the last NaN; and where it is."""
    index, acc, lanes = number_type(config.index), number_type(config.acc), config.lanes
    aligned, load, store = wide_access(config.pointers[0], config.acc, lanes)
    place, window = place_of(config.index), window_of(config.index)

    def pool_window_max(g, x, y, indices):
        i = index((cuda.blockIdx.x * THREADS + cuda.threadIdx.x) * lanes)
        if i >= g.elements:
            return
        whole = aligned(x)
        n, c, z, p, q = place(i, g.channels, g.out_d, g.out_h, g.out_w, g.channels_last)
        d0, d1 = window(z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.windows_d)
        h0, h1 = window(p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.windows_h)
        w0, w1 = window(q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.windows_w)
        plane = index(n * g.source_n + c * g.source_c)
        largest, seen = cuda.local.array(lanes, acc), cuda.local.array(lanes, acc)
        at = cuda.local.array(lanes, index)
        first = index(plane + d0 * g.source_d + h0 * g.source_h + w0 * g.source_w)
        load(x, first, whole, largest)
        for lane in range(lanes):
            at[lane] = index((d0 * g.size_h + h0) * g.size_w + w0)
        for d in range(d0, d1, g.dilation_d):
            for h in range(h0, h1, g.dilation_h):
                for w in range(w0, w1, g.dilation_w):
                    there = index(plane + d * g.source_d + h * g.source_h + w * g.source_w)
                    load(x, there, whole, seen)
                    for lane in range(lanes):
                        if seen[lane] > largest[lane] or seen[lane] != seen[lane]:
                            largest[lane] = seen[lane]
                            at[lane] = index((d * g.size_h + h) * g.size_w + w)
        store(y, i, aligned(y), largest)
        if g.indices != 0:
            for lane in range(lanes):
                indices[i + lane] = at[lane]

    return pool_window_max


@kernel(POOL, threads=THREADS, registers=REGISTERS)
def pool_window_mean(config):
    """The sum of a window over how many elements it counts."""
    index, acc, lanes = number_type(config.index), number_type(config.acc), config.lanes
    aligned, load, store = wide_access(config.pointers[0], config.acc, lanes)
    place, window = place_of(config.index), window_of(config.index)
    count = count_of(config.index, config.acc)

    def pool_window_mean(g, x, y):
        i = index((cuda.blockIdx.x * THREADS + cuda.threadIdx.x) * lanes)
        if i >= g.elements:
            return
        whole = aligned(x)
        n, c, z, p, q = place(i, g.channels, g.out_d, g.out_h, g.out_w, g.channels_last)
        d0, d1 = window(z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.windows_d)
        h0, h1 = window(p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.windows_h)
        w0, w1 = window(q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.windows_w)
        plane = index(n * g.source_n + c * g.source_c)
        totals, seen = cuda.local.array(lanes, acc), cuda.local.array(lanes, acc)
        for lane in range(lanes):
            totals[lane] = acc(0)
        for d in range(d0, d1, g.dilation_d):
            for h in range(h0, h1, g.dilation_h):
                for w in range(w0, w1, g.dilation_w):
                    there = index(plane + d * g.source_d + h * g.source_h + w * g.source_w)
                    load(x, there, whole, seen)
                    for lane in range(lanes):
                        totals[lane] += seen[lane]
        divisor = acc(g.divisor)
        if g.divisor == 0:
            divisor = count(
                z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.beyond_d,
                g.windows_d, g.padded,
            ) * count(
                p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.beyond_h,
                g.windows_h, g.padded,
            ) * count(
                q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.beyond_w,
                g.windows_w, g.padded,
            )  # fmt: skip
        for lane in range(lanes):
            totals[lane] = totals[lane] / divisor
        store(y, i, aligned(y), totals)

    return pool_window_mean


@dataclass(frozen=True, slots=True)
class WindowConfig(Types):
    """Channels of a thread of the way forward, besides the types: four where 16 bytes are."""

    lanes: int


class PoolWindow:
    """The algorithm ``cuda_numba.pool_window``."""

    name = "cuda_numba.pool_window"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits()

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any pooling of floats; forward maxima of integers too."""
        if not isinstance(problem, PoolProblem):
            return Rejected("a pooling algorithm; this is a convolution")
        dtype = problem.x.dtype
        ordered = problem.kind is PoolKind.MAX and problem.direction is Direction.FPROP
        if dtype not in FLOATS and not (ordered and dtype in _WHOLE):
            return Rejected(
                f"{problem.kind} {problem.direction} of {dtype}: {', '.join(FLOATS)} only"
            )
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[WindowConfig]:
        """The types, and how many channels a thread has."""
        assert isinstance(problem, PoolProblem)
        x = problem.x.dtype.value
        acc = problem.x.dtype.accumulator.value
        pointers: tuple[str, ...] = (x, x)
        if problem.kind is PoolKind.MAX:
            backward = problem.direction is Direction.DGRAD
            pointers = (x, "i64", x) if backward else (x, x, "i64")
        forward = problem.direction is Direction.FPROP
        last = problem.x.order is Order.CHANNELS_LAST
        wide = forward and is_wide(x, problem.C, channels_last=last)
        yield WindowConfig(index_of(problem), acc, pointers, LANES if wide else 1)

    def weight_format(self, problem: Problem, config: WindowConfig) -> WeightFormat | None:
        """There are no weights."""
        return None

    def program(self, problem: Problem, config: WindowConfig, machine: Machine) -> Program:
        """One launch."""
        assert isinstance(problem, PoolProblem)
        backward = problem.direction is Direction.DGRAD
        if problem.kind is PoolKind.MAX:
            function = pool_window_max_backward if backward else pool_window_max
            operands: tuple[str, ...] = ("x", "y", "indices" if problem.indices else "")
            if backward:
                operands = ("y", "indices", "x")
        else:
            function = pool_window_mean_backward if backward else pool_window_mean
            operands = ("y", "x") if backward else ("x", "y")
        elements = prod(problem.x_shape if backward else problem.y_shape)
        step = Step(
            name="windows",
            kernel=KernelRef(function, config),
            operands=operands,
            constants=pack_pool(problem, config.index, indices=problem.indices),
            tasks=-(-elements // (THREADS * config.lanes)),
            cost=Cost(flops=problem.flops, bytes=problem.bytes),
        )
        return Program(steps=(step,))


ALGORITHMS = (PoolWindow(),)
