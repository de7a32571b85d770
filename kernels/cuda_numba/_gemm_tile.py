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

import numpy as np
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
    # A loop over it counts in 32 bits, like all else in the inner loop.
    rounds = np.int32(DEEP // _UNROLLED)
    tile_rows, tile_columns = config.tile
    thread_rows, thread_columns = config.rows, config.columns
    # A piece more, so that threads that bring neighbours of the summed axis write to other banks.
    a_pitch, b_pitch = tile_rows + piece, tile_columns + piece
    a_half, b_half = DEEP * a_pitch, DEEP * b_pitch
    a_both, b_both = 2 * a_half, 2 * b_half
    a_loads, b_loads = tile_rows * DEEP // THREADS, tile_columns * DEEP // THREADS
    a_share, a_count, a_fetch, a_keep = _side(config, a_dtype, tile_rows)
    b_share, b_count, b_fetch, b_keep = _side(config, b_dtype, tile_columns)
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
        a_own, a_far, a_spot, a_spot_far, a_first_k, a_k_far, a_most = a_share(
            lane, a_row, a_k, rows
        )
        b_own, b_far, b_spot, b_spot_far, b_first_k, b_k_far, b_most = b_share(
            lane, b_column, b_k, columns
        )
        a_at, b_at = index(a_at + a_own), index(b_at + b_own)

        count = a_count(a_most, a_first_k, a_k_far, depth)
        a_fetch(a, a_at, a_far, count, a_next)
        count = b_count(b_most, b_first_k, b_k_far, depth)
        b_fetch(b, b_at, b_far, count, b_next)
        a_keep(a_shared, a_spot, a_spot_far, a_next)
        b_keep(b_shared, b_spot, b_spot_far, b_next)
        cuda.syncthreads()
        half = index(0)
        for k in range(0, depth, index(DEEP)):
            left = index(depth - k - DEEP)
            if left > 0:
                a_at, b_at = index(a_at + DEEP * a_k), index(b_at + DEEP * b_k)
                count = a_count(a_most, a_first_k, a_k_far, left)
                a_fetch(a, a_at, a_far, count, a_next)
                count = b_count(b_most, b_first_k, b_k_far, left)
                b_fetch(b, b_at, b_far, count, b_next)
            # Unsigned, or the compiler would look for places counted from the end.
            a_here, b_here = wide(half * a_half + row), wide(half * b_half + column)
            for block in range(rounds):
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
                a_keep(a_shared, index(half * a_half + a_spot), a_spot_far, a_next)
                b_keep(b_shared, index(half * b_half + b_spot), b_spot_far, b_next)
            cuda.syncthreads()

    return multiply


def _piece(acc: str) -> int:
    return PIECE_BYTES // {"f32": 4, "f64": 8}[acc]


def _side(config: GemmConfig, dtype: str, extent: int) -> tuple[Callable[..., Any], ...]:
    """How threads share the elements of an operand: ``extent`` rows, or columns, by DEEP.

    A thread has ``loads`` elements, each as far from the one before; it starts from those that
    stand first, so that what lies outside the operand are the last ones of a thread.

    Returns:
        ``share(lane, step, step_k, limit)``: where a thread's first element lies and how far the
        next one is, in memory and in shared memory; on the summed axis; and how many there are
        below ``limit``. ``count`` says how many of these are left before the end of the summed
        axis. ``fetch`` reads them, zeros for the others, and ``keep`` puts them down.
    """
    index, acc, load = number_type(config.index), number_type(config.acc), loader(dtype, config.acc)
    wide = unsigned_type("i64")
    loads, pitch = extent * DEEP // THREADS, extent + _piece(config.acc)
    apart = THREADS // extent

    @inlined
    def share(lane, step, step_k, limit):
        # Neighbouring threads bring what is neighbouring in memory.
        if step == 1:
            i, k, far, k_far = lane % extent, lane // extent, 0, apart
            most = loads if i < limit else 0
        else:
            i, k, far, k_far = lane // DEEP, lane % DEEP, THREADS // DEEP, 0
            most = (limit - i + THREADS // DEEP - 1) // (THREADS // DEEP)
        own, next_one = index(i * step + k * step_k), index(far * step + k_far * step_k)
        spot, next_spot = index(k * pitch + i), index(k_far * pitch + far)
        return own, next_one, spot, next_spot, index(k), index(k_far), index(most)

    @inlined
    def count(most, k, k_far, left):
        found = most
        if left < DEEP:
            if k_far != 0:
                found = min(found, index((left - k + apart - 1) // apart))
            elif k >= left:
                found = index(0)
        return found

    @inlined
    def fetch(pointer, at, far, count, found):
        for n in range(loads):
            value = acc(0)
            if n < count:
                value = load(pointer, index(at + n * far))
            found[n] = value

    @inlined
    def keep(shared, spot, far, found):
        for n in range(loads):
            shared[wide(spot + n * far)] = found[n]

    return share, count, fetch, keep
