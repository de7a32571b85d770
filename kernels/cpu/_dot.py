"""The register tile on dot-product instructions: a factor is 4 bytes of neighbouring channels.

An instruction adds to each lane the products of a *unit*, two bfloat16 or int16 or four bytes,
with a unit of the other factor. To the tile around it a unit is one element of 4 bytes.
"""

from __future__ import annotations

from types import SimpleNamespace

from llvmlite import ir
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

from convforge.contract import Machine, Rejected
from convforge.kernels.cpu._ir import declare
from convforge.kernels.cpu._tile import Tile, TileType
from convforge.kernels.cpu._vector import VectorType
from convforge.problem import DType
from convforge.runtime.machine import target_features

UNIT_BYTES = 4


class _BFloat(ir.HalfType):
    """LLVM's bfloat, which llvmlite does not know."""

    null = "0.0"
    intrinsic_name = "bf16"

    def __str__(self):
        return "bfloat"

    _to_string = __str__


_INSTRUCTIONS = {
    # factors: LLVM's name, its type of them, type of sums, feature by isa
    DType.BF16: (
        "llvm.x86.avx512bf16.dpbf16ps",
        _BFloat(),
        DType.F32,
        {"avx512": "avx512bf16"},
    ),
}


def sums_of(factors: DType) -> DType | None:
    """The type that the products of these are summed in, None if there is no instruction."""
    found = _INSTRUCTIONS.get(factors)
    return found and found[2]


def refuse_host(factors: DType, machine: Machine) -> Rejected | None:
    """Refusal unless the target has the instruction for these factors."""
    feature = _INSTRUCTIONS[factors][3].get(machine.isa)
    if feature is None:
        return Rejected(f"{machine.isa}: no dot product of {factors} there")
    if feature not in target_features():
        return Rejected(f"this target lacks {feature}")
    return None


class DotType(TileType):
    """Numba type of a tile of dot products: type of factors, of results in memory, extents."""

    def __init__(self, factors: DType, stored: DType, rows: int, columns: int):
        self.factors, self._stored = factors, stored
        super().__init__(_INSTRUCTIONS[factors][2].value, rows, columns)
        self.name = f"Dot[{factors},{stored},{rows},{columns}]"
        units = ir.VectorType(ir.IntType(32), self.lanes)
        self._operand = SimpleNamespace(vector=SimpleNamespace(llvm=units, itemsize=1))

    @property
    def stored(self) -> VectorType:
        """Results in memory."""
        return VectorType(self._stored.value, self.lanes)

    @property
    def operand(self):
        """Units, aligned as a caller's smallest element is."""
        return self._operand

    def multiply_add(self, builder, a, b, total):
        """``total`` plus the dot product of units, in every lane."""
        name, element, *_ = _INSTRUCTIONS[self.factors]
        bits = 32 * self.lanes
        each = bits // (8 * self.factors.itemsize)
        factors = ir.VectorType(element, each)
        function = declare(builder, f"{name}.{bits}", total.type, [total.type, factors, factors])
        pair = [builder.bitcast(value, factors) for value in (a, b)]
        return builder.call(function, [total, *pair])


register_model(DotType)(models.OpaqueModel)


class Dot(Tile):
    """Configuration of a tile of dot products."""

    def __init__(self, factors: DType, stored: DType, rows: int, columns: int):
        super().__init__(_INSTRUCTIONS[factors][2].value, rows, columns)
        self._numba_type_ = DotType(factors, stored, rows, columns)


@typeof_impl.register(Dot)
def _typeof_dot(value, context):
    return value._numba_type_


@unbox(DotType)
def _unbox_dot(kind, value, context):
    return NativeValue(context.context.get_dummy_value())
