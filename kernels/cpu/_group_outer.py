"""Sums of a filter gradient whose channels meet within their groups, in registers.

A vector of x holds input channels as they lie in memory. For every place where an output channel
meets its group, dy gives a vector: a *row*. Rows of groups narrower than a vector are exchanges, as
in :mod:`convforge.kernels.cpu._group_strip`: lane i of row d is output ``i ^ d`` of its group. Rows
of wide groups are outputs, repeated in all lanes. For the pixels of dy and a few taps::

    sums[row][tap][i] += dy_row[i] * x_tap[i]

Lane i is input i in both, so that memory order is kept; exchanges are undone at the end by
selecting lanes, once for all pixels.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import (
    broadcast,
    constant,
    load_element,
    load_vector,
    multiply_add,
    store_vector,
)
from convforge.kernels.cpu._vector import KindType, VectorType
from convforge.runtime.configuration import Configuration

_INDEX = ir.IntType(32)
_WORD = ir.IntType(64)


class GroupOuterType(KindType):
    """Numba type of the configuration: members of a group, taps and rows of the sums."""

    def __init__(self, element: str, lanes: int, members: int, taps: int, rows: int):
        super().__init__(element, f"GroupOuter[{element}x{lanes},{members},{taps},{rows}]")
        self.lanes, self.members, self.taps, self.rows = lanes, members, taps, rows
        self.vector = VectorType(element, lanes)
        self.columns = max(1, members // lanes)
        self.across = taps * self.columns
        self.sums = types.UniTuple(self.vector, rows * self.across)


class GroupOuter(Configuration):
    """Configuration of the sums.

    Attributes:
        lanes: Elements of a vector. members: Channels of a group, on either side.
        taps: Summed at once. rows: Outputs or exchanges summed at once.
    """

    def __init__(self, element: str, lanes: int, members: int, taps: int, rows: int):
        self._numba_type_ = GroupOuterType(element, lanes, members, taps, rows)
        self.lanes, self.members, self.taps, self.rows = lanes, members, taps, rows

    @property
    def columns(self) -> int:
        """Vectors of a group, or one that holds several groups."""
        return self._numba_type_.columns


@intrinsic
def outer_taps(context, outer):
    """Taps summed at once."""
    value = constant(outer.taps)
    return types.int64(outer), lambda context, builder, signature, args: value


@intrinsic
def outer_rows(context, outer):
    """Rows summed at once."""
    value = constant(outer.rows)
    return types.int64(outer), lambda context, builder, signature, args: value


@intrinsic
def outer_load(context, outer, address):
    """Sums from memory."""

    def codegen(context, builder, signature, args):
        sums = ir.Constant(context.get_value_type(outer.sums), ir.Undefined)
        for i, place in enumerate(_places(builder, outer, args[1])):
            sums = builder.insert_value(sums, load_vector(builder, place, outer), i)
        return sums

    return outer.sums(outer, types.int64), codegen


@intrinsic
def outer_store(context, outer, sums, address):
    """Sums to memory."""

    def codegen(context, builder, signature, args):
        for i, place in enumerate(_places(builder, outer, args[2])):
            store_vector(builder, builder.extract_value(args[1], i), place, outer.vector.itemsize)
        return context.get_dummy_value()

    return types.void(outer, outer.sums, types.int64), codegen


@intrinsic
def outer_add(context, outer, sums, x, offsets, dy):
    """Add the products of one pixel of dy.

    Args:
        x: Address of what tap 0 of the filter meets. offsets: Of the taps' bytes from there.
        dy: Address of the pixel, of the first row in a wide group.
    """

    def codegen(context, builder, signature, args):
        _, sums, x, offsets, dy = args
        met = []
        for t in range(outer.taps):
            entry = builder.inttoptr(builder.add(offsets, constant(8 * t)), _WORD.as_pointer())
            place = builder.add(x, builder.load(entry))
            met += _vectors(builder, outer, place, outer.columns)
        for row, value in enumerate(_rows(builder, outer, dy)):
            for j, element in enumerate(met):
                i = row * outer.across + j
                total = multiply_add(builder, value, element, builder.extract_value(sums, i))
                sums = builder.insert_value(sums, total, i)
        return sums

    return outer.sums(outer, outer.sums, *(types.int64,) * 3), codegen


@intrinsic
def outer_settle(context, outer, sums, tap, target, step, first):
    """Write one tap's sums to the gradient, an input a lane, an output a row.

    Args:
        sums: Address of all sums of these taps and rows. tap: Which of the taps.
        target: Address of the first output's inputs. step: Bytes to the next output's.
        first: Lanes before this one belong to another vector.
    """

    def codegen(context, builder, signature, args):
        _, sums, tap, target, step, first = args
        size = outer.vector.itemsize
        column_bytes = outer.lanes * size
        start = builder.add(sums, builder.mul(tap, constant(outer.columns * column_bytes)))
        rows = [
            _vectors(
                builder,
                outer,
                builder.add(start, constant(row * outer.across * column_bytes)),
                outer.columns,
            )
            for row in range(outer.rows)
        ]
        if outer.members >= outer.lanes:
            for k, vectors in enumerate(rows):
                place = builder.add(target, builder.mul(step, constant(k)))
                for j, value in enumerate(vectors):
                    at = builder.add(place, constant(j * column_bytes))
                    store_vector(builder, value, at, size)
            return context.get_dummy_value()
        outputs = [_selected(builder, outer, [v for (v,) in rows], k) for k in range(outer.members)]
        for lane in range(0, outer.lanes, outer.members):
            with builder.if_then(builder.icmp_signed("<=", first, constant(lane))):
                for k, value in enumerate(outputs):
                    inputs = [ir.Constant(_INDEX, lane + c) for c in range(outer.members)]
                    mask = ir.Constant(ir.VectorType(_INDEX, outer.members), inputs)
                    part = builder.shuffle_vector(value, value, mask)
                    place = builder.add(target, builder.mul(step, constant(lane + k)))
                    store_vector(builder, part, place, size)
        return context.get_dummy_value()

    return types.void(outer, *(types.int64,) * 5), codegen


def _vectors(builder, outer, address, count):
    """Adjacent vectors from memory."""
    size = outer.lanes * outer.vector.itemsize
    places = (builder.add(address, constant(i * size)) for i in range(count))
    return [load_vector(builder, place, outer) for place in places]


def _places(builder, outer, address):
    size = outer.lanes * outer.vector.itemsize
    return [builder.add(address, constant(i * size)) for i in range(outer.sums.count)]


def _rows(builder, outer, dy):
    """Row after row of dy, so that few live at a time."""
    if outer.members >= outer.lanes:
        for k in range(outer.rows):
            place = builder.add(dy, constant(k * outer.vector.itemsize))
            yield broadcast(builder, load_element(builder, place, outer), outer.vector.llvm)
        return
    value = load_vector(builder, dy, outer)
    for d in range(outer.members):
        order = [ir.Constant(_INDEX, i ^ d) for i in range(outer.lanes)]
        mask = ir.Constant(ir.VectorType(_INDEX, outer.lanes), order)
        yield builder.shuffle_vector(value, value, mask)


def _selected(builder, outer, exchanges, k):
    """Of every lane i the exchange that leads to output k of its group: ``i ^ k``."""
    bit = 1
    while bit < outer.members:
        from_second = [bool((i ^ k) & bit) for i in range(outer.lanes)]
        mask = ir.Constant(ir.VectorType(ir.IntType(1), outer.lanes), from_second)
        pairs = zip(exchanges[::2], exchanges[1::2], strict=True)
        exchanges = [builder.select(mask, b, a) for a, b in pairs]
        bit *= 2
    return exchanges[0]
