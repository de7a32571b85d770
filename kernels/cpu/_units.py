"""Images and weights as units: a few neighbouring channels in 4 bytes, zeros behind the last one.

The target is ``[group][outer][inner][unit]`` in whatever order its strides say; for images outer
is an image and inner a pixel, for weights an output channel and a tap.
"""

from __future__ import annotations

from math import prod

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._block import block_store, block_transpose
from convforge.kernels.cpu._ir import broadcast, constant, lanes_below, masked_load
from convforge.kernels.cpu._vector import KindType, VectorType, lanes, store_first
from convforge.problem import DType
from convforge.runtime.args import Layout
from convforge.runtime.configuration import Configuration
from convforge.runtime.jit import embedded, kernel
from convforge.runtime.tasks import claimed

UNIT_BYTES = 4
STRIP = 64
"""Rows of units in a task."""

UNITS = Layout(
    "Units",
    "groups outer inner channels units "
    "source_group source_outer source_inner source_channel "
    "target_group target_outer target_inner adjacent flip",
)
_units = UNITS.view
_FROM_TO = Layout("UnitPointers", "source target")
_from_to = _FROM_TO.view


class UnitsType(KindType):
    """Numba type of vectors of units, whose factors are elements of another type."""

    def __init__(self, factor: str):
        super().__init__("i32", f"Units[{factor}]")
        self.factor = VectorType(factor, self.lanes)


class Units(Configuration):
    """Kind of vectors of units."""

    def __init__(self, factor: str):
        self._numba_type_ = UnitsType(factor)


def units_of(channels: int, dtype: DType) -> int:
    """Units that hold so many channels."""
    return -(-channels * dtype.itemsize // UNIT_BYTES)


def units_step(
    source: str,
    target: str,
    dtype: DType,
    extents: tuple[int, int, int, int],
    source_bytes: tuple[int, int, int, int],
    target_bytes: tuple[int, int, int],
    flip: int = 0,
) -> Step:
    """Bring channels together.

    Args:
        extents: Groups, outer, inner, channels of a group.
        source_bytes: Strides of these four.
        target_bytes: Strides of the first three.
        flip: Bits of every unit that change.
    """
    groups, outer, inner, channels = extents
    units = units_of(channels, dtype)
    nbytes = prod(extents) * dtype.itemsize + groups * outer * inner * units * UNIT_BYTES
    return Step(
        name="units",
        kernel=KernelRef(gather_units, Units(dtype.value)),
        operands=(source, target),
        constants=UNITS.pack(
            groups=groups,
            outer=outer,
            inner=inner,
            channels=channels,
            units=units,
            source_group=source_bytes[0],
            source_outer=source_bytes[1],
            source_inner=source_bytes[2],
            source_channel=source_bytes[3],
            target_group=target_bytes[0],
            target_outer=target_bytes[1],
            target_inner=target_bytes[2],
            adjacent=source_bytes[3] == dtype.itemsize,
            flip=flip,
        ),
        tasks=groups * outer * -(-inner // STRIP),
        cost=Cost(bytes=nbytes),
    )


@intrinsic
def factors(context, kind):
    """Stored elements of a unit."""

    def codegen(context, builder, signature, args):
        return constant(UNIT_BYTES // kind.factor.itemsize)

    return types.int64(kind), codegen


@intrinsic
def load_units(context, kind, address, count, flip):
    """A vector of units from ``count`` adjacent elements; the others are zero."""

    def codegen(context, builder, signature, args):
        _, address, count, flip = args
        elements = kind.lanes * UNIT_BYTES // kind.factor.itemsize
        narrow = _Elements(kind.factor, elements)
        value = masked_load(builder, address, lanes_below(builder, count, elements), narrow)
        return _flipped(builder, builder.bitcast(value, kind.vector.llvm), flip)

    return kind.vector(kind, types.int64, types.int64, types.int64), codegen


@intrinsic
def block_of_units(context, kind, address, channel_bytes, channels, count, flip):
    """Units of a block's rows: of adjacent elements, and of channels ``channel_bytes`` apart."""

    def codegen(context, builder, signature, args):
        _, address, channel_bytes, channels, count, flip = args
        per_unit = UNIT_BYTES // kind.factor.itemsize
        inside = lanes_below(builder, count, kind.lanes)
        nothing = ir.Constant(inside.type, [0] * kind.lanes)
        block = ir.Constant(context.get_value_type(_block_type(kind)), ir.Undefined)
        for i in range(kind.lanes):
            unit = ir.Constant(kind.vector.llvm, None)
            for j in range(per_unit):
                channel = constant(i * per_unit + j)
                wanted = builder.icmp_signed("<", channel, channels)
                mask = builder.select(broadcast(builder, wanted, inside.type), inside, nothing)
                place = builder.add(address, builder.mul(channel, channel_bytes))
                value = masked_load(builder, place, mask, _Elements(kind.factor, kind.lanes))
                wide = builder.zext(value, kind.vector.llvm)
                bits = [8 * j * kind.factor.itemsize] * kind.lanes
                moved = builder.shl(wide, ir.Constant(kind.vector.llvm, bits))
                unit = builder.or_(unit, moved)
            block = builder.insert_value(block, _flipped(builder, unit, flip), i)
        return block

    places = (types.int64,) * 5
    return _block_type(kind)(kind, *places), codegen


def _block_type(kind):
    return types.UniTuple(kind.vector, kind.lanes)


def _flipped(builder, units, flip):
    words = units.type
    return builder.xor(units, broadcast(builder, builder.trunc(flip, words.element), words))


class _Elements:
    """Stored elements, as the pieces of IR know a kind."""

    def __init__(self, stored, count):
        self.vector = VectorType(stored.element, count)


@kernel
def gather_units(kind, constants, pointers, worker, work):
    """Rows of units; a task is a strip of them."""
    u, p = _units(constants), _from_to(pointers)
    strips = (u.inner + STRIP - 1) // STRIP
    for task in claimed(work, worker):
        outer = task // strips
        first = (task - outer * strips) * STRIP
        group = outer // u.outer
        outer -= group * u.outer
        source = p.source + group * u.source_group + outer * u.source_outer
        target = p.target + group * u.target_group + outer * u.target_outer
        for i in range(first, min(first + STRIP, u.inner), lanes(kind)):
            rows = min(lanes(kind), u.inner - i)
            at, place = source + i * u.source_inner, target + i * u.target_inner
            if u.adjacent:
                _copy_rows(kind, u, at, place, rows)
            else:
                _gather_rows(kind, u, at, place, rows)


@embedded
def _copy_rows(kind, u, source, target, rows):
    """Channels are adjacent: a row is a copy, with zeros up to its last whole unit."""
    for i in range(rows):
        at, place = source + i * u.source_inner, target + i * u.target_inner
        for unit in range(0, u.units, lanes(kind)):
            first = unit * factors(kind)
            channel = at + first * u.source_channel
            value = load_units(kind, channel, u.channels - first, u.flip)
            store_first(place + 4 * unit, value, u.units - unit)


@embedded
def _gather_rows(kind, u, source, target, rows):
    """Rows are adjacent: blocks of units, each put together from channels that are apart."""
    for unit in range(0, u.units, lanes(kind)):
        first = unit * factors(kind)
        at = source + first * u.source_channel
        block = block_of_units(kind, at, u.source_channel, u.channels - first, rows, u.flip)
        block = block_transpose(kind, block)
        block_store(kind, block, target + 4 * unit, u.target_inner, rows, u.units - unit)
