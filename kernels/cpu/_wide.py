"""Vectors of several registers, which LLVM takes apart; runs of any length; elements apart.

The loop over a window's taps does little for each: a wide vector shares it among neighbours.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import (
    broadcast,
    constant,
    declare,
    lanes_below,
    load_element,
    load_vector,
    masked_load,
    settled,
)
from convforge.kernels.cpu._vector import (
    KindType,
    VectorType,
    itemsize,
    lanes,
    load,
    load_first,
    splat,
    store,
    store_first,
)
from convforge.runtime.configuration import Configuration
from convforge.runtime.jit import inlined
from convforge.runtime.rawmem import prefetch

_LANE = ir.IntType(32)
LINE_BYTES = 64
"""Of the caches of all CPUs that vectors are for."""


class WideType(KindType):
    """Numba type of a kind with any number of lanes."""

    def __init__(self, element: str, lanes: int):
        super().__init__(element, f"Wide[{element},{lanes}]")
        self.lanes = lanes
        self.vector = VectorType(element, lanes)


class Wide(Configuration):
    """Kind of vectors with so many lanes."""

    def __init__(self, element: str, lanes: int):
        self._numba_type_ = WideType(element, lanes)
        self.lanes = lanes


@intrinsic
def _load_even(context, kind, address):
    """Elements 0, 2, 4, … of two vectors in memory."""

    def codegen(context, builder, signature, args):
        low = load_vector(builder, args[1], kind)
        behind = builder.add(args[1], constant(kind.lanes * kind.vector.itemsize))
        high = load_vector(builder, behind, kind)
        even = ir.Constant(ir.VectorType(_LANE, kind.lanes), list(range(0, 2 * kind.lanes, 2)))
        return builder.shuffle_vector(low, high, even)

    return kind.vector(kind, types.int64), codegen


@intrinsic
def _load_apart(context, kind, address, step):
    """Elements 0, ``step``, ``2 * step``, … one by one."""

    def codegen(context, builder, signature, args):
        _, address, step = args
        apart = builder.mul(step, constant(kind.vector.itemsize))
        vector = ir.Constant(kind.vector.llvm, ir.Undefined)
        for lane in range(kind.lanes):
            element = load_element(builder, address, kind)
            vector = builder.insert_element(vector, element, ir.Constant(_LANE, lane))
            address = builder.add(address, apart)
        return vector

    return kind.vector(kind, types.int64, types.int64), codegen


@intrinsic
def gather(context, kind, address, offsets):
    """Elements anywhere, so many bytes from an address."""

    def codegen(context, builder, signature, args):
        _, address, offsets = args
        vector = kind.vector.llvm
        pointers = ir.VectorType(vector.element.as_pointer(), kind.lanes)
        mask = ir.VectorType(ir.IntType(1), kind.lanes)
        places = builder.add(broadcast(builder, address, offsets.type), offsets)
        function = declare(
            builder,
            f"llvm.masked.gather.v{kind.lanes}{vector.element.intrinsic_name}.v{kind.lanes}p0",
            vector,
            [pointers, _LANE, mask, vector],
        )
        align = ir.Constant(_LANE, kind.vector.itemsize)
        every = ir.Constant(mask, [1] * kind.lanes)
        nothing = ir.Constant(vector, ir.Undefined)
        return builder.call(function, [builder.inttoptr(places, pointers), align, every, nothing])

    return kind.vector(kind, types.int64, VectorType("i64", kind.lanes)), codegen


def _take_turns(even, half):
    """Signature and code of one half of two vectors whose elements take turns."""
    first = half * even.lanes // 2

    def codegen(context, builder, signature, args):
        order = [i // 2 + first + i % 2 * even.lanes for i in range(even.lanes)]
        mask = ir.Constant(ir.VectorType(_LANE, even.lanes), order)
        return builder.shuffle_vector(args[0], args[1], mask)

    return even(even, even), codegen


@intrinsic
def turns_low(context, even, odd):
    """Elements of the lower halves of two vectors in turns."""
    return _take_turns(even, 0)


@intrinsic
def turns_high(context, even, odd):
    """Elements of the upper halves of two vectors in turns."""
    return _take_turns(even, 1)


@inlined
def load_every(kind, address, step):
    """Every ``step``-th element; may read ``step * lanes`` elements of memory."""
    if step == 1:
        return load(kind, address)
    if step == 2:
        return _load_even(kind, address)
    return _load_apart(kind, address, step)


@inlined
def load_run(kind, address, count):
    """A vector, or its first lanes where a run is shorter."""
    if count >= lanes(kind):
        return load(kind, address)
    return load_first(kind, address, count)


@inlined
def store_run(kind, address, value, count):
    """A vector, or its first lanes where a run is shorter."""
    if count >= lanes(kind):
        store(address, value)
    else:
        store_first(address, value, count)


@inlined
def fill(kind, address, value, count):
    """Write a number ``count`` times."""
    vector, width, size = splat(kind, value), lanes(kind), itemsize(kind)
    for i in range(0, count, width):
        at = max(min(i, count - width), 0)
        store_run(kind, address + at * size, vector, count)


@inlined
def ask(address, nbytes):
    """Ask for cache lines that will be needed."""
    for line in range(0, nbytes, LINE_BYTES):
        prefetch(address + line)


def _reduce(builder, name, vector, result, *start, **options):
    """One of LLVM's reductions over the lanes of a vector."""
    element = vector.type.element.intrinsic_name
    operands = [*start, vector]
    function = declare(
        builder,
        f"llvm.vector.reduce.{name}.v{vector.type.count}{element}",
        result,
        [operand.type for operand in operands],
    )
    return builder.call(function, operands, **options)


