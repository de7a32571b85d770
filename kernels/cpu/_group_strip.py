"""A strip of outputs whose channels meet within small groups, without a shuffle among the taps.

A vector holds the channels of a few groups of ``members``. Lane i of a product can only be fed
from lane i of the image, so it belongs to input i of its group; with weights rotated by d, to
output ``(i + d) % members``. Sums are kept for each d over all taps, and turned into their places
at the end, once for each output::

    sums[d][t][i] += w[d][i] * x[t][i]                      for every tap
    y[t][i] = sum over d of sums[d][t][(i - d) % members]

Registers hold the sums of ``turns`` rotations; larger groups take several *rounds* of those.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

from convforge.kernels.cpu._ir import constant, load_vector, multiply_add
from convforge.kernels.cpu._strip import StripType, apart


class GroupStripType(StripType):
    """Numba type of the configuration: a strip, the members of a group, rotations of a round."""

    def __init__(self, element: str, lanes: int, pixels: int, members: int, turns: int):
        super().__init__(element, lanes, pixels, 1, 1, masked=False)
        self.name = f"GroupStrip[{element}x{lanes},{pixels},{members},{turns}]"
        self.members, self.turns = members, turns
        self.sums = types.UniTuple(self.vector, turns * pixels)


register_model(GroupStripType)(models.OpaqueModel)


class GroupStrip:
    """Configuration of a strip of grouped outputs.

    Attributes:
        lanes: Elements of a vector. pixels: Outputs of a strip.
        members: Channels of a group, on either side; divides the lanes.
        turns: Rotations of a round; divides the members.
    """

    def __init__(self, element: str, lanes: int, pixels: int, members: int, turns: int):
        self._numba_type_ = GroupStripType(element, lanes, pixels, members, turns)
        self.lanes, self.pixels, self.members = lanes, pixels, members

    def __repr__(self):
        return repr(self._numba_type_)


@typeof_impl.register(GroupStrip)
def _typeof_group_strip(value, context):
    return value._numba_type_


@unbox(GroupStripType)
def _unbox_group_strip(kind, value, context):
    return NativeValue(context.context.get_dummy_value())


@intrinsic
def group_members(context, strip):
    """Channels of a group."""
    value = constant(strip.members)
    return types.int64(strip), lambda context, builder, signature, args: value


@intrinsic
def group_turns(context, strip):
    """Rotations of a round."""
    value = constant(strip.turns)
    return types.int64(strip), lambda context, builder, signature, args: value


@intrinsic
def group_zeros(context, strip):
    """Sums set to zero."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(strip.sums), None)

    return strip.sums(strip), codegen


@intrinsic
def group_tap(context, strip, sums, x, step, place, apart_places, extent, inside, nothing, w):
    """Add one tap.

    Args:
        x: Address of output 0's element of the image. step: Bytes to the next output's.
        place: Of output 0's element in its row. apart_places: To the next output's.
        extent: Places of the row. inside: Whether all elements are known to lie in it.
        nothing: Address of a vector of zeros, for those that do not.
        w: Address of the round's weights, a vector for each rotation.
    """

    def codegen(context, builder, signature, args):
        _, packed, x, step, place, apart_places, extent, inside, nothing, w = args

        def near(t):
            # As unsigned numbers, places before the row are beyond it.
            at = apart(builder, place, apart_places, t)
            found = builder.icmp_unsigned("<", at, extent)
            return builder.select(found, apart(builder, x, step, t), nothing)

        elements = _either(
            builder,
            builder.icmp_signed("!=", inside, constant(0)),
            lambda t: load_vector(builder, apart(builder, x, step, t), strip),
            lambda t: load_vector(builder, near(t), strip),
            strip.pixels,
        )
        for d in range(strip.turns):
            weight = load_vector(builder, apart(builder, w, constant(_bytes(strip)), d), strip)
            for t, element in enumerate(elements):
                i = d * strip.pixels + t
                total = builder.extract_value(packed, i)
                total = multiply_add(builder, weight, element, total)
                packed = builder.insert_value(packed, total, i)
        return packed

    return strip.sums(strip, strip.sums, *(types.int64,) * 8), codegen


def _either(builder, condition, yes, no, count):
    """``[yes(0), yes(1), …]`` or the same of ``no``, by a branch."""
    values = []
    with builder.if_else(condition) as branches:
        for branch, make in zip(branches, (yes, no), strict=True):
            with branch:
                made = [make(t) for t in range(count)]
                values.append((made, builder.block))
    (first, first_block), (second, second_block) = values
    joined = []
    for a, b in zip(first, second, strict=True):
        phi = builder.phi(a.type)
        phi.add_incoming(a, first_block)
        phi.add_incoming(b, second_block)
        joined.append(phi)
    return joined


@intrinsic
def group_outputs(context, strip, sums, later):
    """Turn the sums of a round into their places and add them up.

    Args:
        later: What the round behind it gave; they go from the last to the first.
    """

    def codegen(context, builder, signature, args):
        _, sums, later = args
        outputs = ir.Constant(context.get_value_type(strip.outputs), ir.Undefined)
        for t in range(strip.pixels):
            total = builder.extract_value(sums, t)
            for d in range(1, strip.turns):
                part = builder.extract_value(sums, d * strip.pixels + t)
                total = builder.fadd(total, _turned(builder, part, d, strip.members))
            if strip.turns < strip.members:
                part = builder.extract_value(later, t)
                total = builder.fadd(total, _turned(builder, part, strip.turns, strip.members))
            outputs = builder.insert_value(outputs, total, t)
        return outputs

    return strip.outputs(strip, strip.sums, strip.outputs), codegen


def _turned(builder, vector, d, members):
    """Lane i of every group goes to lane ``i + d`` of it, and round."""
    lanes = range(vector.type.count)
    index = ir.IntType(32)
    order = [i - i % members + (i - d) % members for i in lanes]
    mask = ir.Constant(ir.VectorType(index, len(order)), [ir.Constant(index, i) for i in order])
    return builder.shuffle_vector(vector, vector, mask)


def _bytes(strip):
    return strip.lanes * strip.vector.itemsize
