"""im2col and GEMM: lower a chunk of pixels to a matrix, multiply it by the weights.

Computes: fprop, dgrad and wgrad of one to three axes; any stride, dilation, groups, padding and
    pad mode. Every post op, in any order.
Layout: channels first and last, each operand in its own. Weights in place; dgrad turns them.
Accumulates: in float32 (float16, bfloat16, float32) or float64; one sum an output; wgrad partial
    sums, added in a fixed order that problem and workspace limit decide. No atomics.
Good at: dense layers of many channels, any geometry. Bad at: memory traffic, each source element
    is copied once per tap; dgrad with strides, which multiplies zeros; few channels of many groups,
    which leave most of a tile empty.

Chellapilla, Puri, Simard 2006, "High Performance Convolutional Neural Networks for Document
Processing". The matrix never exists whole: as many pixels are lowered at a time as fill a GPU,
or as the workspace limit holds. See docs/algorithms/conv_im2col.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from numba import cuda

from convforge.contract import (
    Buffer,
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
from convforge.kernels.cuda_numba._element import FLOATS, Types, divider, number_type
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._gemm_tile import (
    THREADS,
    GemmConfig,
    locator,
    multiplier,
)
from convforge.kernels.cuda_numba._geometry import index_of, named, steps, three
from convforge.kernels.cuda_numba._lowered_wgrad import splits_of, wgrad_program
from convforge.kernels.cuda_numba._lowering import (
    columns_of,
    is_matrix,
    lower_step,
    lowered_bytes,
    matrix,
    pixels_of,
    source_operand,
)
from convforge.kernels.cuda_numba._turned_weights import turn_step
from convforge.problem import ConvProblem, Direction, DType, Order, Problem
from convforge.runtime.cuda.jit import Constants, fits_int32, kernel

LOWERED_BYTES = 96 << 20
"""Of a chunk's matrix: the tiles of its products fill a large GPU."""
MOST_CHUNKS = 256
"""With less memory than so many need, others are faster."""

MULTIPLY = Constants(
    "Multiply",
    "row_blocks column_blocks rows columns depth post accumulate channels_last "
    "a_first a_group a_row a_k b_group b_column "
    "first D H W target_n target_c target_d target_h target_w",
)


@dataclass(frozen=True, slots=True)
class Im2colConfig(Types):
    """Pixels lowered at once, besides the types; no kernel is compiled for their number."""

    chunk: int


@kernel(MULTIPLY, threads=THREADS, registers={"f32": 120, "f64": 176})
def conv_im2col_multiply(config):
    """A tile of pixels by outputs of a group, through shared memory to where it belongs."""
    a_dtype, b_dtype, target_dtype, *_ = config.pointers
    index, acc = number_type(config.index), number_type(config.acc)
    multiply, locate = multiplier(config, a_dtype, b_dtype), locator(config)
    finish, divide = finisher(target_dtype, config.acc), divider(config.index)
    tile_rows, tile_columns = config.tile
    thread_rows, thread_columns = config.rows, config.columns
    # As many columns at a time as 16 KiB take: a thread's sums of one piece of 16 bytes.
    piece = 16 // {"f32": 4, "f64": 8}[config.acc]
    parts = thread_columns // piece
    part_columns = tile_columns // parts
    pitch = part_columns + 1  # neighbouring rows in other banks

    def conv_im2col_multiply(g, a, b, target, bias, residual):
        lane = index(cuda.threadIdx.x)
        # Blocks that run together share the pixels of a tile.
        rest, column_block = divide(index(cuda.blockIdx.x), g.column_blocks)
        group, row_block = divide(rest, g.row_blocks)
        first_row, first_column = index(row_block * tile_rows), index(column_block * tile_columns)
        rows, columns = index(g.rows - first_row), index(g.columns - first_column)
        sums = cuda.local.array((thread_rows, thread_columns), acc)
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] = acc(0)
        a_at = index(g.a_first + group * g.a_group + first_row * g.a_row)
        b_at = index(group * g.b_group + first_column * g.b_column)
        multiply(
            a, a_at, g.a_row, g.a_k, rows, b, b_at, index(1), g.b_column, columns, g.depth, sums
        )

        finished = cuda.shared.array((tile_rows, pitch), acc)
        for part in range(parts):
            for i in range(thread_rows):
                for j in range(thread_columns):
                    if j // piece == part:
                        row, column = locate(lane, i, j)
                        finished[row, column - part * part_columns] = sums[i, j]
            cuda.syncthreads()
            for i in range(lane, tile_rows * part_columns, index(THREADS)):
                column, row = divide(index(i), index(tile_rows))
                if g.channels_last != 0:
                    row, column = divide(index(i), index(part_columns))
                there = index(part * part_columns + column)
                if row < rows and there < columns:
                    rest, w = divide(index(g.first + first_row + row), g.W)
                    rest, h = divide(rest, g.H)
                    n, d = divide(rest, g.D)
                    channel = index(group * g.columns + first_column + there)
                    at = index(n * g.target_n + d * g.target_d + h * g.target_h)
                    at = index(at + w * g.target_w + channel * g.target_c)
                    total = finished[row, column]
                    finish(total, g.post, g.accumulate, target, at, bias, channel, residual)
            cuda.syncthreads()

    return conv_im2col_multiply


