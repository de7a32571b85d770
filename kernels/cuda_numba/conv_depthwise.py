"""Depthwise convolution: a thread makes a column of outputs from each pixel it loads.

Computes: fprop of one input channel a group, any number of outputs of each; dgrad with stride 1 and
    one output of each. One and two axes; filters of up to 11 rows and any number of columns, row
    strides 1 and 2, no dilation of rows; zero padding.
Layout: channels first and last, read in place.
Accumulates: in float32 (float16, bfloat16, float32) or float64; one sum an output, by columns.
Good at: small filters of stride 1, where an output costs little more than the memory it takes.
Bad at: large filters, which it reads from the cache for every column of outputs.

Neighbouring threads have what is neighbouring in memory, channels or columns of pixels, so that
both orders are read and written in whole lines. See docs/algorithms/conv_depthwise.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
from convforge.kernels.cuda_numba._element import (
    FLOATS,
    LOAD_COST,
    Types,
    divider,
    loader,
    number_type,
)
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._geometry import index_of, named, steps, three_axes
from convforge.problem import ConvProblem, Direction, DType, Order, PadMode, Problem
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
STRIP = 4
"""Outputs of a thread, one below the other: 6 rows of a 3x3 filter's input serve 4 rows of it."""
MOST_ROWS = 11
"""Of a filter: the loops over them are unrolled, and the weights of a column are in registers."""

DEPTHWISE = Constants(
    "Depthwise",
    "strips rows channels channels_last multiplier strips_a_column post accumulate "
    "target_W target_n target_c target_h target_w "
    "source_H source_W source_n source_c source_h source_w "
    "S weight_k weight_r weight_s weight_first stride_w dilation_w pad_h pad_w",
)


@dataclass(frozen=True, slots=True)
class DepthwiseConfig(Types):
    """Rows of the filter and their stride besides the types: what the loops are unrolled for."""

    R: int
    stride_h: int


@kernel(DEPTHWISE, threads=THREADS, registers={"f32": 96, "f64": 128})
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
        filters = index(k * g.weight_k + g.weight_first)

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
        if problem.direction is Direction.WGRAD:
            return Rejected("wgrad: fprop and dgrad only")
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
        _, rows, columns = three_axes(problem.axes)
        if rows.dilation > 1 or rows.filter > MOST_ROWS or rows.stride > 2:
            return Rejected(
                f"{rows.filter} rows {rows.dilation} apart, stride {rows.stride}: at most "
                f"{MOST_ROWS} adjacent rows, stride 1 or 2"
            )
        strided = rows.stride > 1 or columns.stride > 1
        if problem.direction is Direction.DGRAD and (problem.group_K > 1 or strided):
            return Rejected("dgrad: one output a group and stride 1 only")
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[DepthwiseConfig]:
        """The types and the rows of the filter."""
        assert isinstance(problem, ConvProblem)
        x, w, y = (operand.dtype.value for operand in (problem.x, problem.w, problem.y))
        source, target = (x, y) if problem.direction is Direction.FPROP else (y, x)
        pointers = (source, w, target, target, target)
        _, rows, _ = three_axes(problem.axes)
        index = index_of(problem)
        yield DepthwiseConfig(index, problem.acc.value, pointers, rows.filter, rows.stride)

    def weight_format(self, problem: Problem, config: DepthwiseConfig) -> WeightFormat | None:
        """Reads plain weights."""
        return None

    def program(self, problem: Problem, config: DepthwiseConfig, machine: Machine) -> Program:
        """One launch."""
        assert isinstance(problem, ConvProblem)
        fprop = problem.direction is Direction.FPROP
        _, rows, columns = three_axes(problem.axes)
        source_n, source_c, _, source_h, source_w = steps(
            problem.x.order, problem.N, problem.C, problem.size
        )
        target_n, target_c, _, target_h, target_w = steps(
            problem.y.order, problem.N, problem.K, problem.out
        )
        weight_k, _, _, weight_r, weight_s = steps(problem.w.order, problem.K, 1, problem.filter)
        sizes = [(1, *problem.size)[-2:], (1, *problem.out)[-2:]]
        weight_first, pads = 0, (rows.pad_lo, columns.pad_lo)
        source = source_n, source_c, source_h, source_w
        target = target_n, target_c, target_h, target_w
        order = problem.y.order
        if not fprop:
            # The same with the filter turned round, from the other side of the padding.
            source, target, order = target, source, problem.x.order
            sizes.reverse()
            weight_first = (rows.filter - 1) * weight_r + (columns.filter - 1) * weight_s
            weight_r, weight_s = -weight_r, -weight_s
            pads = rows.extent - 1 - rows.pad_lo, columns.extent - 1 - columns.pad_lo
        (source_H, source_W), (target_H, target_W) = sizes
        strips_a_column = -(-target_H // STRIP)
        strips = problem.N * problem.K * strips_a_column * target_W
        constants = DEPTHWISE.pack(
            config.index,
            strips=strips,
            rows=target_H,
            channels=problem.K,
            channels_last=order is Order.CHANNELS_LAST,
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
            weight_first=weight_first,
            stride_w=columns.stride,
            dilation_w=columns.dilation,
            pad_h=pads[0],
            pad_w=pads[1],
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
                *(("x", "w", "y") if fprop else ("y", "w", "x")),
                *(op if op in problem.post else "" for op in ("bias", "residual")),
            ),
            constants=constants,
            tasks=-(-strips // THREADS),
            cost=Cost(flops=round(problem.flops * loads / products), bytes=problem.bytes),
        )
        return Program(steps=(step,))


ALGORITHMS = (ConvDepthwise(),)
