"""Products of spectra: one matrix product a frequency, complex numbers as pairs of real rows.

With ``V = (-Im, Re, Im)`` in a row, the real and the imaginary part of ``V U`` are both one real
product by the rows ``(Im U, Re U)``: of ``(-Im, Re)`` and of ``(Re, Im)``. So the register tile
does all of it, at its own rate, on twice as many rows and twice as long sums.
"""

from __future__ import annotations

from convforge.kernels.cpu._tile import (
    accumulate_pixels,
    accumulate_run,
    tile_columns,
    tile_rows,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._vector import itemsize, vector_bytes
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import store_word
from convforge.runtime.tasks import claimed

PRODUCTS = Layout(
    "SpectralProducts",
    "frequencies rows inputs blocks matrix row part filters panel result result_row scratch_bytes",
)
"""Matrices there are, all groups taken together; complex rows of each, channels summed, panels of
outputs. Then bytes: of a matrix, of a complex row and of one of its three parts, of the
panels of a frequency and of one of them, of a resulting matrix and of a real row in it."""
_products = PRODUCTS.view
_POINTERS = Layout("SpectralPointers", "spectra weights results scratch")
_pointers = _POINTERS.view
SUMS = Layout(
    "SpectralSums",
    "frequencies rows outputs blocks left left_row left_part right right_row right_part "
    "result result_row",
)
"""As PRODUCTS, of the operands whose channels are a result's rows (left) and columns (right)."""
_sums = SUMS.view
_SUM_POINTERS = Layout("SpectralSumPointers", "left right results")
_sum_pointers = _SUM_POINTERS.view


@kernel
def multiply_spectra(tile, constants, pointers, worker, work):
    """Rows times weights, summed over channels; a task is one frequency."""
    c, p = _products(constants), _pointers(pointers)
    rows, wide = tile_rows(tile), tile_columns(tile) * vector_bytes(tile)
    table = p.scratch + worker * c.scratch_bytes
    for f in claimed(work, worker):
        matrix, result = p.spectra + f * c.matrix, p.results + f * c.result
        for start in range(0, 2 * c.rows, rows):
            for i in range(rows):
                at = min(start + i, 2 * c.rows - 1)
                store_word(table + 8 * i, matrix + (at >> 1) * c.row + (at & 1) * c.part)
            for block in range(c.blocks):
                panel = p.weights + f * c.filters + block * c.panel
                sums = tile_zeros(tile)
                sums = accumulate_run(tile, sums, table, 0, panel, c.inputs, itemsize(tile), wide)
                panel += c.inputs * wide
                sums = accumulate_run(
                    tile, sums, table, c.part, panel, c.inputs, itemsize(tile), wide
                )
                tile_store(tile, sums, result + start * c.result_row + block * wide, c.result_row)


@kernel
def correlate_spectra(tile, constants, pointers, worker, work):
    """Conjugated products summed over rows: what wgrad needs; a task is one frequency.

    The conjugate of ``conj(left) right`` is written, whose real and imaginary parts are sums of
    ``(Re, Im)`` of the left by ``(Re, Im)`` and by ``(-Im, Re)`` of the right.
    """
    c, p = _sums(constants), _sum_pointers(pointers)
    rows, wide = tile_rows(tile), tile_columns(tile) * vector_bytes(tile)
    for f in claimed(work, worker):
        left, right = p.left + f * c.left + c.left_part, p.right + f * c.right
        for start in range(0, c.outputs, rows):
            for block in range(c.blocks):
                a = left + start * itemsize(tile)
                result = p.results + f * c.result + 2 * start * c.result_row + block * wide
                for imaginary in range(2):
                    b = right + (1 - imaginary) * c.right_part + block * wide
                    sums = tile_zeros(tile)
                    sums = accumulate_pixels(tile, sums, a, b, c.rows, c.left_row, c.right_row)
                    sums = accumulate_pixels(
                        tile, sums, a + c.left_part, b + c.right_part,
                        c.rows, c.left_row, c.right_row,
                    )  # fmt: skip
                    place = result + imaginary * c.result_row
                    tile_store(tile, sums, place, 2 * c.result_row)
