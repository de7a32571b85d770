"""A 3x3 filter swept along several rows of outputs at once, channels last.

A step takes one pixel (with stride 2, two) of each row of the image that the rows of outputs read.
Each is loaded once and meets up to nine weights, all in registers: it ends an output, goes on with
the next, and begins the one after. Sums of the outputs under way are the state of a sweep. Rows of
the image are loaded for the rows of outputs together, 9 for 7 with stride 1 where one by one would
load 21.

Near a border, what is beyond the image is a bit of a mask that is not set: a branch for each row.
Away from the left and right one, *turns* of a few steps have no branches. A row above or below the
image is then one pixel of zeros, read again and again.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import constant, load_vector, multiply_add, settled, store_vector
from convforge.kernels.cpu._strip import apart
from convforge.kernels.cpu._vector import KindType, VectorType
from convforge.runtime.configuration import Configuration

_TAPS = 3


class SweepType(KindType):
    """Numba type of a sweep's configuration."""

    def __init__(self, element: str, lanes: int, rows: int, step: int):
        super().__init__(element, f"Sweep[{element}x{lanes},{rows},{step}]")
        self.lanes = lanes
        self.vector = VectorType(element, lanes)
        self.rows, self.step = rows, step
        self.lag = -(-_TAPS // step) - 1
        self.reach = (rows - 1) * step + _TAPS
        self.sums = types.UniTuple(self.vector, rows * self.lag)
        self.weights = types.UniTuple(self.vector, _TAPS * _TAPS)


class Sweep(Configuration):
    """Configuration of a sweep.

    Attributes:
        lanes: Elements of a vector. rows: Of outputs, at a time. step: Stride on both axes.
    """

    def __init__(self, element: str, lanes: int, rows: int, step: int):
        self._numba_type_ = SweepType(element, lanes, rows, step)
        self.lanes, self.rows, self.step = lanes, rows, step


def _number(attribute, doc):
    @intrinsic
    def number(context, sweep):
        value = constant(getattr(sweep, attribute))
        return types.int64(sweep), lambda context, builder, signature, args: value

    number.__doc__ = doc
    return number


sweep_rows = _number("rows", "Rows of outputs at a time.")
sweep_stride = _number("step", "Stride on both axes.")
sweep_lag = _number("lag", "Steps before the first output is complete.")
sweep_reach = _number("reach", "Rows of the image that the rows of outputs read.")


@intrinsic
def sweep_zeros(context, sweep):
    """Sums of no pixel."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(sweep.sums), None)

    return sweep.sums(sweep), codegen


@intrinsic
def sweep_weights(context, sweep, w):
    """Nine vectors from memory, row by row."""

    def codegen(context, builder, signature, args):
        packed = ir.Constant(context.get_value_type(sweep.weights), ir.Undefined)
        vector = constant(sweep.lanes * sweep.vector.itemsize)
        for tap in range(_TAPS * _TAPS):
            weight = load_vector(builder, apart(builder, args[1], vector, tap), sweep)
            packed = builder.insert_value(packed, weight, tap)
        return packed

    return sweep.weights(sweep, types.int64), codegen


@intrinsic
def sweep_step(context, sweep, sums, w, x, line, near, place, extent, pixel, y, y_line, written):
    """Take the next pixels of all rows; completes the outputs of one pixel.

    Args:
        w: The weights. x: Address of the step's first pixel in the first row, even where there
            is none. line: Bytes from one row of the image to the next. near: Bits of the rows
            that are inside the image. place: Of that pixel in its row. extent: Pixels of a row.
        pixel: Bytes from one pixel to the next.
        y: Address of the output in the first row. y_line: Bytes to the next row's.
        written: Bits of the rows of outputs that are stored.
    """

    def codegen(context, builder, signature, args):
        _, sums, w, x, line, near, place, extent, pixel, y, y_line, written = args
        x, y = settled(builder, x), settled(builder, y)
        weights = [builder.extract_value(w, i) for i in range(_TAPS * _TAPS)]
        slots = _unpacked(builder, sweep, sums)
        for c in range(sweep.step):
            found = builder.icmp_unsigned("<", builder.add(place, constant(c)), extent)
            inside = builder.select(found, near, constant(0))
            first = apart(builder, x, pixel, c)
            for j in range(sweep.reach):
                address = apart(builder, first, line, j)
                slots = _meet(
                    builder, sweep, slots, weights, _bit(builder, inside, j), address, c, j
                )
        for row in range(sweep.rows):
            with builder.if_then(_bit(builder, written, row)):
                place = apart(builder, y, y_line, row)
                store_vector(builder, slots[0, row], place, sweep.vector.itemsize)
        return _packed(builder, sweep, sums, slots)

    places = (types.int64,) * 9
    return sweep.sums(sweep, sweep.sums, sweep.weights, *places), codegen


@intrinsic
def sweep_turn(
    context,
    sweep,
    sums,
    w,
    above,
    above_step,
    x,
    x_step,
    line,
    below,
    below_step,
    y,
    y_step,
    y_line,
):
    """So many steps that every sum is in its place again, away from the borders.

    Args:
        w: The weights. above, x, below: Addresses of the first step's first pixel in the first row,
            in the second, and in the last one. Their steps: Bytes from one pixel to the next.
        line: Bytes from one row of the image to the next.
        y: Address of the first output in the first row. y_step: Bytes to the next one in it.
        y_line: Bytes to the next row's.
    """

    def codegen(context, builder, signature, args):
        _, sums, w, above, above_step, x, x_step, line, below, below_step, *outputs = args
        y, y_step, y_line = outputs
        weights = [builder.extract_value(w, i) for i in range(_TAPS * _TAPS)]
        for _ in range(sweep.lag + 1):
            slots = _unpacked(builder, sweep, sums)
            for c in range(sweep.step):
                rows = [above, *(apart(builder, x, line, j) for j in range(sweep.reach - 2)), below]
                for j, address in enumerate(rows):
                    slots |= _meetings(builder, sweep, slots, weights, address, c, j)
                above, below = builder.add(above, above_step), builder.add(below, below_step)
                x = settled(builder, builder.add(x, x_step))
            for row in range(sweep.rows):
                place = apart(builder, y, y_line, row)
                store_vector(builder, slots[0, row], place, sweep.vector.itemsize)
            y = settled(builder, builder.add(y, y_step))
            sums = _packed(builder, sweep, sums, slots)
        return sums

    places = (types.int64,) * 10
    return sweep.sums(sweep, sweep.sums, sweep.weights, *places), codegen


def _unpacked(builder, sweep, sums):
    """Sums by slot and row: slot 0 is completed by a step, the last one is begun by it."""
    none = ir.Constant(sweep.vector.llvm, None)
    slots = {(sweep.lag, row): none for row in range(sweep.rows)}
    for i in range(sweep.lag * sweep.rows):
        slots[divmod(i, sweep.rows)] = builder.extract_value(sums, i)
    return slots


def _packed(builder, sweep, sums, slots):
    """The same as the next step finds them."""
    for i in range(sweep.lag * sweep.rows):
        slot, row = divmod(i, sweep.rows)
        sums = builder.insert_value(sums, slots[slot + 1, row], i)
    return sums


def _bit(builder, bits, i):
    return builder.icmp_signed("!=", builder.and_(bits, constant(1 << i)), constant(0))


def _meetings(builder, sweep, slots, weights, address, c, j):
    """The sums that change as pixel c of a step, in row j of the image, is met."""
    element, changed = load_vector(builder, address, sweep), {}
    for slot in range(sweep.lag + 1):
        tap = _TAPS - sweep.step + c - slot * sweep.step
        for row in range(sweep.rows):
            across = j - row * sweep.step
            if 0 <= tap < _TAPS and 0 <= across < _TAPS:
                weight = weights[across * _TAPS + tap]
                changed[slot, row] = multiply_add(builder, weight, element, slots[slot, row])
    return changed


def _meet(builder, sweep, slots, weights, inside, address, c, j):
    """As :func:`_meetings`, where the pixel is inside the image; all sums."""
    before = builder.block
    with builder.if_then(inside):
        changed = _meetings(builder, sweep, slots, weights, address, c, j)
        end = builder.block
    slots = dict(slots)
    for key, value in changed.items():
        phi = builder.phi(value.type)
        phi.add_incoming(slots[key], before)
        phi.add_incoming(value, end)
        slots[key] = phi
    return slots
