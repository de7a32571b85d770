"""Depthwise convolution: a thread makes a column of outputs from each pixel it loads.

Computes: fprop, dgrad and wgrad of one input channel a group, any number of outputs of each. One
    and two axes; filters of up to 11 rows and any number of columns, row strides up to 4, no
    dilation of rows; zero padding.
Layout: channels first and last, read in place.
Accumulates: in float32 (float16, bfloat16, float32) or float64; one sum an output, by columns;
    wgrad partial sums, added in a fixed order that the problem decides. No atomics.
Good at: small filters of stride 1, where an output costs little more than the memory it takes.
Bad at: large filters, which it reads from the cache for every column of outputs.

Neighbouring threads have what is neighbouring in memory, channels or columns of pixels, so that
both orders are read and written in whole lines. See docs/algorithms/conv_depthwise.md.
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
from convforge.kernels.cuda_numba._depthwise_dgrad import spread_step
from convforge.kernels.cuda_numba._depthwise_wgrad import most_splits, row_sums_program
from convforge.kernels.cuda_numba._element import (
    FLOATS,
    LOAD_COST,
    divider,
    loader,
    number_type,
)
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._geometry import index_of, named, steps, three, three_axes
from convforge.kernels.cuda_numba._rows import (
    MOST_ROWS,
    MOST_STRIDE,
    STRIP,
    THREADS,
    RowsConfig,
)
from convforge.problem import ConvProblem, Direction, DType, Order, PadMode, Problem
from convforge.runtime.cuda.jit import Constants, fits_int32, kernel

DEPTHWISE = Constants(
    "Depthwise",
    "strips rows channels channels_last multiplier strips_a_column post accumulate "
    "target_W target_n target_c target_h target_w "
    "source_H source_W source_n source_c source_h source_w "
    "S weight_k weight_r weight_s stride_w dilation_w pad_h pad_w",
)


@dataclass(frozen=True, slots=True)
class SumsConfig(RowsConfig):
    """Of wgrad: blocks that share a filter's pixels; no kernel is compiled for their number."""

    splits: int


@kernel(DEPTHWISE, threads=THREADS, registers={"f32": 112, "f64": 128})
def conv_depthwise_columns(config):
    """STRIP outputs below one another: every loaded pixel goes to those it is a factor of."""
    source_dtype, weight_dtype, target_dtype, *_ = config.pointers
    index, acc = number_type(config.index), number_type(config.acc)
    load_source, load_weight = (loader(d, config.acc) for d in (source_dtype, weight_dtype))
    finish, divide = finisher(target_dtype, config.acc), divider(config.index)
    R, stride_h = config.R, config.stride_h
    met = (STRIP - 1) * stride_h + R

    def conv_depthwise_columns(g, source, weight, target, bias, residual):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.strips:
            return
        rest, k = i, index(0)
        if g.channels_last != 0:
            rest, k = divide(rest, g.channels)
        rest, q = divide(rest, g.target_W)
        n, strip = divide(rest, g.strips_a_column)
        if g.channels_last == 0:
            n, k = divide(n, g.channels)
        c, _ = divide(k, g.multiplier)
        first_p = index(strip * STRIP)
        first_h = index(first_p * stride_h - g.pad_h)
        plane = index(n * g.source_n + c * g.source_c)
        filters = index(k * g.weight_k)

        sums = cuda.local.array(STRIP, acc)
        factors = cuda.local.array(R, acc)
        for j in range(STRIP):
            sums[j] = acc(0)
        for s in range(g.S):
            w = index(q * g.stride_w + s * g.dilation_w - g.pad_w)
            column = index(plane + w * g.source_w)
            inside = w >= 0 and w < g.source_W
            for r in range(R):
                factors[r] = load_weight(weight, index(filters + r * g.weight_r + s * g.weight_s))
            for row in range(met):
                h = index(first_h + row)
                value = acc(0)
                if inside and h >= 0 and h < g.source_H:
                    value = load_source(source, index(column + h * g.source_h))
                for j in range(STRIP):
                    r = row - j * stride_h
                    if r >= 0 and r < R:
                        sums[j] += value * factors[r]

        finished = cuda.shared.array((STRIP, THREADS), acc)
        for j in range(STRIP):
            finished[j, cuda.threadIdx.x] = sums[j]
        place = index(n * g.target_n + k * g.target_c + q * g.target_w)
        for j in range(min(index(STRIP), index(g.rows - first_p))):
            at = index(place + (first_p + j) * g.target_h)
            total = finished[j, cuda.threadIdx.x]
            finish(total, g.post, g.accumulate, target, at, bias, k, residual)

    return conv_depthwise_columns