def _sum_each(builder, kind, vectors):
    """Sums of the lanes of as many vectors as one has lanes, one a lane, as trees."""

    def halve(x, y, block):
        """Blocks of x and y, each as half a block: its lower half plus its upper one."""
        starts = range(0, 2 * kind.lanes, block)
        lower = [start + i for start in starts for i in range(block // 2)]
        masks = (lower, [lane + block // 2 for lane in lower])
        order = ir.VectorType(_LANE, kind.lanes)
        return builder.fadd(*(builder.shuffle_vector(x, y, ir.Constant(order, m)) for m in masks))

    block = kind.lanes
    while block > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors, block = [halve(x, y, block) for x, y in pairs], block // 2
    return vectors[0]


@intrinsic
def sum_runs(context, kind, address, apart, last, length):
    """Sums of as many runs of elements as a vector has lanes, one a lane.

    Args:
        apart: Bytes from one run to the next.
        last: The last run: lanes behind it hold nothing of use.
    """

    def codegen(context, builder, signature, args):
        _, address, apart, last, length = args
        size, width, zero = (constant(n) for n in (kind.vector.itemsize, kind.lanes, 0))
        rest = builder.urem(length, width)
        whole, mask = builder.sub(length, rest), lanes_below(builder, rest, kind.lanes)
        sums = []
        for n in map(constant, range(kind.lanes)):
            exists = builder.icmp_signed("<=", n, last)
            run, end = builder.select(exists, n, last), builder.select(exists, whole, zero)
            place = builder.add(address, builder.mul(run, apart))
            total = cgutils.alloca_once_value(builder, ir.Constant(kind.vector.llvm, None))
            step = settled(builder, width)  # an unrolled loop costs more than its few steps
            with cgutils.for_range_slice(builder, zero, end, step, zero.type) as (i, _):
                x = load_vector(builder, builder.add(place, builder.mul(i, size)), kind)
                builder.store(builder.fadd(builder.load(total), x), total)
            behind = builder.add(place, builder.mul(whole, size))
            sums.append(builder.fadd(builder.load(total), masked_load(builder, behind, mask, kind)))
        return _sum_each(builder, kind, sums)

    return kind.vector(kind, *[types.int64] * 4), codegen


@intrinsic
def sum_lanes(context, kind, x):
    """Sum of the lanes of a vector, as a tree."""

    def codegen(context, builder, signature, args):
        element = kind.vector.llvm.element
        start = ir.Constant(element, -0.0)
        return _reduce(builder, "fadd", args[1], element, start, fastmath=("reassoc",))

    return kind.scalar(kind, kind.vector), codegen


@intrinsic
def max_lanes(context, kind, x):
    """Largest lane of a vector, NaN if there is one."""

    def codegen(context, builder, signature, args):
        element = kind.vector.llvm.element
        nans = builder.fcmp_unordered("uno", args[1], args[1])
        any_nan = _reduce(builder, "or", nans, ir.IntType(1))
        largest = _reduce(builder, "fmax", args[1], element, fastmath=("nnan", "nsz"))
        return builder.select(any_nan, ir.Constant(element, math.nan), largest)

    return kind.scalar(kind, kind.vector), codegen
