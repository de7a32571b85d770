"""Elements from one type to another: half types to float32 and back, integers to wider types.

Float32 becomes bfloat16 in integer arithmetic, to the nearest and ties to even: the processor's
own instruction takes subnormal numbers for zeros.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._ir import (
    is_integer,
    lanes_below,
    load_vector,
    masked_load,
    masked_store,
    store_vector,
)
from convforge.kernels.cpu._vector import (
    KindType,
    VectorType,
    itemsize,
    lanes,
    load,
    load_first,
    store,
    store_first,
)
from convforge.problem import DType
from convforge.runtime.args import Layout
from convforge.runtime.configuration import Configuration
from convforge.runtime.jit import kernel
from convforge.runtime.tasks import claimed

PIECE = 4096
"""Elements of a task."""

_CONVERT = Layout("Convert", "count")
_convert = _CONVERT.view
_FROM_TO = Layout("ConvertPointers", "source target")
_from_to = _FROM_TO.view


class ChangeType(KindType):
    """Numba type of a kind whose elements are stored as another type.

    Args:
        lanes: Where they are not those of a register.
    """

    def __init__(self, element: str, stored: str, lanes: int = 0):
        super().__init__(element)
        if lanes:
            self.lanes, self.vector = lanes, VectorType(element, lanes)
        self.name = f"Change[{element}x{self.lanes},{stored}]"
        self._stored = VectorType(stored, self.lanes)

    @property
    def stored(self) -> VectorType:
        """What memory holds."""
        return self._stored


class Change(Configuration):
    """Kind of vectors of ``element`` that memory holds as ``stored``, which is no wider."""

    def __init__(self, element: str, stored: str):
        self._numba_type_ = ChangeType(element, stored)


def widened(builder, value, stored: VectorType, kind: VectorType):
    """A vector of stored elements as a vector of the kind's."""
    if stored.element == kind.element:
        return value
    if stored.element == "f16":
        half = ir.VectorType(ir.HalfType(), stored.lanes)
        return builder.fpext(builder.bitcast(value, half), kind.llvm)
    if stored.element == "bf16":
        words = ir.VectorType(ir.IntType(32), stored.lanes)
        high = builder.shl(builder.zext(value, words), ir.Constant(words, [16] * stored.lanes))
        return builder.bitcast(high, kind.llvm)
    unsigned = stored.element.startswith("u")
    if is_integer(kind.llvm):
        extend = builder.zext if unsigned else builder.sext
    else:
        extend = builder.uitofp if unsigned else builder.sitofp
    return extend(value, kind.llvm)


def narrowed(builder, value, kind: VectorType, stored: VectorType):
    """A vector of the kind's elements as they are stored, rounded to nearest; integers wrap.

    Floats to integers must be integers, and fit.
    """
    if stored.element == kind.element:
        return value
    if stored.element == "f16":
        half = builder.fptrunc(value, ir.VectorType(ir.HalfType(), stored.lanes))
        return builder.bitcast(half, stored.llvm)
    if stored.element == "bf16":
        return _to_bfloat16(builder, value, stored)
    if not is_integer(kind.llvm):
        convert = builder.fptoui if stored.element.startswith("u") else builder.fptosi
        return convert(value, stored.llvm)
    return builder.trunc(value, stored.llvm)


def _to_bfloat16(builder, value, stored):
    words = ir.VectorType(ir.IntType(32), stored.lanes)

    def repeat(number):
        return ir.Constant(words, [number] * stored.lanes)

    bits = builder.bitcast(value, words)
    odd = builder.and_(builder.lshr(bits, repeat(16)), repeat(1))
    rounded = builder.add(bits, builder.add(odd, repeat(0x7FFF)))
    # Rounding up could carry a NaN's last bits into infinity: it becomes a quiet one instead.
    quiet = builder.or_(bits, repeat(1 << 22))
    is_nan = builder.fcmp_unordered("uno", value, value)
    chosen = builder.select(is_nan, quiet, rounded)
    return builder.trunc(builder.lshr(chosen, repeat(16)), stored.llvm)


class _Stored:
    """What the pieces of IR know a kind by, for the stored elements."""

    def __init__(self, vector):
        self.vector = vector