class ConvDepthwise:
    """The algorithm ``cuda_numba.conv_depthwise``."""

    name = "cuda_numba.conv_depthwise"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """One input channel a group, on one or two axes."""
        if not isinstance(problem, ConvProblem):
            return Rejected("a convolution algorithm; this is a pooling")
        if problem.group_C != 1:
            return Rejected(f"{problem.group_C} input channels a group: one only")
        dtypes = {problem.x.dtype, problem.w.dtype, problem.y.dtype}
        if not dtypes <= set(FLOATS) or problem.acc not in (DType.F32, DType.F64):
            return Rejected(f"types {'/'.join(sorted(dtypes))}: {', '.join(FLOATS)} only")
        if problem.rank == 3:
            return Rejected("three axes: one or two only")
        if any(axis.pad_mode is not PadMode.ZEROS for axis in problem.axes):
            return Rejected("padding with zeros only")
        if 0 in problem.x_shape or 0 in problem.w_shape or 0 in problem.y_shape:
            return Rejected("nothing to multiply: an extent is zero")
        _, rows, _ = three_axes(problem.axes)
        if rows.dilation > 1 or rows.filter > MOST_ROWS or rows.stride > MOST_STRIDE:
            return Rejected(
                f"{rows.filter} rows {rows.dilation} apart, stride {rows.stride}: at most "
                f"{MOST_ROWS} adjacent rows, strides up to {MOST_STRIDE}"
            )
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[RowsConfig]:
        """The types and the rows of the filter; of wgrad as many partial sums as may be."""
        assert isinstance(problem, ConvProblem)
        x, w, y = (operand.dtype.value for operand in (problem.x, problem.w, problem.y))
        _, rows, _ = three_axes(problem.axes)
        index, acc = index_of(problem), problem.acc.value
        if problem.direction is Direction.WGRAD:
            splits = most_splits(problem, workspace_limit)
            if splits:
                index = fits_int32(splits * prod(problem.w_shape)) if index == "i32" else index
                yield SumsConfig(index, acc, (x, y, acc), rows.filter, rows.stride, splits)
            return
        source, target = (x, y) if problem.direction is Direction.FPROP else (y, x)
        pointers = (source, w, target, target, target)
        yield RowsConfig(index, acc, pointers, rows.filter, rows.stride)

    def weight_format(self, problem: Problem, config: RowsConfig) -> WeightFormat | None:
        """Reads plain weights."""
        return None

    def program(self, problem: Problem, config: RowsConfig, machine: Machine) -> Program:
        """One launch; of wgrad a second one, which adds partial sums."""
        assert isinstance(problem, ConvProblem)
        if isinstance(config, SumsConfig):
            kernel_config = RowsConfig(
                config.index, config.acc, config.pointers, config.R, config.stride_h
            )
            return row_sums_program(problem, kernel_config, config.splits)
        if problem.direction is Direction.DGRAD:
            return Program(steps=(spread_step(problem, config),))
        _, rows, columns = three_axes(problem.axes)
        x = steps(problem.x.order, problem.N, problem.C, problem.size)
        y = steps(problem.y.order, problem.N, problem.K, problem.out)
        weight_k, _, _, weight_r, weight_s = steps(problem.w.order, problem.K, 1, problem.filter)
        source, target = (x[0], x[1], x[3], x[4]), (y[0], y[1], y[3], y[4])
        (_, source_H, source_W), (_, target_H, target_W) = map(three, (problem.size, problem.out))
        strips_a_column = -(-target_H // STRIP)
        strips = problem.N * problem.K * strips_a_column * target_W
        constants = DEPTHWISE.pack(
            config.index,
            strips=strips,
            rows=target_H,
            channels=problem.K,
            channels_last=problem.y.order is Order.CHANNELS_LAST,
            multiplier=problem.group_K,
            strips_a_column=strips_a_column,
            post=post_code(problem),
            accumulate=problem.accumulate,
            target_W=target_W,
            source_H=source_H,
            source_W=source_W,
            S=columns.filter,
            weight_k=weight_k,
            weight_r=weight_r,
            weight_s=weight_s,
            stride_w=columns.stride,
            dilation_w=columns.dilation,
            pad_h=rows.pad_lo,
            pad_w=columns.pad_lo,
            **named("target_n target_c target_h target_w", target),
            **named("source_n source_c source_h source_w", source),
        )
        # A multiprocessor loads a quarter of what it multiplies.
        loads = LOAD_COST * ((STRIP - 1) * config.stride_h + 2 * config.R)
        products = STRIP * config.R
        step = Step(
            name="multiply",
            kernel=KernelRef(conv_depthwise_columns, config),
            operands=(
                "x",
                "w",
                "y",
                *(op if op in problem.post else "" for op in ("bias", "residual")),
            ),
            constants=constants,
            tasks=-(-strips // THREADS),
            cost=Cost(flops=round(problem.flops * max(1, loads / products)), bytes=problem.bytes),
        )
        return Program(steps=(step,))


ALGORITHMS = (ConvDepthwise(),)
