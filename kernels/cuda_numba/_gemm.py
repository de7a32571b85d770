"""Products of many pairs of matrices, by the tile of :mod:`_gemm_tile`."""

from __future__ import annotations

from dataclasses import replace

from numba import cuda

from convforge.contract import Cost, KernelRef, Machine, Step
from convforge.kernels.cuda_numba._element import LOAD_COST, divider, number_type
from convforge.kernels.cuda_numba._gemm_tile import (
    PIECE_BYTES,
    THREADS,
    GemmConfig,
    locator,
    multiplier,
)
from convforge.kernels.cuda_numba._geometry import named
from convforge.runtime.cuda.jit import Constants, kernel

_BYTES = {"f32": 4, "f64": 8}
GEMM = Constants(
    "Gemm",
    "batches row_blocks column_blocks rows columns depth slice accumulate "
    "a_batch a_row a_k b_batch b_k b_column c_slice c_batch c_row c_column",
)


@kernel(GEMM, threads=THREADS, registers={"f32": 144, "f64": 160})
def gemm_batched(config):
    """C = A B, or C += A B, for each slice of the summed axis and batch; a block has a tile."""
    index, acc = number_type(config.index), number_type(config.acc)
    multiply = multiplier(config, config.pointers[0], config.pointers[1])
    locate, divide = locator(config), divider(config.index)
    tile_rows, tile_columns = config.tile
    thread_rows, thread_columns = config.rows, config.columns

    def gemm_batched(g, a, b, c):
        lane = index(cuda.threadIdx.x)
        rest, column_block = divide(index(cuda.blockIdx.x), g.column_blocks)
        rest, row_block = divide(rest, g.row_blocks)
        which, batch = divide(rest, g.batches)
        first_row, first_column = index(row_block * tile_rows), index(column_block * tile_columns)
        rows, columns = index(g.rows - first_row), index(g.columns - first_column)
        sums = cuda.local.array((thread_rows, thread_columns), acc)
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] = acc(0)
        first_k = index(which * g.slice)
        depth = min(index(g.slice), index(g.depth - first_k))
        a_at = index(batch * g.a_batch + first_row * g.a_row + first_k * g.a_k)
        b_at = index(batch * g.b_batch + first_column * g.b_column + first_k * g.b_k)
        multiply(a, a_at, g.a_row, g.a_k, rows, b, b_at, g.b_k, g.b_column, columns, depth, sums)
        c_at = index(which * g.c_slice + batch * g.c_batch)
        c_at = index(c_at + first_row * g.c_row + first_column * g.c_column)
        for i in range(thread_rows):
            for j in range(thread_columns):
                row, column = locate(lane, i, j)
                if row < rows and column < columns:
                    at = index(c_at + row * g.c_row + column * g.c_column)
                    total = sums[i, j]
                    if g.accumulate != 0:
                        total += c[at]
                    c[at] = total

    return gemm_batched


def gemm_config(
    index: str, acc: str, batches: int, rows: int, columns: int, machine: Machine
) -> GemmConfig:
    """The tile for products of matrices of the type of the sums.

    Twice as wide a tile loads 16 elements for 64 products instead of 12 for 32. It is taken where
    its columns are not wasted, and where every multiprocessor still has two tiles; sums in float64
    would fill the registers.
    """
    usual = GemmConfig(index, acc, (acc, acc, acc))
    wide = replace(usual, columns=2 * usual.columns)
    tile_rows, tile_columns = wide.tile
    tiles = batches * -(-rows // tile_rows) * -(-columns // tile_columns)
    fits = acc == "f32" and columns > usual.tile[1] and tiles >= 2 * machine.threads
    return wide if fits else usual


def gemm_step(
    config: GemmConfig,
    *,
    operands: tuple[str, str, str],
    batches: int,
    rows: int,
    columns: int,
    depth: int,
    a: tuple[int, int, int],
    b: tuple[int, int, int],
    c: tuple[int, int, int],
    slices: int = 1,
    accumulate: bool = False,
) -> Step:
    """The launch for ``batches`` products of (rows, depth) by (depth, columns).

    Args:
        operands: Names of A, B and C; C is of the type of the sums.
        a: Elements from a batch, a row and a place of the summed axis to the next.
        b: The same for a batch, the summed axis, a column. c: For a batch, a row, a column.
        slices: Parts of the summed axis with a C for each, one behind the other, so that few and
            small matrices of a long sum keep many multiprocessors busy.
        accumulate: Add to C.
    """
    tile_rows, tile_columns = config.tile
    row_blocks, column_blocks = -(-rows // tile_rows), -(-columns // tile_columns)
    constants = GEMM.pack(
        config.index,
        batches=batches,
        row_blocks=row_blocks,
        column_blocks=column_blocks,
        rows=rows,
        columns=columns,
        depth=depth,
        slice=-(-depth // slices),
        c_slice=batches * c[0],
        accumulate=accumulate,
        **named("a_batch a_row a_k", a),
        **named("b_batch b_k b_column", b),
        **named("c_batch c_row c_column", c),
    )
    blocks = batches * row_blocks * column_blocks
    size = _BYTES[config.acc]
    # The tails of a tile are multiplied like the rest of it, and a warp that loads from shared
    # memory, a piece for each thread, multiplies nothing.
    products, loads = (
        config.rows * config.columns,
        (config.rows + config.columns) * size / PIECE_BYTES,
    )
    return Step(
        name="multiply",
        kernel=KernelRef(gemm_batched, config),
        operands=operands,
        constants=constants,
        tasks=slices * blocks,
        cost=Cost(
            flops=round(
                2 * blocks * tile_rows * tile_columns * depth * (1 + LOAD_COST * loads / products)
            ),
            bytes=batches * (rows * depth + depth * columns + slices * rows * columns) * size,
        ),
    )
