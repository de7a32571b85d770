"""The register tile on dot-product instructions: a factor is 4 bytes of neighbouring channels.

An instruction adds to each lane the products of a *unit*, two bfloat16 or int16 or four bytes,
with a unit of the other factor. To the tile around it a unit is one element of 4 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

from llvmlite import ir

from convforge.contract import Buffer, Cost, KernelRef, Machine, Rejected, Step
from convforge.kernels.cpu._ir import declare
from convforge.kernels.cpu._tile import (
    Tile,
    TileType,
    accumulate_run,
    tile_columns,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._units import UNIT_BYTES
from convforge.kernels.cpu._vector import VectorType, load, store, vector_bytes, zeros
from convforge.problem import DType
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.machine import target_features
from convforge.runtime.rawmem import fill_bytes, store_word
from convforge.runtime.tasks import claimed

SIGN = 0x80
"""The sign bit of a byte."""


class _BFloat(ir.HalfType):
    """LLVM's bfloat, which llvmlite does not know."""

    def __str__(self):
        return "bfloat"

    _to_string = __str__


@dataclass(frozen=True)
class Instruction:
    """How units are multiplied.

    Attributes:
        name: What LLVM calls it, without the bits of its registers.
        element: LLVM's type of a factor. bits: Its size. sums: Type of the sums.
        features: What a target must have, by isa.
        flips: Sign bits of images are flipped first, which adds 128 to each number.
        swaps: Weights come first.
    """

    name: str
    element: ir.Type
    bits: int
    sums: DType
    features: dict[str, str]
    flips: bool = False
    swaps: bool = False


_VNNI = {"avx512": "avx512vnni", "avx2": "avxvnni"}
_BYTES = Instruction("llvm.x86.avx512.vpdpbusd", ir.IntType(8), 8, DType.I32, _VNNI)
INSTRUCTIONS = {
    # types of images and of weights; of bytes, the first factor is unsigned and the second signed
    (DType.BF16, DType.BF16): Instruction(
        "llvm.x86.avx512bf16.dpbf16ps", _BFloat(), 16, DType.F32, {"avx512": "avx512bf16"}
    ),
    (DType.I16, DType.I16): Instruction(
        "llvm.x86.avx512.vpdpwssd", ir.IntType(16), 16, DType.I32, _VNNI
    ),
    (DType.U8, DType.I8): _BYTES,
    (DType.I8, DType.U8): replace(_BYTES, swaps=True),
    (DType.I8, DType.I8): replace(_BYTES, flips=True),
}


def refuse_host(instruction: Instruction, machine: Machine) -> Rejected | None:
    """Refusal unless the target has the instruction."""
    feature = instruction.features.get(machine.isa)
    if feature is None:
        return Rejected(f"{machine.isa}: no dot product of such factors there")
    if feature not in target_features():
        return Rejected(f"this target lacks {feature}, the dot product")
    return None


class DotType(TileType):
    """Numba type of a tile of dot products: types of factors, of results in memory, extents."""

    def __init__(self, factors: tuple[DType, DType], stored: DType, rows: int, columns: int):
        self.instruction, self._stored = INSTRUCTIONS[factors], stored
        super().__init__(self.instruction.sums.value, rows, columns)
        self.name = f"Dot[{'-'.join(factors)}-{stored},{rows},{columns}]"
        self.zero_byte = SIGN if self.instruction.flips else 0
        units = ir.VectorType(ir.IntType(8 * UNIT_BYTES), self.lanes)
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
        how, bits = self.instruction, 8 * UNIT_BYTES * self.lanes
        factors = ir.VectorType(how.element, bits // how.bits)
        function = declare(
            builder, f"{how.name}.{bits}", total.type, [total.type, factors, factors]
        )
        first, second = (b, a) if how.swaps else (a, b)
        pair = [builder.bitcast(value, factors) for value in (first, second)]
        return builder.call(function, [total, *pair])


class Dot(Tile):
    """Configuration of a tile of dot products."""

    def __init__(self, factors: tuple[DType, DType], stored: DType, rows: int, columns: int):
        super().__init__(INSTRUCTIONS[factors].sums.value, rows, columns)
        self._numba_type_ = DotType(factors, stored, rows, columns)
        self.zero_byte = self._numba_type_.zero_byte


STARTS = Layout("Starts", "blocks rows")
_starts = STARTS.view
_PANELS = Layout("StartsPointers", "panels scratch")
_panels = _PANELS.view
STARTS_SCRATCH = Buffer(name="moved", nbytes=64, scope="worker")


def starts_step(tile: Dot, shape: tuple[int, int, int, int]) -> Step:
    """Behind panels of this shape, what makes up for the flipped signs of images.

    Flipped, a number x is x + 128 and its products sum to 128 times those of the weights too much.

    Args:
        tile: Of one row.
    """
    groups, blocks, rows, width = shape
    return Step(
        name="starts",
        kernel=KernelRef(negative_sums, tile),
        operands=("packed", STARTS_SCRATCH.name),
        constants=STARTS.pack(blocks=groups * blocks, rows=rows),
        tasks=groups * blocks,
        cost=Cost(bytes=groups * blocks * (rows + 1) * width * UNIT_BYTES),
    )


@kernel
def negative_sums(tile, constants, pointers, worker, work):
    """Minus 128 times each column's sum of weights; a task is a panel."""
    s, p = _starts(constants), _panels(pointers)
    panel_row = tile_columns(tile) * vector_bytes(tile)
    table = p.scratch + 64 * worker
    store_word(table, table + 8)
    fill_bytes(table + 8, SIGN, 8)
    for block in claimed(work, worker):
        panel = p.panels + block * s.rows * panel_row
        start = p.panels + (s.blocks * s.rows + block) * panel_row
        sums = accumulate_run(tile, tile_zeros(tile), table, 0, panel, s.rows, 0, panel_row)
        tile_store(tile, sums, start, panel_row)
        for at in range(0, panel_row, vector_bytes(tile)):
            store(start + at, zeros(tile) - load(tile, start + at))