@intrinsic
def vectors_of(context, kind):
    """The kind of a kind's vectors and of how memory holds them, without anything else.

    What needs no more is compiled once for all tiles and transforms.
    """
    vectors = ChangeType(kind.element, kind.stored.element, kind.lanes)

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return vectors(kind), codegen


@intrinsic
def load_stored(context, kind, address, count):
    """The first ``count`` lanes, widened from memory; the others are zero."""

    def codegen(context, builder, signature, args):
        mask = lanes_below(builder, args[2], kind.lanes)
        value = masked_load(builder, args[1], mask, _Stored(kind.stored))
        return widened(builder, value, kind.stored, kind.vector)

    return kind.vector(kind, types.int64, types.int64), codegen


@intrinsic
def load_all_stored(context, kind, address):
    """A vector, widened from memory."""

    def codegen(context, builder, signature, args):
        value = load_vector(builder, args[1], _Stored(kind.stored))
        return widened(builder, value, kind.stored, kind.vector)

    return kind.vector(kind, types.int64), codegen


@intrinsic
def store_stored(context, kind, address, value, count):
    """The first ``count`` lanes to memory, narrowed."""

    def codegen(context, builder, signature, args):
        mask = lanes_below(builder, args[3], kind.lanes)
        narrow = narrowed(builder, args[2], kind.vector, kind.stored)
        masked_store(builder, narrow, args[1], mask, kind.stored.itemsize)
        return context.get_dummy_value()

    return types.void(kind, types.int64, kind.vector, types.int64), codegen


@intrinsic
def store_all_stored(context, kind, address, value):
    """A vector to memory, narrowed."""

    def codegen(context, builder, signature, args):
        narrow = narrowed(builder, args[2], kind.vector, kind.stored)
        store_vector(builder, narrow, args[1], kind.stored.itemsize)
        return context.get_dummy_value()

    return types.void(kind, types.int64, kind.vector), codegen


@intrinsic
def stored_itemsize(context, kind):
    """Bytes of an element in memory."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int64, kind.stored.itemsize)

    return types.int64(kind), codegen


def widen_step(source: str, target: str, stored: DType, wide: DType, count: int) -> Step:
    """``count`` adjacent elements to a type that holds each of them exactly."""
    return _step("widen", widen_elements, source, target, stored, wide, count)


def narrow_step(source: str, target: str, wide: DType, stored: DType, count: int) -> Step:
    """``count`` adjacent elements, each rounded once; integers wrap."""
    return _step("narrow", narrow_elements, source, target, stored, wide, count)


def _step(name, kernel, source, target, stored: DType, wide: DType, count: int) -> Step:
    return Step(
        name=name,
        kernel=KernelRef(kernel, Change(wide.value, stored.value)),
        operands=(source, target),
        constants=_CONVERT.pack(count=count),
        tasks=-(-count // PIECE),
        cost=Cost(bytes=count * (stored.itemsize + wide.itemsize)),
    )


@kernel
def widen_elements(kind, constants, pointers, worker, work):
    """Stored elements to the kind's; a task is a piece."""
    c, p = _convert(constants), _from_to(pointers)
    for piece in claimed(work, worker):
        first, end = piece * PIECE, min(c.count, (piece + 1) * PIECE)
        whole = end - (end - first) % lanes(kind)
        for i in range(first, whole, lanes(kind)):
            source = p.source + i * stored_itemsize(kind)
            store(p.target + i * itemsize(kind), load_all_stored(kind, source))
        if whole < end:
            value = load_stored(kind, p.source + whole * stored_itemsize(kind), end - whole)
            store_first(p.target + whole * itemsize(kind), value, end - whole)


@kernel
def narrow_elements(kind, constants, pointers, worker, work):
    """The kind's elements to stored ones; a task is a piece."""
    c, p = _convert(constants), _from_to(pointers)
    for piece in claimed(work, worker):
        first, end = piece * PIECE, min(c.count, (piece + 1) * PIECE)
        whole = end - (end - first) % lanes(kind)
        for i in range(first, whole, lanes(kind)):
            value = load(kind, p.source + i * itemsize(kind))
            store_all_stored(kind, p.target + i * stored_itemsize(kind), value)
        if whole < end:
            value = load_first(kind, p.source + whole * itemsize(kind), end - whole)
            store_stored(kind, p.target + whole * stored_itemsize(kind), value, end - whole)
