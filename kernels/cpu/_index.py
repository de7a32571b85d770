"""Positions that accompany the vectors of a kind, and masks that choose between lanes."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from convforge.kernels.cpu._ir import broadcast
from convforge.kernels.cpu._vector import VectorType
from convforge.kernels.cpu._wide import WideType


class MaskType(types.Type):
    """Numba type of one bit a lane."""

    def __init__(self, lanes: int):
        self.llvm = ir.VectorType(ir.IntType(1), lanes)
        super().__init__(name=f"mask{lanes}")


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


@intrinsic
def index_kind(context, kind):
    """The kind of int64 vectors with as many lanes as this kind's."""

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return WideType("i64", kind.lanes)(kind), codegen


@intrinsic
def half_kind(context, kind):
    """The kind of int32 vectors with as many lanes as this kind's."""

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return WideType("i32", kind.lanes)(kind), codegen


@intrinsic
def low_halves(context, x):
    """Each lane's lower 32 bits."""
    half = VectorType("i32", x.lanes)

    def codegen(context, builder, signature, args):
        return builder.trunc(args[0], half.llvm)

    return half(x), codegen


@intrinsic
def equal(context, a, b):
    """Lanes of two vectors of positions that are equal."""

    def codegen(context, builder, signature, args):
        return builder.icmp_signed("==", *args)

    return MaskType(a.lanes)(a, a), codegen


@intrinsic
def in_row(context, rows, width, first):
    """Positions in a plane: ``rows * width + first + lane``."""

    def codegen(context, builder, signature, args):
        rows, width, first = args
        vector = rows.type
        lane = ir.Constant(vector, list(range(vector.count)))
        start = builder.mul(rows, broadcast(builder, width, vector))
        return builder.add(start, builder.add(lane, broadcast(builder, first, vector)))

    return rows(rows, types.int64, types.int64), codegen


@intrinsic
def exceeds(context, x, best):
    """Lanes where ``x`` displaces a ``best`` from before it: it is larger, or NaN."""

    def codegen(context, builder, signature, args):
        larger = builder.fcmp_ordered(">", *args)
        return builder.or_(larger, builder.fcmp_unordered("uno", args[0], args[0]))

    return MaskType(x.lanes)(x, x), codegen


@intrinsic
def outranks(context, x, index, best, best_index):
    """Lanes where ``x`` displaces ``best``, whichever of the two comes first.

    The larger wins, and NaN over any number; of equals the first one, of two NaNs the last.
    """

    def codegen(context, builder, signature, args):
        x, index, best, best_index = args
        first = builder.icmp_signed("<", index, best_index)
        larger = builder.fcmp_ordered(">", x, best)
        first_of_equals = builder.and_(builder.fcmp_ordered("==", x, best), first)
        is_nan = builder.fcmp_unordered("uno", x, x)
        last_nan = builder.or_(builder.fcmp_ordered("ord", best, best), builder.not_(first))
        wins = builder.or_(larger, first_of_equals)
        return builder.or_(wins, builder.and_(is_nan, last_nan))

    return MaskType(x.lanes)(x, index, x, index), codegen


@intrinsic
def choose(context, mask, yes, no):
    """Lanes of ``yes`` under the mask, of ``no`` elsewhere; of numbers or of positions."""

    def codegen(context, builder, signature, args):
        return builder.select(*args)

    return yes(mask, yes, yes), codegen
