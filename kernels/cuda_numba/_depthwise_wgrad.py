"""The gradient of a depthwise layer's filters: partial sums of pixels, added in a fixed order.

A thread sums a filter column's R rows over every so many-th strip of dy; neighbouring threads have
what is neighbouring in memory, channels or columns of pixels. A block adds its threads' sums by
halves in shared memory, and writes them to a scratch buffer; a second launch adds the blocks'.
How many blocks share the pixels depends on the problem alone.
"""

from __future__ import annotations

from math import prod

from numba import cuda

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cuda_numba._element import (
    LOAD_COST,
    divider,
    loader,
    number_type,
)
from convforge.kernels.cuda_numba._geometry import named, steps, three, three_axes
from convforge.kernels.cuda_numba._rows import STRIP, THREADS, RowsConfig
from convforge.kernels.cuda_numba._totals import totals_step
from convforge.problem import ConvProblem, Order
from convforge.runtime.cuda.jit import Constants, kernel

_FEWEST = 8
"""Strips of a thread: fewer are not worth another partial sum."""
_MOST_SPLITS = 256

ROW_SUMS = Constants(
    "RowSums",
    "items splits share channel_blocks wide lanes filters multiplier P Q strips_a_column "
    "y_n y_k y_p y_q H W x_n x_c x_h x_w S stride_w dilation_w pad_h pad_w weights w_k w_r w_s",
)


@kernel(ROW_SUMS, threads=THREADS, registers={"f32": 120, "f64": 144})
def conv_depthwise_row_sums(config):
    """Partial sums ``[split, weight]`` of dy times x; weights in their own memory order."""
    index, acc = number_type(config.index), number_type(config.acc)
    load_x, load_y = (loader(dtype, config.acc) for dtype in config.pointers[:2])
    divide = divider(config.index)
    R, stride_h = config.R, config.stride_h
    met = (STRIP - 1) * stride_h + R

    def conv_depthwise_row_sums(g, x, y, partial):
        rest, s = divide(index(cuda.blockIdx.x), g.S)
        split, channel_block = divide(rest, g.channel_blocks)
        thread = index(cuda.threadIdx.x)
        lane, offset = divide(thread, g.wide)
        k = index(channel_block * g.wide + offset)
        sums = cuda.local.array(R, acc)
        factors = cuda.local.array(STRIP, acc)
        for r in range(R):
            sums[r] = acc(0)
        if k < g.filters:
            c, _ = divide(k, g.multiplier)
            end = min(index(split * g.share + g.share), g.items)
            for item in range(split * g.share + lane, end, g.lanes):
                rest, q = divide(index(item), g.Q)
                n, strip = divide(rest, g.strips_a_column)
                first_p = index(strip * STRIP)
                w = index(q * g.stride_w + s * g.dilation_w - g.pad_w)
                if w >= 0 and w < g.W:
                    column = index(n * g.y_n + k * g.y_k + q * g.y_q)
                    for j in range(STRIP):
                        value = acc(0)
                        p = index(first_p + j)
                        if p < g.P:
                            value = load_y(y, index(column + p * g.y_p))
                        factors[j] = value
                    column = index(n * g.x_n + c * g.x_c + w * g.x_w)
                    first_h = index(first_p * stride_h - g.pad_h)
                    for row in range(met):
                        h = index(first_h + row)
                        value = acc(0)
                        if h >= 0 and h < g.H:
                            value = load_x(x, index(column + h * g.x_h))
                        for j in range(STRIP):
                            r = row - j * stride_h
                            if r >= 0 and r < R:
                                sums[r] += value * factors[j]

        shared = cuda.shared.array((R, THREADS), acc)
        for r in range(R):
            shared[r, thread] = sums[r]
        half = index(THREADS // 2)
        while half >= g.wide:
            cuda.syncthreads()
            if thread < half:
                for r in range(R):
                    shared[r, thread] += shared[r, thread + half]
            half = index(half >> 1)
        if thread < g.wide and k < g.filters:
            for r in range(R):
                at = index(split * g.weights + k * g.w_k + r * g.w_r + s * g.w_s)
                partial[at] = shared[r, thread]

    return conv_depthwise_row_sums


def _lanes(problem: ConvProblem) -> tuple[int, int]:
    """Threads of a block side by side in channels, and those that share each one's pixels."""
    wide = 1
    if problem.x.order is Order.CHANNELS_LAST and problem.y.order is Order.CHANNELS_LAST:
        while wide < min(problem.K, 32):
            wide *= 2
    return wide, THREADS // wide


def _items(problem: ConvProblem) -> int:
    _, P, Q = three(problem.out)
    return problem.N * -(-P // STRIP) * Q


def most_splits(problem: ConvProblem, workspace_limit: int) -> int:
    """Blocks that share the pixels of a filter; 0 where not even one's sums fit the limit."""
    one = prod(problem.w_shape) * problem.acc.itemsize
    wanted = max(1, min(_MOST_SPLITS, _items(problem) // (_lanes(problem)[1] * _FEWEST)))
    # Buffers end on lines of 64 bytes.
    return min(wanted, workspace_limit // 64 * 64 // one)


def row_sums_program(problem: ConvProblem, config: RowsConfig, splits: int) -> Program:
    """The two launches that write dw."""
    _, rows, columns = three_axes(problem.axes)
    _, P, Q = three(problem.out)
    _, H, W = three(problem.size)
    x_n, x_c, _, x_h, x_w = steps(problem.x.order, problem.N, problem.C, problem.size)
    y_n, y_k, _, y_p, y_q = steps(problem.y.order, problem.N, problem.K, problem.out)
    w_k, _, _, w_r, w_s = steps(problem.w.order, problem.K, 1, problem.filter)
    wide, lanes = _lanes(problem)
    items, channel_blocks = _items(problem), -(-problem.K // wide)
    weights = prod(problem.w_shape)
    constants = ROW_SUMS.pack(
        config.index,
        items=items,
        splits=splits,
        share=-(-items // splits),
        channel_blocks=channel_blocks,
        wide=wide,
        lanes=lanes,
        filters=problem.K,
        multiplier=problem.group_K,
        strips_a_column=-(-P // STRIP),
        S=columns.filter,
        stride_w=columns.stride,
        dilation_w=columns.dilation,
        pad_h=rows.pad_lo,
        pad_w=columns.pad_lo,
        weights=weights,
        **named("w_k w_r w_s", (w_k, w_r, w_s)),
        **named("P Q H W", (P, Q, H, W)),
        **named("y_n y_k y_p y_q", (y_n, y_k, y_p, y_q)),
        **named("x_n x_c x_h x_w", (x_n, x_c, x_h, x_w)),
    )
    partial_bytes = splits * weights * problem.acc.itemsize
    # A multiprocessor loads a quarter of what it multiplies.
    loads = LOAD_COST * ((STRIP - 1) * rows.stride + config.R + STRIP)
    sums = Step(
        name="multiply",
        kernel=KernelRef(conv_depthwise_row_sums, config),
        operands=("x", "y", "partial"),
        constants=constants,
        tasks=splits * channel_blocks * columns.filter,
        cost=Cost(
            flops=round(problem.flops * max(1, loads / (STRIP * config.R))),
            bytes=problem.bytes + partial_bytes,
        ),
    )
    totals, buffer = totals_step(problem, config.index, splits)
    return Program(steps=(sums, totals), buffers=(buffer,))
