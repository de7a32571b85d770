"""Products of matrices: a block sums a tile of them in registers, from shared memory.

A part of kernels that do something with the sums before they store them.

A block of 8 x 16 threads goes through the summed axis in steps of DEEP. While it multiplies what
lies in one half of the shared memory, the next elements are on their way to registers, and go into
the other half behind it. A thread's rows and columns lie in pieces of 16 bytes, one piece of each
neighbour between two of its own, so that a warp reads every bank once and by the widest loads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cuda

from convforge.kernels.cuda_numba._element import (
    Types,
    inlined,
    loader,
    number_type,
    unsigned_type,
)

THREADS = 128
DEEP = 8
"""Of the summed axis, at a time: 32 bytes, the least that memory gives, where it is innermost."""
_UNROLLED = 2
"""Of them, how many are multiplied before the loop goes round; the compiler unrolls no more."""
_DOWN, _ACROSS = 8, 16
_WARP_DOWN, _WARP_ACROSS = 4, 8
PIECE_BYTES = 16


@dataclass(frozen=True, slots=True)
class GemmConfig(Types):
    """Rows and columns of a thread besides the types; a tile has 8 and 16 times as many.

    ``pointers`` are the types of A, B and C.
    """

    rows: int = 8
    columns: int = 4

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        return _DOWN * self.rows, _ACROSS * self.columns


def locator(config: GemmConfig) -> Callable[..., Any]:
    """``locate(lane, i, j)``: row and column in the tile of a thread's sum (i, j)."""
    index, piece = number_type(config.index), _piece(config.acc)

    @inlined
    def locate(lane, i, j):
        warp, part = lane // 32, lane % 32
        down = warp // 2 * _WARP_DOWN + part // _WARP_ACROSS
        across = warp % 2 * _WARP_ACROSS + part % _WARP_ACROSS
        row = i // piece * (_DOWN * piece) + down * piece + i % piece
        column = j // piece * (_ACROSS * piece) + across * piece + j % piece
        return index(row), index(column)

    return locate


