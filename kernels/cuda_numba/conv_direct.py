"""Direct convolution: a thread sums a few pixels by a few channels in registers.

Computes: fprop, dgrad and wgrad of one to three axes; any stride, dilation, groups, padding and
    pad mode, empty operands too. Every post op, in any order.
Layout: channels first and last, each operand in its own, read in place.
Accumulates: in float32 (float16, bfloat16, float32) or float64; one sum an output over taps, then
    channels; wgrad one sum a thread over every 128th pixel, added in a fixed order. No atomics.
Good at: being right for every problem. Bad at: dense layers of many channels, whose operands it
    reads from the cache for every few multiplications; wgrad of few weights.

Neighbouring threads have neighbouring pixels, so that images are read and written in whole lines
where channels come first, and by the sector where they come last; all of them read the same
weights. See docs/algorithms/conv_direct.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from convforge.kernels.cuda_numba._borders import fold_step, is_bordered, unpadded
from convforge.kernels.cuda_numba._element import (
    FLOATS,
    LOAD_COST,
    Types,
    divider,
    loader,
    number_type,
)
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._geometry import (
    gather_windows,
    index_of,
    named,
    source_of,
    steps,
    three,
)
from convforge.kernels.cuda_numba._outer import outer_step
from convforge.problem import ConvProblem, Direction, DType, Problem
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
PIXELS = 4
"""Of a thread, a block's width apart. Each weight that is read serves so many multiplications."""
OUTPUTS = 8
"""Channels of a thread. With PIXELS, 32 sums: 12 loads for 32 multiplications, and no spills."""

GATHER = Constants(
    "Gather",
    "pixels pixel_blocks out_blocks group_in group_out post accumulate "
    "target_D target_H target_W target_n target_c target_d target_h target_w "
    "source_D source_H source_W source_n source_c source_d source_h source_w "
    "T R S weight_group weight_out weight_in weight_t weight_r weight_s "
    "up_d tap_d start_d down_d mode_d up_h tap_h start_h down_h mode_h "
    "up_w tap_w start_w down_w mode_w",
)


@dataclass(frozen=True, slots=True)
class GatherConfig(Types):
    """Channels of a thread besides the types: one where groups have no more."""

    outputs: int


