"""Four neighbouring float32 at once: 16 bytes, the widest access that a thread has.

Numba makes one access of each element. Where the first of them is not on a multiple of 16 bytes, or
the type is another one, these are single accesses all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.extending import intrinsic

from convforge.kernels.cuda_numba._element import inlined, loader, storer

LANES = 4
_BYTES = 16
_FLOAT, _ADDRESS = ir.FloatType(), ir.IntType(64)


@intrinsic
def address_of(typing_context, pointer):
    """A pointer as an integer."""

    def generate(context, builder, signature, values):
        return builder.ptrtoint(values[0], _ADDRESS)

    return types.int64(pointer), generate


@intrinsic
def _load_four(typing_context, address):
    """Four float32 that nobody writes while the kernel runs."""

    def generate(context, builder, signature, values):
        four = ir.LiteralStructType([_FLOAT] * LANES)
        assembly = ir.InlineAsm(
            ir.FunctionType(four, [_ADDRESS]),
            "ld.global.nc.v4.f32 {$0, $1, $2, $3}, [$4];",
            "=f,=f,=f,=f,l",
            side_effect=False,
        )
        found = builder.call(assembly, [values[0]])
        parts = [builder.extract_value(found, i) for i in range(LANES)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(types.float32, LANES)(types.int64), generate


@intrinsic
def _store_four(typing_context, address, a, b, c, d):
    """Four float32."""

    def generate(context, builder, signature, values):
        assembly = ir.InlineAsm(
            ir.FunctionType(ir.VoidType(), [_ADDRESS] + [_FLOAT] * LANES),
            "st.global.v4.f32 [$0], {$1, $2, $3, $4};",
            "l,f,f,f,f,~{memory}",
            side_effect=True,
        )
        builder.call(assembly, values)
        return context.get_dummy_value()

    return types.void(types.int64, *[types.float32] * LANES), generate


def is_wide(dtype: str, channels: int, *, channels_last: bool) -> bool:
    """Whether threads take four channels: neighbours in memory, and none left over."""
    return dtype == "f32" and channels_last and channels % LANES == 0


def wide_access(dtype: str, acc: str, lanes: int) -> tuple[Callable[..., Any], ...]:
    """``aligned(pointer)``, and accesses of ``lanes`` neighbours, which is 1 or 4.

    ``load(pointer, i, whole, found)`` fills an array from element ``i`` on, ``store(pointer, i,
    whole, values)`` writes one; ``whole`` is what ``aligned`` said of the pointer, and ``i`` is a
    multiple of ``lanes``.
    """
    load_one, store_one = loader(dtype, acc), storer(dtype)
    if lanes == 1:

        @inlined
        def aligned(pointer):
            return False

        @inlined
        def load(pointer, i, whole, found):
            found[0] = load_one(pointer, i)

        @inlined
        def store(pointer, i, whole, values):
            store_one(pointer, i, values[0])
    else:

        @inlined
        def aligned(pointer):
            return (address_of(pointer) & (_BYTES - 1)) == 0

        @inlined
        def load(pointer, i, whole, found):
            if whole:
                a, b, c, d = _load_four(address_of(pointer) + types.int64(i) * 4)
                found[0], found[1], found[2], found[3] = a, b, c, d
            else:
                for lane in range(LANES):
                    found[lane] = load_one(pointer, i + lane)

        @inlined
        def store(pointer, i, whole, values):
            if whole:
                _store_four(
                    address_of(pointer) + types.int64(i) * 4,
                    values[0], values[1], values[2], values[3],
                )  # fmt: skip
            else:
                for lane in range(LANES):
                    store_one(pointer, i + lane, values[lane])

    return aligned, load, store
