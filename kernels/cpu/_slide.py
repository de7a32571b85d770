"""A filter slides by a strip of outputs.

The taps along the strip come in chunks of vectors that stay in registers; each element of the
image is loaded once for a chunk and meets every output that it is part of::

    sums[t] += w[k] * x[t * step + k]        for all t, k; x[j] only where low <= j < high

Elements outside the image are skipped by a branch each, so a border costs less, not more.
"""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import constant, load_vector, multiply_add, settled, store_vector
from convforge.kernels.cpu._strip import apart, loader


def _where(builder, condition, values, change):
    """``change(values)`` where the condition holds; both are dicts of LLVM values."""
    before = builder.block
    with builder.if_then(condition):
        changed = change(values)
        inside = builder.block
    result = dict(values)
    for key, value in changed.items():
        phi = builder.phi(value.type)
        phi.add_incoming(values[key], before)
        phi.add_incoming(value, inside)
        result[key] = phi
    return result


def _between(builder, low, number, high):
    """Whether ``low <= number < high`` for a Python number."""
    above = builder.icmp_signed("<=", low, constant(number))
    return builder.and_(above, builder.icmp_signed("<", constant(number), high))


def _unpacked(builder, values, count):
    return {i: builder.extract_value(values, i) for i in range(count)}


def _packed(builder, like, values):
    for i, value in values.items():
        like = builder.insert_value(like, value, i)
    return like


def _pairs(strip, j):
    """Output and tap that meet at element ``j`` of the image."""
    for tap in range(strip.taps):
        pixel, rest = divmod(j - tap, strip.step)
        if rest == 0 and 0 <= pixel < strip.pixels:
            yield pixel, tap


def _elements(strip):
    """Elements of the image that a strip and a chunk span."""
    return (strip.pixels - 1) * strip.step + strip.taps


def _meet_all(builder, strip, sums, low, high, meet):
    """All elements a strip spans, or those inside the image where a border is near."""
    elements = range(_elements(strip))
    above = builder.icmp_signed("<=", low, constant(0))
    below = builder.icmp_signed("<=", constant(len(elements)), high)
    with builder.if_else(builder.and_(above, below)) as (inside, across):
        with inside:
            whole = sums
            for j in elements:
                whole = whole | meet(j)(whole)
            whole_end = builder.block
        with across:
            partial = sums
            for j in elements:
                partial = _where(builder, _between(builder, low, j, high), partial, meet(j))
            partial_end = builder.block
    joined = {}
    for i in sums:
        joined[i] = builder.phi(strip.vector.llvm)
        joined[i].add_incoming(whole[i], whole_end)
        joined[i].add_incoming(partial[i], partial_end)
    return joined


@intrinsic
def slide(context, strip, sums, x, x_step, low, high, w, w_step, first, last):
    """Add a chunk of taps; steps are bytes, ``first`` and ``last`` the lanes of masked loads."""

    def codegen(context, builder, signature, args):
        _, packed, x, x_step, low, high, w, w_step, *lanes = args
        x = settled(builder, x)
        load = loader(builder, strip, lanes)
        taps = [
            load_vector(builder, apart(builder, w, w_step, k), strip) for k in range(strip.taps)
        ]

        def meet(j):
            def change(sums):
                element = load(apart(builder, x, x_step, j))
                changed = {}
                for pixel, tap in _pairs(strip, j):
                    changed[pixel] = multiply_add(builder, taps[tap], element, sums[pixel])
                return changed

            return change

        sums = _unpacked(builder, packed, strip.pixels)
        sums = _meet_all(builder, strip, sums, low, high, meet)
        return _packed(builder, packed, sums)

    places = (types.int64,) * 8
    return strip.outputs(strip, strip.outputs, *places), codegen


@intrinsic
def collect(context, strip, x, x_step, low, high, dy, dy_step, sums, sums_step, first, last):
    """The other way: add a strip of dy to a chunk of sums in memory, one vector a tap.

    ``sums[k] += dy[t] * x[t * step + k]``, and again ``x[j]`` only where ``low <= j < high``.
    """

    def codegen(context, builder, signature, args):
        _, x, x_step, low, high, dy, dy_step, sums, sums_step, *lanes = args
        x, dy = settled(builder, x), settled(builder, dy)
        load = loader(builder, strip, lanes)
        pixels = [load(apart(builder, dy, dy_step, t)) for t in range(strip.pixels)]
        places = [apart(builder, sums, sums_step, k) for k in range(strip.taps)]

        def meet(j):
            def change(sums):
                element = load(apart(builder, x, x_step, j))
                changed = {}
                for pixel, tap in _pairs(strip, j):
                    changed[tap] = multiply_add(builder, pixels[pixel], element, sums[tap])
                return changed

            return change

        totals = {k: load_vector(builder, place, strip) for k, place in enumerate(places)}
        totals = _meet_all(builder, strip, totals, low, high, meet)
        for k, place in enumerate(places):
            store_vector(builder, totals[k], place, strip.vector.itemsize)
        return context.get_dummy_value()

    return types.void(strip, *(types.int64,) * 10), codegen


@intrinsic
def touch(context, strip, sums, x, x_step, low, high, w, first, last):
    """Add one tap to the outputs from ``low`` to before ``high``: ``sums[t] += w * x[t]``."""

    def codegen(context, builder, signature, args):
        _, packed, x, x_step, low, high, w, *lanes = args
        x = settled(builder, x)
        load = loader(builder, strip, lanes)
        weight = load_vector(builder, w, strip)

        def meet(t):
            def change(sums):
                element = load(apart(builder, x, x_step, t))
                return {t: multiply_add(builder, weight, element, sums[t])}

            return change

        sums = _unpacked(builder, packed, strip.pixels)
        for t in range(strip.pixels):
            sums = _where(builder, _between(builder, low, t, high), sums, meet(t))
        return _packed(builder, packed, sums)

    places = (types.int64,) * 7
    return strip.outputs(strip, strip.outputs, *places), codegen
