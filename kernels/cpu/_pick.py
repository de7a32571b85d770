"""Lanes of two registers, each picked by a number: one instruction of x86, wherever they lie."""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.contract import Machine
from convforge.kernels.cpu._ir import broadcast, declare, lanes_below, settled
from convforge.kernels.cpu._vector import VectorType
from convforge.kernels.cpu._wide import WideType

_HALF = ir.IntType(32)
_LANES_OF_AVX2 = ir.VectorType(_HALF, 8)
_PERMUTED = {"f32": "ps", "f64": "pd", "i32": "d", "i64": "q"}


def can_pick(machine: Machine) -> bool:
    """Whether a machine has the instruction."""
    return machine.isa in ("avx512", "avx2")


def _number_kind(kind):
    """Integers of an element's size, as many as a kind has lanes."""
    return WideType(f"i{8 * kind.vector.itemsize}", kind.lanes)


@intrinsic
def number_kind(context, kind):
    """The kind of the numbers by which lanes of this kind are picked."""

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return _number_kind(kind)(kind), codegen


@intrinsic
def numbers_from(context, numbers, first):
    """``first``, ``first + 1``, …, without the bits that do not fit."""

    def codegen(context, builder, signature, args):
        vector = numbers.vector.llvm
        start = args[1]
        if vector.element != start.type:
            start = builder.trunc(start, vector.element)
        lane = ir.Constant(vector, list(range(numbers.lanes)))
        return builder.add(broadcast(builder, start, vector), lane)

    return numbers.vector(numbers, types.int64), codegen


@intrinsic
def as_numbers(context, numbers, positions):
    """Positions as numbers, without the bits that do not fit."""

    def codegen(context, builder, signature, args):
        _, positions = args
        vector = numbers.vector.llvm
        return positions if vector == positions.type else builder.trunc(positions, vector)

    return numbers.vector(numbers, positions), codegen


@intrinsic
def load_until(context, kind, address, count, otherwise):
    """The first ``count`` lanes from memory, those of ``otherwise`` behind them."""

    def codegen(context, builder, signature, args):
        _, address, count, otherwise = args
        vector = kind.vector.llvm
        mask = lanes_below(builder, count, kind.lanes)
        function = declare(
            builder,
            f"llvm.masked.load.v{vector.count}{vector.element.intrinsic_name}.p0",
            vector,
            [vector.as_pointer(), _HALF, mask.type, vector],
        )
        align = ir.Constant(_HALF, kind.vector.itemsize)
        place = builder.inttoptr(address, vector.as_pointer())
        return builder.call(function, [place, align, mask, otherwise])

    return kind.vector(kind, types.int64, types.int64, kind.vector), codegen


@intrinsic
def unforeseen(context, number):
    """The number, of which the compiler knows nothing.

    A loop that it counts is not unrolled: eight steps at once need addresses and counts of their
    own, which cost more than the two or three steps that there are.
    """

    def codegen(context, builder, signature, args):
        return settled(builder, args[0])

    return types.int64(types.int64), codegen


@intrinsic
def pick_one(context, source, numbers):
    """Lanes of one register, of numbers or of positions."""
    wanted = VectorType(f"i{8 * source.itemsize}", source.lanes)

    def codegen(context, builder, signature, args):
        values, numbers = args
        if source.lanes * source.itemsize < 64:
            return _pick_avx2(builder, source, values, values, numbers)
        short = {"f32": "sf", "f64": "df", "i32": "si", "i64": "di"}[source.element]
        name = f"llvm.x86.avx512.permvar.{short}.512"
        function = declare(builder, name, source.llvm, [source.llvm, numbers.type])
        return builder.call(function, [values, numbers])

    return source(source, wanted), codegen


@intrinsic
def pick(context, low, high, numbers):
    """Lanes of ``low``, or from the number of its lanes on those of ``high``."""
    wanted = VectorType(f"i{8 * low.itemsize}", low.lanes)

    def codegen(context, builder, signature, args):
        if low.lanes * low.itemsize == 64:
            return _pick_avx512(builder, low, *args)
        return _pick_avx2(builder, low, *args)

    return low(low, low, wanted), codegen


def _pick_avx512(builder, kind, low, high, numbers):
    name = f"llvm.x86.avx512.vpermi2var.{_PERMUTED[kind.element]}.512"
    function = declare(builder, name, kind.llvm, [kind.llvm, numbers.type, kind.llvm])
    return builder.call(function, [low, numbers, high])


def _pick_avx2(builder, kind, low, high, numbers):
    """Both registers permuted, and a choice between them; 64 bits go as two of 32."""
    halves = numbers
    if kind.itemsize == 8:
        twice = [ir.Constant(numbers.type, [n] * kind.lanes) for n in (2 + (2 << 32), 1 << 32)]
        halves = builder.bitcast(
            builder.add(builder.mul(numbers, twice[0]), twice[1]), _LANES_OF_AVX2
        )
    vector = [_LANES_OF_AVX2, _LANES_OF_AVX2]
    permute = declare(builder, "llvm.x86.avx2.permd", _LANES_OF_AVX2, vector)
    below, above = (
        builder.bitcast(
            builder.call(permute, [builder.bitcast(x, _LANES_OF_AVX2), halves]), kind.llvm
        )
        for x in (low, high)
    )
    limit = ir.Constant(numbers.type, [kind.lanes] * kind.lanes)
    return builder.select(builder.icmp_signed("<", numbers, limit), below, above)
