"""Vectors of int64 with a lane for each row of a tile: positions of pixels, all rows at once.

There are as many lanes as the next power of two: LLVM takes others apart into single numbers.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from convforge.kernels.cpu._ir import at, broadcast, constant
from convforge.kernels.cpu._vector import VectorType


class MaskType(types.Type):
    """Numba type of the truth of something for each row."""

    def __init__(self, lanes: int):
        self.llvm = ir.VectorType(ir.IntType(1), lanes)
        super().__init__(name=f"maskx{lanes}")


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


@intrinsic
def rows_bytes(context, tile):
    """Memory of one number a row."""

    def codegen(context, builder, signature, args):
        return constant(8 * tile.slots)

    return types.int64(tile), codegen


@intrinsic
def row_numbers(context, tile):
    """0, 1, 2 and so on."""
    rows = VectorType("i64", tile.slots)

    def codegen(context, builder, signature, args):
        return ir.Constant(rows.llvm, list(range(tile.slots)))

    return rows(tile), codegen


@intrinsic
def every_row(context, tile, value):
    """One number in every row."""
    rows = VectorType("i64", tile.slots)

    def codegen(context, builder, signature, args):
        return broadcast(builder, args[1], rows.llvm)

    return rows(tile, types.int64), codegen


@intrinsic
def load_rows(context, tile, address):
    """A number for each row from memory."""
    rows = VectorType("i64", tile.slots)

    def codegen(context, builder, signature, args):
        value = builder.load(at(builder, args[1], rows.llvm))
        value.align = rows.itemsize
        return value

    return rows(tile, types.int64), codegen


@intrinsic
def plus(context, rows, number):
    """A number added to every row."""

    def codegen(context, builder, signature, args):
        return builder.add(args[0], broadcast(builder, args[1], rows.llvm))

    return rows(rows, types.int64), codegen


@intrinsic
def times_plus(context, rows, factor, others):
    """``rows * factor + others``, the factor being one number."""

    def codegen(context, builder, signature, args):
        return builder.add(builder.mul(args[0], broadcast(builder, args[1], rows.llvm)), args[2])

    return rows(rows, types.int64, rows), codegen


@intrinsic
def within(context, rows, offset, extent):
    """Where ``rows + offset`` is one of ``range(extent)``."""

    def codegen(context, builder, signature, args):
        moved = builder.add(args[0], broadcast(builder, args[1], rows.llvm))
        # Unsigned, a negative number is larger than any extent.
        return builder.icmp_unsigned("<", moved, broadcast(builder, args[2], rows.llvm))

    return MaskType(rows.lanes)(rows, types.int64, types.int64), codegen


@intrinsic
def both(context, a, b):
    """Where two masks are true."""

    def codegen(context, builder, signature, args):
        return builder.and_(*args)

    return a(a, a), codegen


@intrinsic
def pick(context, mask, yes, no):
    """Rows of ``yes`` where the mask is true, of ``no`` elsewhere."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return yes(mask, yes, yes), codegen


@intrinsic
def for_any(context, mask):
    """Whether a mask is true for a row."""

    def codegen(context, builder, signature, args):
        bits = ir.IntType(mask.llvm.count)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask), codegen


@intrinsic
def for_all(context, mask):
    """Whether a mask is true for every row."""

    def codegen(context, builder, signature, args):
        bits = ir.IntType(mask.llvm.count)
        return builder.icmp_unsigned("==", builder.bitcast(args[0], bits), ir.Constant(bits, -1))

    return types.boolean(mask), codegen