@kernel(GATHER, threads=THREADS, registers={"f32": 120, "f64": 152})
def conv_direct_gather(config):
    """Sums over filter taps and channels: fprop from x to y, dgrad from dy to dx."""
    source_dtype, weight_dtype, target_dtype, *_ = config.pointers
    index, acc = number_type(config.index), number_type(config.acc)
    load_source, load_weight = (loader(d, config.acc) for d in (source_dtype, weight_dtype))
    finish, divide = finisher(target_dtype, config.acc), divider(config.index)
    source_at = source_of(config.index)
    outputs = config.outputs
    sums_of_a_thread = PIXELS * outputs

    def conv_direct_gather(g, source, weight, target, bias, residual):
        rest, block = divide(index(cuda.blockIdx.x), g.pixel_blocks)
        first_pixel = index(block * (PIXELS * THREADS) + cuda.threadIdx.x)
        if first_pixel >= g.pixels:
            return
        group, out_block = divide(rest, g.out_blocks)
        first_out = index(out_block * outputs)

        images = cuda.local.array(PIXELS, index)
        corners = cuda.local.array((PIXELS, 3), index)
        places = cuda.local.array(PIXELS, index)
        for i in range(PIXELS):
            rest, w = divide(index(first_pixel + i * THREADS), g.target_W)
            rest, h = divide(rest, g.target_H)
            n, d = divide(rest, g.target_D)
            images[i] = n
            corners[i, 0] = index(d * g.up_d + g.start_d)
            corners[i, 1] = index(h * g.up_h + g.start_h)
            corners[i, 2] = index(w * g.up_w + g.start_w)
        # Beyond the group's last channel the last one is computed again, and not stored.
        rows = cuda.local.array(outputs, index)
        for k in range(outputs):
            out = min(index(first_out + k), index(g.group_out - 1))
            rows[k] = index(group * g.weight_group + out * g.weight_out)
        sums = cuda.local.array((PIXELS, outputs), acc)
        values = cuda.local.array(PIXELS, acc)
        for i in range(PIXELS):
            for k in range(outputs):
                sums[i, k] = acc(0)

        for t in range(g.T):
            for r in range(g.R):
                for s in range(g.S):
                    for i in range(PIXELS):
                        d = index(corners[i, 0] + t * g.tap_d)
                        h = index(corners[i, 1] + r * g.tap_h)
                        w = index(corners[i, 2] + s * g.tap_w)
                        found = index(first_pixel + i * THREADS) < g.pixels
                        if g.down_d > 1:
                            quotient, rest = divide(max(d, index(0)), g.down_d)
                            found = found and d >= 0 and rest == 0
                            d = quotient
                        if g.down_h > 1:
                            quotient, rest = divide(max(h, index(0)), g.down_h)
                            found = found and h >= 0 and rest == 0
                            h = quotient
                        if g.down_w > 1:
                            quotient, rest = divide(max(w, index(0)), g.down_w)
                            found = found and w >= 0 and rest == 0
                            w = quotient
                        d = source_at(d, g.source_D, g.mode_d)
                        h = source_at(h, g.source_H, g.mode_h)
                        w = source_at(w, g.source_W, g.mode_w)
                        places[i] = index(-1)
                        if found and d >= 0 and h >= 0 and w >= 0:
                            places[i] = index(
                                images[i] * g.source_n
                                + group * g.group_in * g.source_c
                                + d * g.source_d
                                + h * g.source_h
                                + w * g.source_w
                            )
                    tap = index(t * g.weight_t + r * g.weight_r + s * g.weight_s)
                    for c in range(g.group_in):
                        for i in range(PIXELS):
                            values[i] = acc(0)
                            if places[i] >= 0:
                                values[i] = load_source(source, index(places[i] + c * g.source_c))
                        for k in range(outputs):
                            factor = load_weight(weight, index(rows[k] + tap + c * g.weight_in))
                            for i in range(PIXELS):
                                sums[i, k] += values[i] * factor

        # No index of a register is found out at run time, and the epilogue is too long to be there
        # once for each sum: it takes them from shared memory, where each thread has its own.
        finished = cuda.shared.array((sums_of_a_thread, THREADS), acc)
        for i in range(PIXELS):
            for k in range(outputs):
                finished[i * outputs + k, cuda.threadIdx.x] = sums[i, k]
        for i in range(PIXELS):
            pixel = index(first_pixel + i * THREADS)
            if pixel >= g.pixels:
                return
            rest, w = divide(pixel, g.target_W)
            rest, h = divide(rest, g.target_H)
            n, d = divide(rest, g.target_D)
            place = index(n * g.target_n + d * g.target_d + h * g.target_h + w * g.target_w)
            for k in range(min(index(outputs), index(g.group_out - first_out))):
                total = finished[i * outputs + k, cuda.threadIdx.x]
                channel = index(group * g.group_out + first_out + k)
                at = index(place + channel * g.target_c)
                finish(total, g.post, g.accumulate, target, at, bias, channel, residual)

    return conv_direct_gather


