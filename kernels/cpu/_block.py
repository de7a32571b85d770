"""Square blocks of ``lanes x lanes`` elements, transposed in registers."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

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
    """Rows become columns: log2(lanes) rounds of pairwise shuffles."""

    def codegen(context, builder, signature, args):
        n = kind.lanes
        rows = [builder.extract_value(args[1], i) for i in range(n)]
        distance = n // 2
        while distance:
            rows = _exchange(builder, rows, distance)
            distance //= 2
        result = args[1]
        for i, row in enumerate(rows):
            result = builder.insert_value(result, row, i)
        return result

    return _block_type(kind)(kind, _block_type(kind)), codegen


def _exchange(builder, rows, distance):
    """Swap the off-diagonal quarters of every square of twice the distance."""
    n = len(rows)
    # Lane i of the upper row keeps its own value, or takes the lower row's from distance before.
    upper = [i if not i & distance else n + i - distance for i in range(n)]
    lower = [i + distance if not i & distance else n + i for i in range(n)]
    lanes = ir.VectorType(_INDEX, n)
    exchanged = list(rows)
    for i in range(n):
        if not i & distance:
            a, b = rows[i], rows[i + distance]
            exchanged[i] = builder.shuffle_vector(a, b, ir.Constant(lanes, upper))
            exchanged[i + distance] = builder.shuffle_vector(a, b, ir.Constant(lanes, lower))
    return exchanged


@intrinsic
def block_store(context, kind, block, address, row_bytes, rows, columns):
    """The first ``rows`` rows and ``columns`` columns of a block to memory."""

    def codegen(context, builder, signature, args):
        _, block, address, row_bytes, rows, columns = args
        inside = lanes_below(builder, columns, kind.lanes)
        nothing = ir.Constant(inside.type, [0] * kind.lanes)
        for i in range(kind.lanes):
            wanted = builder.icmp_signed("<", constant(i), rows)
            mask = builder.select(broadcast(builder, wanted, inside.type), inside, nothing)
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            row = builder.extract_value(block, i)
            masked_store(builder, row, place, mask, kind.vector.itemsize)
        return context.get_dummy_value()

    places = (types.int64, types.int64, types.int64, types.int64)
    return types.void(kind, _block_type(kind), *places), codegen


@intrinsic
def columns_store(context, kind, block, address, row_bytes, columns):
    """All rows of a block, the first ``columns`` columns, to memory."""

    def codegen(context, builder, signature, args):
        _, block, address, row_bytes, columns = args
        mask = lanes_below(builder, columns, kind.lanes)
        for i in range(kind.lanes):
            place = builder.add(address, builder.mul(row_bytes, constant(i)))
            row = builder.extract_value(block, i)
            masked_store(builder, row, place, mask, kind.vector.itemsize)
        return context.get_dummy_value()

    places = (types.int64, types.int64, types.int64)
    return types.void(kind, _block_type(kind), *places), codegen