class ConvIm2col:
    """The algorithm ``cuda_numba.conv_im2col``."""

    name = "cuda_numba.conv_im2col"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any convolution of floats with work to do."""
        if not isinstance(problem, ConvProblem):
            return Rejected("a convolution algorithm; this is a pooling")
        dtypes = {problem.x.dtype, problem.w.dtype, problem.y.dtype}
        if not dtypes <= set(FLOATS) or problem.acc not in (DType.F32, DType.F64):
            return Rejected(f"types {'/'.join(sorted(dtypes))}: {', '.join(FLOATS)} only")
        if 0 in problem.x_shape or 0 in problem.w_shape or 0 in problem.y_shape:
            return Rejected("nothing to multiply: an extent is zero")
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[Im2colConfig]:
        """The largest chunk that the limit holds, up to what fills a GPU."""
        assert isinstance(problem, ConvProblem)
        bordered = problem.direction is Direction.DGRAD and is_bordered(problem)
        inner = unpadded(problem) if bordered else problem
        x, w, y = (operand.dtype.value for operand in (inner.x, inner.w, inner.y))
        pointers = {
            Direction.FPROP: (x, w, y, y, y),
            Direction.DGRAD: (y, w, x, x, x),
            Direction.WGRAD: (y, x, problem.acc.value),
        }[problem.direction]
        pixels, one = pixels_of(inner), lowered_bytes(inner)
        config = Im2colConfig("i64", problem.acc.value, pointers, pixels)
        chunk = pixels
        if one:
            # What other buffers take, which are as large for any chunk; each ends on a line.
            others = self.program(problem, config, machine).workspace_bytes(1)
            others -= -(-pixels * one // 64) * 64
            fits = min(LOWERED_BYTES, (workspace_limit - others) // 64 * 64) // one
            least = -(-pixels // MOST_CHUNKS)
            rows, _ = GemmConfig("i32", problem.acc.value, pointers).tile
            chunk = min(pixels, max(fits, least, rows) // rows * rows)
        elements = chunk * inner.groups * columns_of(inner)
        if problem.direction is Direction.WGRAD:
            elements = max(elements, splits_of(problem) * prod(problem.w_shape))
        index = "i64" if index_of(inner) == "i64" else fits_int32(elements)
        config = replace(config, index=index, chunk=chunk)
        if self.program(problem, config, machine).workspace_bytes(1) <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: Im2colConfig) -> WeightFormat | None:
        """Reads plain weights."""
        return None

    def program(self, problem: Problem, config: Im2colConfig, machine: Machine) -> Program:
        """Lower and multiply chunk by chunk; dgrad turns its weights before, and folds borders."""
        assert isinstance(problem, ConvProblem)
        gemm = GemmConfig(config.index, config.acc, config.pointers)
        if problem.direction is Direction.WGRAD:
            return wgrad_program(problem, gemm, config.chunk)
        bordered = problem.direction is Direction.DGRAD and is_bordered(problem)
        inner = unpadded(problem) if bordered else problem
        before: list[Step] = []
        chunks: list[Step] = []
        buffers: list[Buffer] = []
        if problem.direction is Direction.DGRAD:
            turn, buffer = turn_step(inner, config.index)
            before.append(turn)
            buffers.append(buffer)
        lowers = not is_matrix(inner)
        if lowers:
            buffers.append(Buffer(name="lowered", nbytes=config.chunk * lowered_bytes(inner)))
        pixels = pixels_of(inner)
        for first in range(0, pixels, config.chunk):
            count = min(config.chunk, pixels - first)
            if lowers:
                chunks.append(lower_step(inner, config.index, config.chunk, first, count))
            chunks.append(_multiply_step(inner, gemm, config.chunk, first, count))
        if not bordered:
            return Program(steps=(*before, *chunks), buffers=tuple(buffers))
        chunks = [
            replace(step, operands=tuple("padded" if o == "x" else o for o in step.operands))
            for step in chunks
        ]
        fold, buffer = fold_step(problem, Types(config.index, config.acc, ()))
        return Program(steps=(*before, *chunks, fold), buffers=(*buffers, buffer))


def _multiply_step(
    problem: ConvProblem, config: GemmConfig, chunk: int, first: int, count: int
) -> Step:
    fprop = problem.direction is Direction.FPROP
    a = matrix(problem, chunk, first)
    depth = columns_of(problem)
    outputs = problem.group_K if fprop else problem.group_C
    target = problem.y if fprop else problem.x
    size = problem.out if fprop else problem.size
    channels = problem.K if fprop else problem.C
    tile_rows, tile_columns = config.tile
    row_blocks, column_blocks = -(-count // tile_rows), -(-outputs // tile_columns)
    constants = MULTIPLY.pack(
        config.index,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        rows=count,
        columns=outputs,
        depth=depth,
        post=post_code(problem),
        accumulate=problem.accumulate,
        channels_last=target.order is Order.CHANNELS_LAST,
        a_first=a.first,
        a_group=a.group,
        a_row=a.row,
        a_k=a.column,
        b_group=outputs * depth,
        b_column=depth,
        first=first,
        **named("D H W", three(size)),
        **named(
            "target_n target_c target_d target_h target_w",
            steps(target.order, problem.N, channels, size),
        ),
    )
    blocks = problem.groups * row_blocks * column_blocks
    summed = count * problem.groups * depth * source_operand(problem)[1].itemsize
    written = count * channels * target.dtype.itemsize
    return Step(
        name="multiply",
        kernel=KernelRef(conv_im2col_multiply, config),
        operands=(
            a.name,
            "w" if fprop else "turned",
            "y" if fprop else "x",
            *(op if op in problem.post else "" for op in ("bias", "residual")),
        ),
        constants=constants,
        tasks=blocks,
        cost=Cost(
            flops=2 * blocks * tile_rows * tile_columns * depth,
            bytes=summed + written + prod(problem.w_shape) * problem.w.dtype.itemsize,
        ),
    )


ALGORITHMS = (ConvIm2col(),)
