"""A strip of outputs whose channels meet within their groups.

Groups narrower than a vector: a vector holds the channels of a few groups of ``members``. Lane i
of a product can only be fed from lane i of the image, so it belongs to input i of its group; with
weights exchanged by d, to output ``i ^ d``. Sums are kept for each d over all taps, and brought to
their places at the end, once for each output::

    sums[d][t][i] += w[d][i] * x[t][i]                      for every tap
    y[t][i] = sum over d of sums[d][t][i ^ d]

Wide groups, of a vector or more: an input is repeated in all lanes, which are the outputs::

    y[t] += w[c] * x[t][c]                                  for every tap and input c

Where neighbouring taps meet neighbouring outputs in one element, it is repeated once for a chunk
of taps: alone, every product would wait for a load of its own, and there are two of either a cycle.
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
    settled,
    store_vector,
)
from convforge.kernels.cpu._strip import StripType, apart
from convforge.runtime.configuration import Configuration


class GroupStripType(StripType):
    """Numba type of the configuration: a strip, and the members of a group."""

    def __init__(self, element: str, lanes: int, pixels: int, members: int, taps: int):
        super().__init__(element, lanes, pixels, taps, 1, masked=False)
        self.name = f"GroupStrip[{element}x{lanes},{pixels},{members},{taps}]"
        self.members, self.columns = members, max(1, members // lanes)
        self.turns = members if members < lanes else self.columns
        self.outputs = types.UniTuple(self.vector, self.columns * pixels)
        self.sums = types.UniTuple(self.vector, self.turns * pixels)


class GroupStrip(Configuration):
    """Configuration of a strip of grouped outputs.

    Attributes:
        lanes: Elements of a vector. pixels: Outputs of a strip.
        members: Channels of a group, on either side; divides the lanes, or is divided by them.
        taps: Of a chunk; the next one meets in an output what this one meets in the next output.
    """

    def __init__(self, element: str, lanes: int, pixels: int, members: int, taps: int = 1):
        self._numba_type_ = GroupStripType(element, lanes, pixels, members, taps)
        self.lanes, self.pixels, self.members = lanes, pixels, members

    @property
    def columns(self) -> int:
        """Vectors of a group, or one that holds several groups."""
        return self._numba_type_.columns


@intrinsic
def group_members(context, strip):
    """Channels of a group."""
    value = constant(strip.members)
    return types.int64(strip), lambda context, builder, signature, args: value


@intrinsic
def group_columns(context, strip):
    """Vectors of a group, or one that holds several groups."""
    value = constant(strip.columns)
    return types.int64(strip), lambda context, builder, signature, args: value


@intrinsic
def group_zeros(context, strip):
    """Sums set to zero."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(strip.sums), None)

    return strip.sums(strip), codegen


@intrinsic
def group_exchanged(context, strip, sums, x, step, w):
    """Add the products of one element of each output with the weights of every exchange.

    Args:
        x: Address of output 0's element. step: Bytes to the next output's.
        w: Address of the weights, a vector for each exchange.
    """

    def codegen(context, builder, signature, args):
        _, packed, x, step, w = args
        places = [apart(builder, x, step, t) for t in range(strip.pixels)]
        elements = [load_vector(builder, place, strip) for place in places]
        weights = _weights(builder, strip, w)
        for t, element in enumerate(elements):
            packed = _products(builder, strip, packed, t, element, weights)
        return packed

    return strip.sums(strip, strip.sums, *(types.int64,) * 3), codegen


@intrinsic
def group_repeated(context, strip, sums, x, step, w, tap_bytes):
    """Add the products of one input of each output with its weights, for a chunk of taps.

    Args:
        x: Address of output 0's input. step: Bytes to the next output's, and to the next tap's.
        w: Address of the weights, a vector for each column. tap_bytes: To those of the next tap.
    """

    def codegen(context, builder, signature, args):
        _, packed, place, step, w, tap_bytes = args
        taps = [
            _weights(builder, strip, apart(builder, w, tap_bytes, s)) for s in range(strip.taps)
        ]
        for t in range(strip.pixels + strip.taps - 1):
            element = load_element(builder, place, strip)
            element = broadcast(builder, element, strip.vector.llvm)
            for s, weights in enumerate(taps):
                if 0 <= t - s < strip.pixels:
                    packed = _products(builder, strip, packed, t - s, element, weights)
            place = builder.add(place, step)
        return packed

    return strip.sums(strip, strip.sums, *(types.int64,) * 4), codegen


def _weights(builder, strip, w):
    """A vector for each turn."""
    size = strip.lanes * strip.vector.itemsize
    return [
        load_vector(builder, builder.add(w, constant(d * size)), strip) for d in range(strip.turns)
    ]


def _products(builder, strip, packed, t, element, weights):
    """``sums[t][d] += w[d] * element``."""
    for i, weight in enumerate(weights, t * strip.turns):
        total = multiply_add(builder, weight, element, builder.extract_value(packed, i))
        packed = builder.insert_value(packed, total, i)
    return packed


@intrinsic
def group_outputs(context, strip, sums):
    """Bring sums to the lanes of their outputs and add them up."""

    def codegen(context, builder, signature, args):
        if strip.members >= strip.lanes:
            return args[1]
        outputs = ir.Constant(context.get_value_type(strip.outputs), ir.Undefined)
        for t in range(strip.pixels):
            first = t * strip.turns
            parts = [builder.extract_value(args[1], first + d) for d in range(strip.turns)]
            # Those whose exchanges differ in one bit meet: few shuffles wait for one another.
            bit = 1
            while len(parts) > 1:
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [builder.fadd(a, _exchanged(builder, b, bit)) for a, b in pairs]
                bit *= 2
            outputs = builder.insert_value(outputs, parts[0], t)
        return outputs

    return strip.outputs(strip, strip.sums), codegen


@intrinsic
def group_store(context, strip, outputs, address, step, count):
    """The first ``count`` outputs to memory, ``step`` bytes apart."""

    def codegen(context, builder, signature, args):
        _, outputs, address, step, count = args
        address = settled(builder, address)
        size = strip.vector.itemsize
        for t in range(strip.pixels):
            with builder.if_then(builder.icmp_signed("<", constant(t), count)):
                place = apart(builder, address, step, t)
                for j in range(strip.columns):
                    value = builder.extract_value(outputs, t * strip.columns + j)
                    at = builder.add(place, constant(j * strip.lanes * size))
                    store_vector(builder, value, at, size)
        return context.get_dummy_value()

    return types.void(strip, strip.outputs, *(types.int64,) * 3), codegen


def _exchanged(builder, vector, d):
    """Lane i and lane ``i ^ d`` change places."""
    index = ir.IntType(32)
    order = [ir.Constant(index, i ^ d) for i in range(vector.type.count)]
    mask = ir.Constant(ir.VectorType(index, len(order)), order)
    return builder.shuffle_vector(vector, vector, mask)
