"""Products of spectra, summed over channels (of gradients by filters: over tiles and images)."""

from __future__ import annotations

from numba import cuda

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import LOAD_COST, Types, divider, number_type
from convforge.kernels.cuda_numba._fft_block import THREADS
from convforge.kernels.cuda_numba._geometry import named
from convforge.runtime.cuda.jit import Constants, kernel

TILE = 4
"""Rows and columns of complex sums of a thread: 8 complex loads for 16 products."""

PRODUCTS = Constants(
    "Products",
    "places place_blocks rows row_blocks columns column_blocks depth adds "
    "a_group a_row a_k b_group b_k b_column c_group c_row c_column",
)


@kernel(PRODUCTS, threads=THREADS, registers={"f32": 80, "f64": 128})
def conv_fft_multiply(config):
    """Sums of a times the conjugate of b, a frequency a thread; or those added to what is there."""
    index, acc = number_type(config.index), number_type(config.acc)
    divide = divider(config.index)

    def conv_fft_multiply(g, a, b, c):
        rest, block = divide(index(cuda.blockIdx.x), g.place_blocks)
        f = index(block * THREADS + cuda.threadIdx.x)
        if f >= g.places:
            return
        rest, column_block = divide(rest, g.column_blocks)
        group, row_block = divide(rest, g.row_blocks)
        first_row, first_column = index(row_block * TILE), index(column_block * TILE)
        # Beyond the last one the last one is multiplied again, and not stored.
        a_at = cuda.local.array(TILE, index)
        b_at = cuda.local.array(TILE, index)
        a_re, a_im = cuda.local.array(TILE, acc), cuda.local.array(TILE, acc)
        re, im = cuda.local.array((TILE, TILE), acc), cuda.local.array((TILE, TILE), acc)
        for i in range(TILE):
            row = min(index(first_row + i), index(g.rows - 1))
            column = min(index(first_column + i), index(g.columns - 1))
            a_at[i] = index(group * g.a_group + row * g.a_row + f)
            b_at[i] = index(group * g.b_group + column * g.b_column + f)
            for j in range(TILE):
                re[i, j], im[i, j] = acc(0), acc(0)
        for k in range(g.depth):
            for i in range(TILE):
                at = index(a_at[i] + k * g.a_k)
                a_re[i], a_im[i] = a[at], a[index(at + g.places)]
            for j in range(TILE):
                at = index(b_at[j] + k * g.b_k)
                b_re, b_im = b[at], b[index(at + g.places)]
                for i in range(TILE):
                    re[i, j] += a_re[i] * b_re
                    re[i, j] += a_im[i] * b_im
                    im[i, j] += a_im[i] * b_re
                    im[i, j] -= a_re[i] * b_im
        for i in range(TILE):
            for j in range(TILE):
                row, column = index(first_row + i), index(first_column + j)
                if row < g.rows and column < g.columns:
                    at = index(group * g.c_group + row * g.c_row + column * g.c_column + f)
                    more, more_im = re[i, j], im[i, j]
                    if g.adds != 0:
                        more += c[at]
                        more_im += c[index(at + g.places)]
                    c[at] = more
                    c[index(at + g.places)] = more_im

    return conv_fft_multiply


def multiply_step(
    types: Types,
    operands: tuple[str, str, str],
    *,
    places: int,
    groups: int,
    rows: int,
    columns: int,
    depth: int,
    a: tuple[int, int, int],
    b: tuple[int, int, int],
    c: tuple[int, int, int],
    adds: bool = False,
) -> Step:
    """The launch for sums of products, ``groups`` matrices a frequency.

    Args:
        a: Spectra from a group, a row and a place of the summed axis to the next.
        b: The same for a group, the summed axis, a column. c: For a group, a row, a column.
    """
    row_blocks, column_blocks = -(-rows // TILE), -(-columns // TILE)
    place_blocks = -(-places // THREADS)
    constants = PRODUCTS.pack(
        types.index,
        places=places,
        place_blocks=place_blocks,
        rows=rows,
        row_blocks=row_blocks,
        columns=columns,
        column_blocks=column_blocks,
        depth=depth,
        adds=adds,
        **named("a_group a_row a_k", tuple(2 * places * n for n in a)),
        **named("b_group b_k b_column", tuple(2 * places * n for n in b)),
        **named("c_group c_row c_column", tuple(2 * places * n for n in c)),
    )
    blocks = groups * row_blocks * column_blocks
    products, loads = 4 * TILE * TILE, LOAD_COST * 2 * 2 * TILE
    size = {"f32": 4, "f64": 8}[types.acc]
    return Step(
        name="multiply",
        kernel=KernelRef(conv_fft_multiply, types),
        operands=operands,
        constants=constants,
        tasks=blocks * place_blocks,
        cost=Cost(
            flops=2 * blocks * place_blocks * THREADS * depth * max(products, loads),
            bytes=2
            * size
            * places
            * groups
            * (rows * depth + depth * columns + rows * columns * (1 + adds)),
        ),
    )
