"""The register tile: rows x vectors of accumulators, and rank-1 updates of it.

Convolution here is a batch-reduce GEMM: for each tap of the filter, rows of the tile point at
pixels, and the tile adds ``rows x lanes`` products per element of a run of channels. The tile is
a tuple of vectors that LLVM keeps in registers; everything around it is an ordinary loop.

Georganas et al. 2020, "Harnessing Deep Learning via a Single Building Block" (arXiv:1906.06440);
rows that point anywhere: Dukhan 2019, "The Indirect Convolution Algorithm" (arXiv:1907.02129).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._convert import narrowed
from convforge.kernels.cpu._ir import (
    broadcast,
    constant,
    load_element,
    load_vector,
    multiply_add,
    settled,
    store_vector,
)
from convforge.kernels.cpu._vector import KindType
from convforge.runtime.configuration import Configuration
from convforge.runtime.jit import device, inlined
from convforge.runtime.rawmem import load_word, prefetch

_ROWS_AHEAD = 2
"""Rows whose elements are in registers at a time."""


class TileType(KindType):
    """Numba type of a tile's configuration: element, rows, vectors per row."""

    def __init__(self, element: str, rows: int, columns: int):
        self.rows, self.columns = rows, columns
        self.slots = 1 << (rows - 1).bit_length()
        super().__init__(element, f"Tile[{element},{rows},{columns}]")
        self.accumulators = types.UniTuple(self.vector, rows * columns)
        self.pointers = types.UniTuple(types.int64, rows)

    zero_byte = 0
    """What every byte of a zero among the factors of rows is."""

    @property
    def operand(self):
        """What the pieces of IR that load a product's factors know them by."""
        return self

    def multiply_add(self, builder, a, b, total):
        """``total + a * b``: how a product of factors is added to a sum."""
        return multiply_add(builder, a, b, total)


class Tile(Configuration):
    """Configuration of a tile: ``rows`` pixels by ``columns`` vectors of output channels."""

    def __init__(self, element: str, rows: int, columns: int):
        self._numba_type_ = TileType(element, rows, columns)
        self.rows, self.slots = rows, self._numba_type_.slots
        self.lanes = self._numba_type_.lanes
        self.itemsize = self._numba_type_.vector.itemsize
        self.zero_byte = self._numba_type_.zero_byte
        self.width = columns * self.lanes


@intrinsic
def tile_rows(context, tile):
    """Rows of the tile, hence pixels."""

    def codegen(context, builder, signature, args):
        return constant(tile.rows)

    return types.int64(tile), codegen


@intrinsic
def tile_columns(context, tile):
    """Vectors in a row of the tile."""

    def codegen(context, builder, signature, args):
        return constant(tile.columns)

    return types.int64(tile), codegen


@intrinsic
def tile_zeros(context, tile):
    """Accumulators set to zero."""
    return tile.accumulators(tile), _zeros(tile)


def _zeros(tile):
    def codegen(context, builder, signature, args):
        return ir.Constant(ir.ArrayType(tile.vector.llvm, tile.rows * tile.columns), None)

    return codegen


@intrinsic
def tile_start(context, tile, address):
    """Accumulators before the first product: zeros, or each row that at the address."""
    if not tile.zero_byte:
        return tile.accumulators(tile, types.int64), _zeros(tile)

    def codegen(context, builder, signature, args):
        array = ir.Constant(context.get_value_type(tile.accumulators), ir.Undefined)
        for i, place in _places(builder, tile, args[1], constant(0)):
            array = builder.insert_value(array, load_vector(builder, place, tile), i)
        return array

    return tile.accumulators(tile, types.int64), codegen


@intrinsic
def zeros_count(context, tile):
    """Whether products with zeros of the source change sums: where they are not zero in memory."""

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.IntType(1), int(tile.zero_byte != 0))

    return types.boolean(tile), codegen


@intrinsic
def tile_load(context, tile, address, row_bytes):
    """Accumulators from memory, rows ``row_bytes`` apart."""

    def codegen(context, builder, signature, args):
        array = ir.Constant(context.get_value_type(tile.accumulators), ir.Undefined)
        for i, place in _places(builder, tile, args[1], args[2]):
            array = builder.insert_value(array, load_vector(builder, place, tile), i)
        return array

    return tile.accumulators(tile, types.int64, types.int64), codegen


@intrinsic
def tile_store(context, tile, accumulators, address, row_bytes):
    """Accumulators to memory, rows ``row_bytes`` apart."""

    def codegen(context, builder, signature, args):
        for i, place in _places(builder, tile, args[2], args[3]):
            value = builder.extract_value(args[1], i)
            store_vector(builder, value, place, tile.vector.itemsize)
        return context.get_dummy_value()

    return types.void(tile, tile.accumulators, types.int64, types.int64), codegen


@intrinsic
def tile_scatter(context, tile, accumulators, table, base, row_bytes):
    """Accumulators to memory as they are stored, row i at ``base + table[i] * row_bytes``."""

    def codegen(context, builder, signature, args):
        _, accumulators, table, base, row_bytes = args
        word = ir.IntType(64)
        for row in range(tile.rows):
            at = builder.inttoptr(builder.add(table, constant(8 * row)), word.as_pointer())
            start = builder.add(base, builder.mul(builder.load(at), row_bytes))
            for column in range(tile.columns):
                place = builder.add(start, constant(column * tile.lanes * tile.stored.itemsize))
                value = builder.extract_value(accumulators, row * tile.columns + column)
                value = narrowed(builder, value, tile.vector, tile.stored)
                store_vector(builder, value, place, tile.stored.itemsize)
        return context.get_dummy_value()

    places = (types.int64, types.int64, types.int64)
    return types.void(tile, tile.accumulators, *places), codegen


