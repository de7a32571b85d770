"""A SIMD type for Numba: vectors that live in registers, used from ordinary Python code.

A kernel gets a *kind*, a singleton such as ``Vector("f32")`` or a register tile, whose Numba type
carries the element type and the number of lanes. Addresses are int64, in bytes::

    total = zeros(kind)
    for i in range(n):
        at = i * vector_bytes(kind)
        total = fma(load(kind, a + at), load(kind, b + at), total)
    store(c, total)

Lanes come from the features of Numba's target, so one source serves AVX-512, AVX2, NEON and
plain SSE. Memory needs the alignment of one element only.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model

from convforge.kernels.cpu._ir import (
    at,
    broadcast,
    constant,
    is_integer,
    lanes_below,
    load_element,
    load_vector,
    masked_load,
    masked_store,
    multiply_add,
    store_vector,
)
from convforge.runtime.configuration import Configuration, ConfigurationType
from convforge.runtime.machine import cpu

_WORD = ir.IntType(64)
_INDEX = ir.IntType(32)
_BIT = ir.IntType(1)
_SCALARS = {"f32": types.float32, "f64": types.float64, "u8": types.uint8}
_SCALARS |= {f"i{bits}": getattr(types, f"int{bits}") for bits in (8, 16, 32, 64)}
_SCALARS |= {"f16": types.int16, "bf16": types.int16}  # as they are stored: see _convert
_FLOATS = {"f32": ir.FloatType(), "f64": ir.DoubleType()}
_ELEMENTS = {name: _FLOATS.get(name) or ir.IntType(s.bitwidth) for name, s in _SCALARS.items()}
_ITEMSIZES = {name: kind.bitwidth // 8 for name, kind in _SCALARS.items()}


class VectorType(types.Type):
    """Numba type of a vector value."""

    def __init__(self, element: str, lanes: int):
        self.element, self.lanes = element, lanes
        self.itemsize = _ITEMSIZES[element]
        self.llvm = ir.VectorType(_ELEMENTS[element], lanes)
        super().__init__(name=f"{element}x{lanes}")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


class KindType(ConfigurationType):
    """Numba type of a kind: all of its content."""

    def __init__(self, element: str, name: str | None = None):
        self.element = element
        self.lanes = cpu().vector_bytes // _ITEMSIZES[element]
        self.vector = VectorType(element, self.lanes)
        self.scalar = _SCALARS[element]
        # Inline assembly's letter for one of its vectors.
        self.register = "w" if cpu().isa == "neon" else "v"
        super().__init__(name=name or f"Vector[{element}x{self.lanes}]")

    @property
    def stored(self) -> VectorType:
        """What results of this kind are in memory."""
        return self.vector


class Vector(Configuration):
    """Kind of vectors with as many elements as a register of this machine holds."""

    def __init__(self, element: str):
        self._numba_type_ = KindType(element)

    @property
    def lanes(self) -> int:
        """Elements of one vector."""
        return self._numba_type_.lanes


@intrinsic
def lanes(context, kind):
    """Elements of a vector."""

    def codegen(context, builder, signature, args):
        return constant(kind.lanes)

    return types.int64(kind), codegen


@intrinsic
def itemsize(context, kind):
    """Bytes of an element."""

    def codegen(context, builder, signature, args):
        return constant(kind.vector.itemsize)

    return types.int64(kind), codegen


@intrinsic
def vector_bytes(context, kind):
    """Bytes of a vector."""

    def codegen(context, builder, signature, args):
        return constant(kind.lanes * kind.vector.itemsize)

    return types.int64(kind), codegen


@intrinsic
def zeros(context, kind):
    """A vector of zeros."""

    def codegen(context, builder, signature, args):
        return ir.Constant(kind.vector.llvm, None)

    return kind.vector(kind), codegen


@intrinsic
def load(context, kind, address):
    """A vector from memory."""

    def codegen(context, builder, signature, args):
        return load_vector(builder, args[1], kind)

    return kind.vector(kind, types.int64), codegen


@intrinsic
def load_first(context, kind, address, count):
    """The first ``count`` lanes from memory, the others zero and their memory untouched."""

    def codegen(context, builder, signature, args):
        mask = lanes_below(builder, args[2], kind.lanes)
        return masked_load(builder, args[1], mask, kind)

    return kind.vector(kind, types.int64, types.int64), codegen


@intrinsic
def store(context, address, value):
    """A vector to memory."""

    def codegen(context, builder, signature, args):
        store_vector(builder, args[1], args[0], value.itemsize)
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


@intrinsic
def store_first(context, address, value, count):
    """The first ``count`` lanes to memory; the memory of the others is untouched."""

    def codegen(context, builder, signature, args):
        mask = lanes_below(builder, args[2], value.lanes)
        masked_store(builder, args[1], args[0], mask, value.itemsize)
        return context.get_dummy_value()

    return types.void(types.int64, value, types.int64), codegen


@intrinsic
def load_scalar(context, kind, address):
    """One element from memory."""

    def codegen(context, builder, signature, args):
        return load_element(builder, args[1], kind)

    return kind.scalar(kind, types.int64), codegen


@intrinsic
def store_scalar(context, kind, address, value):
    """One element to memory, rounded to the kind's type."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], at(builder, args[1], args[2].type)).align = kind.vector.itemsize
        return context.get_dummy_value()

    return types.void(kind, types.int64, kind.scalar), codegen


@intrinsic
def scalar(context, kind, value):
    """A number in the kind's element type."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], value, kind.scalar)

    return kind.scalar(kind, value), codegen


@intrinsic
def splat(context, kind, value):
    """A vector that repeats a number."""

    def codegen(context, builder, signature, args):
        return broadcast(builder, args[1], kind.vector.llvm)

    return kind.vector(kind, kind.scalar), codegen


@intrinsic
def fma(context, a, b, c):
    """``a * b + c``, rounded once; integers wrap."""

    def codegen(context, builder, signature, args):
        return multiply_add(builder, *args)

    return a(a, a, a), codegen


@intrinsic
def where_less(context, a, b, yes, no):
    """Lanes of ``yes`` where ``a < b``, of ``no`` elsewhere and where a lane is NaN."""

    def codegen(context, builder, signature, args):
        compare = builder.icmp_signed if is_integer(a.llvm) else builder.fcmp_ordered
        return builder.select(compare("<", args[0], args[1]), args[2], args[3])

    return a(a, a, a, a), codegen


@intrinsic
def where_unordered(context, a, b, yes, no):
    """Lanes of ``yes`` where ``a`` or ``b`` is NaN, of ``no`` elsewhere."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_unordered("uno", args[0], args[1]), args[2], args[3])

    return a(a, a, a, a), codegen


def _operator(symbol, of_floats, of_integers):
    @intrinsic
    def apply(context, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, of_integers if is_integer(a.llvm) else of_floats)(*args)

        return a(a, a), codegen

    @overload(symbol)
    def overloaded(a, b):
        if isinstance(a, VectorType) and a == b:
            return lambda a, b: apply(a, b)
        return None


for _symbol, *_instructions in (
    (operator.add, "fadd", "add"),
    (operator.sub, "fsub", "sub"),
    (operator.mul, "fmul", "mul"),
    (operator.truediv, "fdiv", "sdiv"),
):
    _operator(_symbol, *_instructions)
