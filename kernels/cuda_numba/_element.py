"""Elements: loaded to the type that sums are kept in, stored from it; integers of one width.

What is made here is a function for a pair of types, and is inlined where a kernel calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cuda, types
from numba.cuda import libdevice

from convforge.problem import DType

FLOATS = (DType.F32, DType.F64, DType.F16, DType.BF16)
"""Types of elements that the room computes with."""
LOAD_COST = 4
"""Multiplications that take as long as a load that the nearest cache answers."""
_NUMBA = {
    "f16": types.float16,
    "f32": types.float32,
    "f64": types.float64,
    "i8": types.int8,
    "u8": types.uint8,
    "i16": types.int16,
    "i32": types.int32,
    "i64": types.int64,
}
inlined = cuda.jit(device=True, inline="always")
"""Decorator of the functions that kernels call: a part of each kernel, compiled with it."""


@dataclass(frozen=True, slots=True)
class Types:
    """The least that a configuration says.

    Attributes:
        index: ``i32`` where every offset fits, else ``i64``.
        acc: Type of the sums. pointers: Types of the operands' elements.
    """

    index: str
    acc: str
    pointers: tuple[str, ...]


def number_type(name: str) -> Any:
    """Numba's type of what a name such as ``f32`` or ``i32`` stands for."""
    return _NUMBA[name]


def unsigned_type(index: str) -> Any:
    """The unsigned integers as wide as an index type."""
    return {"i32": types.uint32, "i64": types.uint64}[index]


def loader(dtype: str, acc: str) -> Callable[[Any, Any], Any]:
    """``load(pointer, i)``: element ``i`` in the type of the sums."""
    wide = number_type(acc)
    if dtype == "bf16":
        # The upper half of a float32.
        @inlined
        def load(pointer, i):
            return wide(libdevice.int_as_float(types.int32(pointer[i]) << types.int32(16)))
    else:

        @inlined
        def load(pointer, i):
            return wide(pointer[i])

    return load


def storer(dtype: str) -> Callable[[Any, Any, Any], None]:
    """``store(pointer, i, value)``: rounded to the type of the elements."""
    if dtype == "bf16":

        @inlined
        def store(pointer, i, value):
            bits = types.uint32(libdevice.float_as_int(value))
            # To the nearest, ties to even; a NaN stays one.
            rounded = bits + types.uint32(0x7FFF) + ((bits >> types.uint32(16)) & types.uint32(1))
            if value != value:
                rounded = types.uint32(0x7FC00000)
            pointer[i] = types.uint16(rounded >> types.uint32(16))
    else:
        narrow = number_type(dtype)

        @inlined
        def store(pointer, i, value):
            pointer[i] = narrow(value)

    return store


def divider(index: str) -> Callable[[Any, Any], Any]:
    """``divide(a, b)``: quotient and rest of what is not negative, without 64-bit division."""
    unsigned, signed = unsigned_type(index), number_type(index)

    @inlined
    def divide(a, b):
        quotient = signed(unsigned(a) // unsigned(b))
        return quotient, signed(a - quotient * b)

    return divide
