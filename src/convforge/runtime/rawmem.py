"""Raw memory from inside kernels: words at int64 addresses, bytes moved by the C library."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_BYTE = ir.IntType(8)
_WORD = ir.IntType(64)
_NOT_VOLATILE = ir.Constant(ir.IntType(1), 0)


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(typing_context: Any, target: Any, source: Any, nbytes: Any) -> Any:
    """``memcpy`` between int64 addresses."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _BYTE.as_pointer()
        to, start = (builder.inttoptr(address, pointer) for address in args[:2])
        copy = builder.module.declare_intrinsic("llvm.memcpy", [pointer, pointer, _WORD])
        builder.call(copy, [to, start, args[2], _NOT_VOLATILE])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def clear_bytes(typing_context: Any, target: Any, nbytes: Any) -> Any:
    """``memset`` to zero at an int64 address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _BYTE.as_pointer()
        clear = builder.module.declare_intrinsic("llvm.memset", [pointer, _WORD])
        to = builder.inttoptr(args[0], pointer)
        builder.call(clear, [to, ir.Constant(_BYTE, 0), args[1], _NOT_VOLATILE])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def fill_bytes(typing_context: Any, target: Any, value: Any, nbytes: Any) -> Any:
    """``memset`` to the lowest byte of a value, at an int64 address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _BYTE.as_pointer()
        fill = builder.module.declare_intrinsic("llvm.memset", [pointer, _WORD])
        to = builder.inttoptr(args[0], pointer)
        builder.call(fill, [to, builder.trunc(args[1], _BYTE), args[2], _NOT_VOLATILE])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def load_word(typing_context: Any, address: Any) -> Any:
    """An int64 from memory."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def store_word(typing_context: Any, address: Any, value: Any) -> Any:
    """An int64 to memory."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], _WORD.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def replace_word(typing_context: Any, address: Any, expected: Any, value: Any) -> Any:
    """Replace an int64 if it is the expected one, atomically; returns what was there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], _WORD.as_pointer())
        found = builder.cmpxchg(place, args[1], args[2], "acq_rel", "monotonic")
        return builder.extract_value(found, 0)

    return types.int64(types.int64, types.int64, types.int64), codegen


def _ask(builder: Any, address: Any, write: int, near: int) -> None:
    pointer, number = _BYTE.as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    ask = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
    data = 1
    hints = (ir.Constant(number, value) for value in (write, near, data))
    builder.call(ask, [builder.inttoptr(address, pointer), *hints])


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for a cache line in the L2; an address that is nobody's does no harm."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _ask(builder, args[0], write=0, near=2)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_near(typing_context: Any, address: Any) -> Any:
    """Ask for a cache line in the L1."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _ask(builder, args[0], write=0, near=3)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_to_write(typing_context: Any, address: Any) -> Any:
    """Ask for a cache line that will be written, for this core alone."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _ask(builder, args[0], write=1, near=3)
        return context.get_dummy_value()

    return types.void(types.int64), codegen