def multiplier(config: GemmConfig, a_dtype: str, b_dtype: str) -> Callable[..., None]:
    """``multiply(a, a_at, a_row, a_k, rows, b, b_at, b_k, b_column, columns, depth, sums)``.

    Adds the product of A (rows, depth) and B (depth, columns) to ``sums``, an array of
    ``(config.rows, config.columns)`` in registers, at the places that :func:`locator` says. Row
    and column 0 are the tile's first ones, element (0, 0) of each is at ``a_at`` and ``b_at``;
    steps are in elements. Rows and columns may be fewer than the tile has, nothing beyond is read.
    All threads of the block come here; it may be called again at once.
    """
    index, acc = number_type(config.index), number_type(config.acc)
    wide, piece = unsigned_type("i64"), _piece(config.acc)
    tile_rows, tile_columns = config.tile
    thread_rows, thread_columns = config.rows, config.columns
    # A piece more, so that threads that bring neighbours of the summed axis write to other banks.
    a_pitch, b_pitch = tile_rows + piece, tile_columns + piece
    a_half, b_half = DEEP * a_pitch, DEEP * b_pitch
    a_both, b_both = 2 * a_half, 2 * b_half
    a_loads, b_loads = tile_rows * DEEP // THREADS, tile_columns * DEEP // THREADS
    a_first, a_fetch, a_keep = _side(config, a_dtype, tile_rows)
    b_first, b_fetch, b_keep = _side(config, b_dtype, tile_columns)
    locate = locator(config)

    @inlined
    def multiply(a, a_at, a_row, a_k, rows, b, b_at, b_k, b_column, columns, depth, sums):
        lane = index(cuda.threadIdx.x)
        a_shared = cuda.shared.array(a_both, acc, alignment=PIECE_BYTES)
        b_shared = cuda.shared.array(b_both, acc, alignment=PIECE_BYTES)
        a_next = cuda.local.array(a_loads, acc)
        b_next = cuda.local.array(b_loads, acc)
        a_values = cuda.local.array(thread_rows, acc)
        b_values = cuda.local.array(thread_columns, acc)
        row, column = locate(lane, 0, 0)
        a_i, a_k0, a_more, a_k_more = a_first(lane, a_row)
        b_i, b_k0, b_more, b_k_more = b_first(lane, b_column)

        a_fetch(a, a_at, a_row, a_k, rows, depth, a_i, a_k0, a_more, a_k_more, a_next)
        b_fetch(b, b_at, b_column, b_k, columns, depth, b_i, b_k0, b_more, b_k_more, b_next)
        a_keep(a_shared, 0, a_i, a_k0, a_more, a_k_more, a_next)
        b_keep(b_shared, 0, b_i, b_k0, b_more, b_k_more, b_next)
        cuda.syncthreads()
        half = index(0)
        for k in range(0, depth, index(DEEP)):
            left = index(depth - k - DEEP)
            if left > 0:
                at = index(a_at + (k + DEEP) * a_k)
                a_fetch(a, at, a_row, a_k, rows, left, a_i, a_k0, a_more, a_k_more, a_next)
                at = index(b_at + (k + DEEP) * b_k)
                b_fetch(b, at, b_column, b_k, columns, left, b_i, b_k0, b_more, b_k_more, b_next)
            # Unsigned, or the compiler would look for places counted from the end.
            a_here, b_here = wide(half * a_half + row), wide(half * b_half + column)
            for block in range(DEEP // _UNROLLED):
                for part in range(_UNROLLED):
                    step = block * _UNROLLED + part
                    for i in range(thread_rows):
                        more = step * a_pitch + i // piece * (_DOWN * piece) + i % piece
                        a_values[i] = a_shared[a_here + wide(more)]
                    for j in range(thread_columns):
                        more = step * b_pitch + j // piece * (_ACROSS * piece) + j % piece
                        b_values[j] = b_shared[b_here + wide(more)]
                    for i in range(thread_rows):
                        for j in range(thread_columns):
                            sums[i, j] += a_values[i] * b_values[j]
            half = index(1 - half)
            if left > 0:
                a_keep(a_shared, half * a_half, a_i, a_k0, a_more, a_k_more, a_next)
                b_keep(b_shared, half * b_half, b_i, b_k0, b_more, b_k_more, b_next)
            cuda.syncthreads()

    return multiply


def _piece(acc: str) -> int:
    return PIECE_BYTES // {"f32": 4, "f64": 8}[acc]


def _side(config: GemmConfig, dtype: str, extent: int) -> tuple[Callable[..., Any], ...]:
    """How threads share the elements of an operand: ``extent`` rows, or columns, by DEEP.

    Returns:
        ``first(lane, step)``: a thread's first element (i, k), and how far the next ones are;
        ``fetch`` reads them from memory, zeros for those outside; ``keep`` puts them down.
    """
    index, acc, load = number_type(config.index), number_type(config.acc), loader(dtype, config.acc)
    place = unsigned_type(config.index)
    loads, pitch = extent * DEEP // THREADS, extent + _piece(config.acc)

    @inlined
    def first(lane, step):
        # Neighbouring threads bring what is neighbouring in memory.
        i, k, more, k_more = lane % extent, lane // extent, 0, THREADS // extent
        if step != 1:
            i, k, more, k_more = lane // DEEP, lane % DEEP, THREADS // DEEP, 0
        return index(i), index(k), index(more), index(k_more)

    @inlined
    def fetch(pointer, at, step, step_k, count, depth, i, k, more, k_more, found):
        for n in range(loads):
            here, k_here = index(i + n * more), index(k + n * k_more)
            value = acc(0)
            if here < count and k_here < depth:
                value = load(pointer, index(at + here * step + k_here * step_k))
            found[n] = value

    @inlined
    def keep(shared, at, i, k, more, k_more, found):
        for n in range(loads):
            shared[place(at + (k + n * k_more) * pitch + i + n * more)] = found[n]

    return first, fetch, keep
