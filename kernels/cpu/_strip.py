"""A strip: a few neighbouring outputs, one vector each, in registers.

It does not know which axis it lies along, nor what its vectors hold: channels of a pixel, or
neighbouring columns of a plane. :mod:`convforge.kernels.cpu._slide` adds filter taps to it.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import (
    broadcast,
    constant,
    load_vector,
    masked_load,
    masked_store,
    settled,
    store_vector,
)
from convforge.kernels.cpu._vector import KindType, VectorType
from convforge.runtime.configuration import Configuration

_WORD = ir.IntType(64)


class StripType(KindType):
    """Numba type of a strip's configuration."""

    columns = 1

    def __init__(self, element: str, lanes: int, pixels: int, taps: int, step: int, masked: bool):
        name = f"Strip[{element}x{lanes},{pixels},{taps},{step}{',masked' * masked}]"
        super().__init__(element, name)
        self.lanes = lanes
        self.vector = VectorType(element, lanes)
        self.pixels, self.taps, self.step, self.masked = pixels, taps, step, masked
        self.outputs = types.UniTuple(self.vector, pixels)
        self.weights = types.UniTuple(self.vector, taps)


class Strip(Configuration):
    """Configuration of a strip.

    Attributes:
        lanes: Elements of a vector. pixels: Outputs of a strip. taps: Filter taps of a chunk.
        step: Image elements from one output to the next, for which chunks are compiled.
        masked: Vectors of the image lie partly outside; lanes are selected at every load.
    """

    def __init__(
        self, element: str, lanes: int, pixels: int, taps: int, step: int, masked: bool = False
    ):
        self._numba_type_ = StripType(element, lanes, pixels, taps, step, masked)
        self.lanes, self.pixels, self.taps, self.step = lanes, pixels, taps, step


def _number(attribute, doc):
    @intrinsic
    def number(context, strip):
        value = constant(getattr(strip, attribute))
        return types.int64(strip), lambda context, builder, signature, args: value

    number.__doc__ = doc
    return number


strip_pixels = _number("pixels", "Outputs of a strip.")
strip_taps = _number("taps", "Taps of a chunk.")
strip_step = _number("step", "Image elements from one output to the next.")


@intrinsic
def strip_zeros(context, strip):
    """Sums set to zero."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(strip.outputs), None)

    return strip.outputs(strip), codegen


@intrinsic
def strip_store(context, strip, sums, address, step, count, lanes):
    """The first ``count`` sums to memory, ``step`` bytes apart, ``lanes`` elements of each."""

    def codegen(context, builder, signature, args):
        _, sums, address, step, count, lanes = args
        address = settled(builder, address)
        whole = builder.icmp_signed("==", lanes, constant(strip.lanes))
        mask = _lanes_between(builder, constant(0), lanes, strip.lanes)
        size = strip.vector.itemsize
        with builder.if_else(whole) as (full, partial):
            for branch, masked in ((full, False), (partial, True)):
                with branch:
                    for t in range(strip.pixels):
                        with builder.if_then(builder.icmp_signed("<", constant(t), count)):
                            place = apart(builder, address, step, t)
                            value = builder.extract_value(sums, t)
                            if masked:
                                masked_store(builder, value, place, mask, size)
                            else:
                                store_vector(builder, value, place, size)
        return context.get_dummy_value()

    places = (types.int64, types.int64, types.int64, types.int64)
    return types.void(strip, strip.outputs, *places), codegen


def apart(builder, address, step, i):
    """The i-th of places ``step`` bytes apart."""
    return builder.add(address, builder.mul(step, constant(i)))


def _lanes_between(builder, first, last, lanes):
    """Mask of the lanes from ``first`` to before ``last``, whatever these are."""
    words = ir.VectorType(_WORD, lanes)
    numbers = ir.Constant(words, list(range(lanes)))
    low = builder.icmp_signed(">=", numbers, broadcast(builder, first, words))
    return builder.and_(low, builder.icmp_signed("<", numbers, broadcast(builder, last, words)))


def loader(builder, strip, lanes):
    """How vectors of the image are loaded: ``lanes`` is the pair first, last."""
    if not strip.masked:
        return lambda address: load_vector(builder, address, strip)
    mask = _lanes_between(builder, *lanes, strip.lanes)
    return lambda address: masked_load(builder, address, mask, strip)


@intrinsic
def strip_load(context, strip, address, first, last):
    """One vector of the image; of a masked strip, the lanes from ``first`` to before ``last``."""

    def codegen(context, builder, signature, args):
        return loader(builder, strip, args[2:])(args[1])

    return strip.vector(strip, types.int64, types.int64, types.int64), codegen


@intrinsic
def strip_put(context, strip, address, value, count):
    """One vector to memory; of a masked strip, the first ``count`` lanes."""

    def codegen(context, builder, signature, args):
        _, address, value, count = args
        size = strip.vector.itemsize
        if strip.masked:
            mask = _lanes_between(builder, constant(0), count, strip.lanes)
            masked_store(builder, value, address, mask, size)
        else:
            store_vector(builder, value, address, size)
        return context.get_dummy_value()

    return types.void(strip, types.int64, strip.vector, types.int64), codegen
