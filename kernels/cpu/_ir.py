"""Pieces of LLVM IR on vectors, from which the intrinsics of this room are built."""

from __future__ import annotations

from llvmlite import ir

_WORD = ir.IntType(64)
_INDEX = ir.IntType(32)
_BIT = ir.IntType(1)


def constant(value: int) -> ir.Constant:
    """An int64 of the generated code."""
    return ir.Constant(_WORD, value)


def at(builder, address, llvm_type):
    """The address as a pointer."""
    return builder.inttoptr(address, llvm_type.as_pointer())


def settled(builder, address, after=(), register=""):
    """The address as it is: its parts are not mixed with the steps that follow.

    LLVM would compute all addresses of a strip anew wherever one part of them changes.

    Args:
        after: Vectors that the compiler must know before it uses the address. The processor
            waits for nothing: not an instruction stands here.
        register: Letter of inline assembly for a vector register of the target.
    """
    arguments = [_WORD, *(vector.type for vector in after)]
    constraints = ",".join(["=r", "0", *[register] * len(after)])
    same = ir.InlineAsm(ir.FunctionType(_WORD, arguments), "", constraints)
    return builder.call(same, [address, *after])


def load_element(builder, address, kind):
    """One element from memory."""
    value = builder.load(at(builder, address, kind.vector.llvm.element))
    value.align = kind.vector.itemsize
    return value


def load_vector(builder, address, kind):
    """One vector from memory."""
    value = builder.load(at(builder, address, kind.vector.llvm))
    value.align = kind.vector.itemsize
    return value


def store_vector(builder, value, address, itemsize):
    """One vector to memory."""
    builder.store(value, at(builder, address, value.type)).align = itemsize


def broadcast(builder, element, llvm_type):
    """A vector that repeats an element."""
    undefined = ir.Constant(llvm_type, ir.Undefined)
    first = builder.insert_element(undefined, element, ir.Constant(_INDEX, 0))
    lanes = ir.Constant(ir.VectorType(_INDEX, llvm_type.count), [0] * llvm_type.count)
    return builder.shuffle_vector(first, undefined, lanes)


def declare(builder, name, result, arguments):
    """An LLVM intrinsic on vectors, which llvmlite cannot name by itself."""
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def is_integer(llvm_type):
    """Whether a vector's elements are integers."""
    return isinstance(llvm_type.element, ir.IntType)


def multiply_add(builder, a, b, c):
    """``a * b + c``, rounded once; integers wrap."""
    if is_integer(a.type):
        return builder.add(builder.mul(a, b), c)
    bits = 32 if isinstance(a.type.element, ir.FloatType) else 64
    name = f"llvm.fma.v{a.type.count}f{bits}"
    return builder.call(declare(builder, name, a.type, [a.type] * 3), [a, b, c])


def lanes_below(builder, count, lanes):
    """Mask of the first ``count`` lanes."""
    # Narrow numbers: one instruction compares those of a wide vector.
    small = ir.IntType(8 if lanes < 256 else 16)
    words = ir.VectorType(small, lanes)
    within = builder.select(
        builder.icmp_unsigned("<", count, constant(lanes)), count, constant(lanes)
    )
    some = builder.select(builder.icmp_signed("<", count, constant(0)), constant(0), within)
    numbers = ir.Constant(words, list(range(lanes)))
    return builder.icmp_unsigned(
        "<", numbers, broadcast(builder, builder.trunc(some, small), words)
    )


def masked_load(builder, address, mask, kind):
    """Selected lanes from memory, zero elsewhere; other addresses are not touched."""
    vector = kind.vector.llvm
    function = declare(
        builder,
        f"llvm.masked.load.v{vector.count}{vector.element.intrinsic_name}.p0",
        vector,
        [vector.as_pointer(), _INDEX, ir.VectorType(_BIT, vector.count), vector],
    )
    zero = ir.Constant(vector, None)
    align = ir.Constant(_INDEX, kind.vector.itemsize)
    return builder.call(function, [at(builder, address, vector), align, mask, zero])


def masked_store(builder, value, address, mask, itemsize):
    """Selected lanes to memory; other addresses are not touched."""
    vector = value.type
    function = declare(
        builder,
        f"llvm.masked.store.v{vector.count}{vector.element.intrinsic_name}.p0",
        ir.VoidType(),
        [vector, vector.as_pointer(), _INDEX, ir.VectorType(_BIT, vector.count)],
    )
    align = ir.Constant(_INDEX, itemsize)
    builder.call(function, [value, at(builder, address, vector), align, mask])