def _places(builder, tile, address, row_bytes):
    """Index and address of each accumulator."""
    vector_bytes = tile.lanes * tile.vector.itemsize
    for row in range(tile.rows):
        start = builder.add(address, builder.mul(row_bytes, constant(row)))
        for column in range(tile.columns):
            place = builder.add(start, constant(column * vector_bytes))
            yield row * tile.columns + column, place


@intrinsic
def row_pointers(context, tile, table, offset):
    """The tile's row addresses, read from a table of int64, each moved by ``offset`` bytes."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        array = ir.Constant(ir.ArrayType(word, tile.rows), ir.Undefined)
        for row in range(tile.rows):
            place = builder.add(args[1], constant(8 * row))
            pointer = builder.load(builder.inttoptr(place, word.as_pointer()))
            array = builder.insert_value(array, builder.add(pointer, args[2]), row)
        return array

    return tile.pointers(tile, types.int64, types.int64), codegen


def _rank1(builder, tile, accumulators, elements, b):
    """``acc[i, j] += elements[i] * b[j]``; ``elements`` loads one, given a finished row."""
    vector_bytes = tile.lanes * tile.vector.itemsize
    row_of_b = [
        load_vector(builder, builder.add(b, constant(j * vector_bytes)), tile.operand)
        for j in range(tile.columns)
    ]
    sums = [builder.extract_value(accumulators, i) for i in range(tile.rows * tile.columns)]
    for i in range(tile.rows):
        before = max(0, i - _ROWS_AHEAD) * tile.columns
        finished = sums[before : before + tile.columns] if i >= _ROWS_AHEAD else []
        splat = broadcast(builder, elements(i, finished), tile.operand.vector.llvm)
        for at, vector in enumerate(row_of_b, i * tile.columns):
            sums[at] = tile.multiply_add(builder, splat, vector, sums[at])
            accumulators = builder.insert_value(accumulators, sums[at], at)
    return accumulators


def scattered_elements(builder, tile, pointers, offset):
    """Loads elements ``offset`` bytes behind pointers, in order."""

    def element(i, finished):
        nonlocal offset
        # LLVM would count up every pointer, or load all elements first and spill the sums.
        offset = settled(builder, offset, finished, tile.register)
        address = builder.add(builder.extract_value(pointers, i), offset)
        return load_element(builder, address, tile.operand)

    return element


@intrinsic
def outer(context, tile, accumulators, pointers, offset, b):
    """Rank-1 update: column ``pointers[i] + offset`` times the row of vectors at ``b``."""

    def codegen(context, builder, signature, args):
        _, accumulators, pointers, offset, b = args
        elements = scattered_elements(builder, tile, pointers, offset)
        return _rank1(builder, tile, accumulators, elements, b)

    places = (tile.pointers, types.int64, types.int64)
    return tile.accumulators(tile, tile.accumulators, *places), codegen


@intrinsic
def outer_adjacent(context, tile, accumulators, a, b):
    """Rank-1 update: the adjacent elements at ``a`` times the row of vectors at ``b``."""

    def codegen(context, builder, signature, args):
        _, accumulators, a, b = args

        def element(i, finished):
            return load_element(builder, builder.add(a, constant(i * tile.vector.itemsize)), tile)

        return _rank1(builder, tile, accumulators, element, b)

    return tile.accumulators(tile, tile.accumulators, types.int64, types.int64), codegen


@inlined
def accumulate_run(tile, accumulators, table, offset, b, length, step, panel_row):
    """Add ``length`` rank-1 updates: rows from the table, ``step`` bytes on; B rows adjacent."""
    pointers = row_pointers(tile, table, offset)
    for i in range(length):
        accumulators = outer(tile, accumulators, pointers, i * step, b + i * panel_row)
    return accumulators


@inlined
def accumulate_run_ahead(
    tile, accumulators, table, offset, b, length, step, panel_row, soon, soon_step
):
    """Add ``length`` rank-1 updates: rows from the table, ``step`` bytes on; B rows adjacent.

    Asks for memory that is needed soon: one cache line an update, ``soon_step`` bytes apart.
    """
    pointers = row_pointers(tile, table, offset)
    for i in range(length):
        accumulators = outer(tile, accumulators, pointers, i * step, b + i * panel_row)
        prefetch(soon + i * soon_step)
    return accumulators


@inlined
def accumulate_each(tile, accumulators, table, offsets, b, length, panel_row):
    """Add ``length`` rank-1 updates: rows from the table, moved by one offset after another."""
    pointers = row_pointers(tile, table, 0)
    for i in range(length):
        offset = load_word(offsets + 8 * i)
        accumulators = outer(tile, accumulators, pointers, offset, b + i * panel_row)
    return accumulators


@device
def accumulate_pixels(tile, accumulators, a, b, length, a_step, b_step):
    """Add ``length`` rank-1 updates of adjacent elements: one a pixel, both operands moving on."""
    for i in range(length):
        accumulators = outer_adjacent(tile, accumulators, a + i * a_step, b + i * b_step)
    return accumulators
