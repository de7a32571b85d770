"""Square blocks of ``lanes x lanes`` elements, transposed in registers."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._convert import narrowed
from convforge.kernels.cpu._ir import (
    broadcast,
    constant,
    lanes_below,
    load_vector,
    masked_load,
    masked_store,
    store_vector,
)
from convforge.kernels.cpu._vector import KindType

_INDEX = ir.IntType(32)
_GROUP_BYTES = 16
"""Within these, x86 interleaves two registers; AVX2 and AVX-512 move them as a whole."""


def _block_type(kind: KindType) -> types.UniTuple:
    return types.UniTuple(kind.vector, kind.lanes)


@intrinsic
def whole_load(context, kind, address, row_bytes):
    """A block that is in memory as a whole."""

    def codegen(context, builder, signature, args):
        _, address, row_bytes = args
        block = ir.Constant(context.get_value_type(_block_type(kind)), ir.Undefined)
        for i in range(kind.lanes):
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            block = builder.insert_value(block, load_vector(builder, place, kind), i)
        return block

    return _block_type(kind)(kind, types.int64, types.int64), codegen


@intrinsic
def whole_store(context, kind, block, address, row_bytes):
    """All of a block to memory."""

    def codegen(context, builder, signature, args):
        _, block, address, row_bytes = args
        for i in range(kind.lanes):
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            row = builder.extract_value(block, i)
            store_vector(builder, row, place, kind.vector.itemsize)
        return context.get_dummy_value()

    return types.void(kind, _block_type(kind), types.int64, types.int64), codegen


@intrinsic
def block_load(context, kind, address, row_bytes, rows, columns):
    """A block whose first ``rows`` rows and ``columns`` columns are in memory; zero elsewhere."""

    def codegen(context, builder, signature, args):
        _, address, row_bytes, rows, columns = args
        inside = lanes_below(builder, columns, kind.lanes)
        nothing = ir.Constant(inside.type, [0] * kind.lanes)
        block = ir.Constant(context.get_value_type(_block_type(kind)), ir.Undefined)
        for i in range(kind.lanes):
            wanted = builder.icmp_signed("<", constant(i), rows)
            mask = builder.select(broadcast(builder, wanted, inside.type), inside, nothing)
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            block = builder.insert_value(block, masked_load(builder, place, mask, kind), i)
        return block

    arguments = (kind, types.int64, types.int64, types.int64, types.int64)
    return _block_type(kind)(*arguments), codegen


@intrinsic
def block_transpose(context, kind, block):
    """Rows become columns: log2(lanes) rounds of shuffles that x86 has an instruction for."""

    def codegen(context, builder, signature, args):
        rows = [builder.extract_value(args[1], i) for i in range(kind.lanes)]
        group = min(_GROUP_BYTES // kind.vector.itemsize, kind.lanes)
        result = args[1]
        for i, row in enumerate(_transposed(builder, rows, group)):
            result = builder.insert_value(result, row, i)
        return result

    return _block_type(kind)(kind, _block_type(kind)), codegen


def _transposed(builder, rows, group):
    """Rows ``distance`` apart exchange halves: of every group at first, then whole groups."""
    n = len(rows)
    lanes = ir.VectorType(_INDEX, n)
    distance = 1
    while distance < n:
        low, high = _within(n, group, distance) if distance < group else _between(n, group)
        exchanged = list(rows)
        for i in range(n):
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                exchanged[i] = builder.shuffle_vector(a, b, ir.Constant(lanes, low))
                exchanged[i + distance] = builder.shuffle_vector(a, b, ir.Constant(lanes, high))
        rows = exchanged
        distance *= 2
    # The rounds within groups leave a group's columns in the order of their reversed bits.
    return [rows[i - i % group + _reversed_bits(i % group, group)] for i in range(n)]


def _within(n, group, width):
    """Lanes of two rows that alternate, ``width`` each: of every group's lower, upper half."""
    low, high = [], []
    for start in range(0, n, group):
        for at in range(start, start + group // 2, width):
            for lanes, place in ((low, at), (high, at + group // 2)):
                pair = range(place, place + width)
                lanes += [*pair, *(n + lane for lane in pair)]
    return low, high


def _between(n, group):
    """Lanes of the even groups of one row and then of the other, and of the odd groups."""
    both = range(2 * n)
    return [i for i in both if not i & group], [i for i in both if i & group]


def _reversed_bits(number, size):
    return (
        number if size <= 2 else (number & 1) * size // 2 + _reversed_bits(number // 2, size // 2)
    )


@intrinsic
def block_store(context, kind, block, address, row_bytes, rows, columns):
    """The first ``rows`` rows and ``columns`` columns of a block to memory, as it is stored."""

    def codegen(context, builder, signature, args):
        _, block, address, row_bytes, rows, columns = args
        inside = lanes_below(builder, columns, kind.lanes)
        nothing = ir.Constant(inside.type, [0] * kind.lanes)
        for i in range(kind.lanes):
            wanted = builder.icmp_signed("<", constant(i), rows)
            mask = builder.select(broadcast(builder, wanted, inside.type), inside, nothing)
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            row = narrowed(builder, builder.extract_value(block, i), kind.vector, kind.stored)
            masked_store(builder, row, place, mask, kind.stored.itemsize)
        return context.get_dummy_value()

    places = (types.int64, types.int64, types.int64, types.int64)
    return types.void(kind, _block_type(kind), *places), codegen


@intrinsic
def columns_store(context, kind, block, address, row_bytes, columns):
    """All rows of a block, the first ``columns`` columns, to memory, as they are stored."""

    def codegen(context, builder, signature, args):
        _, block, address, row_bytes, columns = args
        mask = lanes_below(builder, columns, kind.lanes)
        for i in range(kind.lanes):
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            row = narrowed(builder, builder.extract_value(block, i), kind.vector, kind.stored)
            masked_store(builder, row, place, mask, kind.stored.itemsize)
        return context.get_dummy_value()

    places = (types.int64, types.int64, types.int64)
    return types.void(kind, _block_type(kind), *places), codegen