class ConvDirect:
    """The algorithm ``cuda_numba.conv_direct``."""

    name = "cuda_numba.conv_direct"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any convolution of floats."""
        if not isinstance(problem, ConvProblem):
            return Rejected("a convolution algorithm; this is a pooling")
        dtypes = {problem.x.dtype, problem.w.dtype, problem.y.dtype}
        if not dtypes <= set(FLOATS) or problem.acc not in (DType.F32, DType.F64):
            return Rejected(f"types {'/'.join(sorted(dtypes))}: {', '.join(FLOATS)} only")
        return None

    def configs(self, problem: Problem, machine: Machine, workspace_limit: int) -> Iterable[Types]:
        """One channel a thread where groups have one, else eight."""
        assert isinstance(problem, ConvProblem)
        index = index_of(problem)
        x, w, y = (operand.dtype.value for operand in (problem.x, problem.w, problem.y))
        acc = problem.acc.value
        if problem.direction is Direction.WGRAD:
            yield Types(index, acc, (x, y, w))
            return
        fprop = problem.direction is Direction.FPROP
        source, target = (x, y) if fprop else (y, x)
        alone = (problem.group_K if fprop else problem.group_C) == 1
        if not fprop and is_bordered(problem):
            index, target = index_of(unpadded(problem)), acc
        config = GatherConfig(
            index, acc, (source, w, target, target, target), 1 if alone else OUTPUTS
        )
        if self.program(problem, config, machine).workspace_bytes(1) <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: Types) -> WeightFormat | None:
        """Reads plain weights."""
        return None

    def program(self, problem: Problem, config: Types, machine: Machine) -> Program:
        """One launch; where a border other than zeros gives something back, two."""
        assert isinstance(problem, ConvProblem)
        if not isinstance(config, GatherConfig):
            return Program(steps=(outer_step(problem, config),))
        if problem.direction is Direction.DGRAD and is_bordered(problem):
            gather = _gather_step(unpadded(problem), config)
            gather = replace(gather, operands=("y", "w", "padded", "", ""))
            fold, buffer = fold_step(problem, config)
            return Program(steps=(gather, fold), buffers=(buffer,))
        return Program(steps=(_gather_step(problem, config),))


def _gather_step(problem: ConvProblem, config: GatherConfig) -> Step:
    fprop = problem.direction is Direction.FPROP
    x = problem.size, steps(problem.x.order, problem.N, problem.C, problem.size)
    y = problem.out, steps(problem.y.order, problem.N, problem.K, problem.out)
    (source_size, source), (target_size, target) = (x, y) if fprop else (y, x)
    group_in, group_out = problem.group_C, problem.group_K
    weight = steps(problem.w.order, problem.K, problem.group_C, problem.filter)
    weight_out, weight_in, *taps = weight
    if not fprop:
        group_in, group_out = group_out, group_in
        weight_out, weight_in = weight_in, weight_out
    pixels = problem.N * prod(target_size)
    pixel_blocks = -(-pixels // (PIXELS * THREADS))
    out_blocks = -(-group_out // config.outputs)
    constants = GATHER.pack(
        config.index,
        pixels=pixels,
        pixel_blocks=pixel_blocks,
        out_blocks=out_blocks,
        group_in=group_in,
        group_out=group_out,
        post=post_code(problem),
        accumulate=problem.accumulate,
        weight_group=problem.group_K * weight[0],
        weight_out=weight_out,
        weight_in=weight_in,
        **named("weight_t weight_r weight_s", tuple(taps)),
        **named("T R S", three(problem.filter)),
        **named("target_D target_H target_W", three(target_size)),
        **named("target_n target_c target_d target_h target_w", target),
        **named("source_D source_H source_W", three(source_size)),
        **named("source_n source_c source_d source_h source_w", source),
        **gather_windows(problem),
    )
    loads, products = LOAD_COST * (PIXELS + config.outputs), PIXELS * config.outputs
    return Step(
        name="multiply",
        kernel=KernelRef(conv_direct_gather, config),
        operands=(
            *(("x", "w", "y") if fprop else ("y", "w", "x")),
            *(op if op in problem.post else "" for op in ("bias", "residual")),
        ),
        constants=constants,
        tasks=pixel_blocks * out_blocks * problem.groups,
        cost=Cost(flops=round(problem.flops * max(1, loads / products)), bytes=problem.bytes),
    )


ALGORITHMS = (ConvDirect(),)
