"""The gradient of weights by im2col: dy turned, times the lowered matrix, chunk by chunk.

Weights are few and pixels are many, so several blocks share the pixels of a tile of weights; each
adds to sums of its own, which stay in scratch memory from chunk to chunk.
"""

from __future__ import annotations

from math import prod

from numba import cuda

from convforge.contract import Buffer, Cost, KernelRef, Program, Step
from convforge.kernels.cuda_numba._element import divider, number_type
from convforge.kernels.cuda_numba._gemm_tile import THREADS, GemmConfig, locator, multiplier
from convforge.kernels.cuda_numba._geometry import named, steps
from convforge.kernels.cuda_numba._lowering import (
    columns_of,
    is_matrix,
    lower_step,
    lowered_bytes,
    matrix,
    pixels_of,
)
from convforge.kernels.cuda_numba._totals import totals_step
from convforge.problem import ConvProblem, Order
from convforge.runtime.cuda.jit import Constants, kernel

_BLOCKS = 512
"""Enough for a large GPU."""
_FEWEST = 256
"""Pixels of a block, over all images, for another partial sum to be worth it."""

LOWERED_OUTER = Constants(
    "LoweredOuter",
    "row_blocks column_blocks groups splits rows columns first count share plane adds "
    "y_image y_group y_row y_pixel x_first x_group x_row x_column w_split w_group",
)


@kernel(LOWERED_OUTER, threads=THREADS, registers={"f32": 120, "f64": 176})
def conv_im2col_outer(config):
    """Partial sums of dw, ``[split, k, column]``: filters by columns, summed over pixels."""
    index, acc = number_type(config.index), number_type(config.acc)
    multiply = multiplier(config, config.pointers[0], config.pointers[1])
    locate, divide = locator(config), divider(config.index)
    tile_rows, tile_columns = config.tile
    thread_rows, thread_columns = config.rows, config.columns

    def conv_im2col_outer(g, y, x, partial):
        lane = index(cuda.threadIdx.x)
        rest, column_block = divide(index(cuda.blockIdx.x), g.column_blocks)
        rest, row_block = divide(rest, g.row_blocks)
        split, group = divide(rest, g.groups)
        first_row, first_column = index(row_block * tile_rows), index(column_block * tile_columns)
        rows, columns = index(g.rows - first_row), index(g.columns - first_column)
        sums = cuda.local.array((thread_rows, thread_columns), acc)
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] = acc(0)
        y_at = index(group * g.y_group + first_row * g.y_row)
        x_at = index(g.x_first + group * g.x_group + first_column * g.x_column)
        # Where planes come apart, one after the other.
        at = index(split * g.share)
        end = min(index(at + g.share), g.count)
        while at < end:
            n, pixel = divide(index(g.first + at), g.plane)
            depth = min(index(end - at), index(g.plane - pixel))
            multiply(
                y, index(y_at + n * g.y_image + pixel * g.y_pixel), g.y_row, g.y_pixel, rows,
                x, index(x_at + at * g.x_row), g.x_row, g.x_column, columns, depth, sums,
            )  # fmt: skip
            at = index(at + depth)
        w_at = index(split * g.w_split + group * g.w_group)
        for i in range(thread_rows):
            for j in range(thread_columns):
                row, column = locate(lane, i, j)
                if row < rows and column < columns:
                    place = index(w_at + (first_row + row) * g.columns + first_column + column)
                    total = sums[i, j]
                    if g.adds != 0:
                        total += partial[place]
                    partial[place] = total

    return conv_im2col_outer


def splits_of(problem: ConvProblem) -> int:
    """Blocks that share a tile's pixels: of the problem alone."""
    rows, columns = GemmConfig("i32", problem.acc.value, ()).tile
    tiles = problem.groups * -(-problem.group_K // rows) * -(-columns_of(problem) // columns)
    return max(1, min(_BLOCKS // tiles, pixels_of(problem) // _FEWEST))


def wgrad_program(problem: ConvProblem, config: GemmConfig, chunk: int) -> Program:
    """Lower and multiply chunk by chunk, and add the partial sums."""
    splits, pixels, lowers = splits_of(problem), pixels_of(problem), not is_matrix(problem)
    launches: list[Step] = []
    for first in range(0, pixels, chunk):
        count = min(chunk, pixels - first)
        if lowers:
            launches.append(lower_step(problem, config.index, chunk, first, count))
        launches.append(_outer_step(problem, config, chunk, first, count, splits))
    totals, partial = totals_step(problem, config.index, splits)
    buffers = [partial]
    if lowers:
        buffers.append(Buffer(name="lowered", nbytes=chunk * lowered_bytes(problem)))
    return Program(steps=(*launches, totals), buffers=tuple(buffers))


def _outer_step(
    problem: ConvProblem, config: GemmConfig, chunk: int, first: int, count: int, splits: int
) -> Step:
    lowered = matrix(problem, chunk, first)
    columns, plane = columns_of(problem), prod(problem.out)
    y_n, y_k, *_, y_pixel = steps(problem.y.order, problem.N, problem.K, problem.out)
    if problem.y.order is Order.CHANNELS_LAST:
        plane *= problem.N
    tile_rows, tile_columns = config.tile
    row_blocks, column_blocks = -(-problem.group_K // tile_rows), -(-columns // tile_columns)
    constants = LOWERED_OUTER.pack(
        config.index,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        groups=problem.groups,
        splits=splits,
        rows=problem.group_K,
        columns=columns,
        first=first,
        count=count,
        share=-(-count // splits),
        plane=plane,
        adds=first > 0,
        y_image=y_n,
        x_first=lowered.first,
        w_split=prod(problem.w_shape),
        w_group=problem.group_K * columns,
        **named("y_group y_row y_pixel", (problem.group_K * y_k, y_k, y_pixel)),
        **named("x_group x_row x_column", (lowered.group, lowered.row, lowered.column)),
    )
    blocks = splits * problem.groups * row_blocks * column_blocks
    read = count * problem.groups * (problem.group_K + columns) * problem.y.dtype.itemsize
    return Step(
        name="multiply",
        kernel=KernelRef(conv_im2col_outer, config),
        operands=("y", lowered.name, "partial"),
        constants=constants,
        tasks=blocks,
        cost=Cost(
            flops=2 * blocks * tile_rows * tile_columns * -(-count // splits),
            bytes=read + 2 * splits * prod(problem.w_shape) * problem.acc.itemsize,
        ),
    )
