"""Rows of a plane as *lines* in scratch, from which every tap loads adjacent elements.

Fprop with stride s along a row takes the row apart: line k holds its elements k, k + s, …. Dgrad
with stride s pulls it apart: s - 1 zeros follow each element. Zeros lie around either.
"""

from __future__ import annotations

from llvmlite import ir
from numba.extending import intrinsic

from convforge.kernels.cpu._depthwise_axes import three_axes
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    load_scalar,
    store,
    store_scalar,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._wide import load_run
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

LINES = Layout("DepthwiseLines", "apart spread pitch margin row_bytes rows")
lines_view = LINES.view
LINES_BYTES = LINES.nbytes


def _shuffle(name, doc, numbers):
    @intrinsic
    def shuffle(context, a, b):
        def codegen(context, builder, signature, args):
            order = [ir.Constant(ir.IntType(32), n) for n in numbers(a.lanes)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), a.lanes), order)
            return builder.shuffle_vector(*args, mask)

        return a(a, a), codegen

    shuffle.__doc__ = doc
    return shuffle


_even = _shuffle("even", "Elements 0, 2, … of two vectors.", lambda n: range(0, 2 * n, 2))
_odd = _shuffle("odd", "Elements 1, 3, … of two vectors.", lambda n: range(1, 2 * n, 2))
_low = _shuffle(
    "low",
    "The first halves, alternating.",
    lambda n: [i // 2 + n * (i % 2) for i in range(n)],
)
_high = _shuffle(
    "high",
    "The second halves, alternating.",
    lambda n: [i // 2 + n * (i % 2) for i in range(n, 2 * n)],
)


def pack_lines(problem: ConvProblem, lanes: int, pixels: int) -> tuple[bytes, int]:
    """The struct ``DepthwiseLines`` and the bytes of all lines of a strip; none if unneeded."""
    forward = problem.direction is not Direction.DGRAD
    _, high, across = three_axes(problem)
    if across.stride == 1:
        return LINES.pack(apart=1, spread=1, pitch=0, margin=0, row_bytes=0, rows=0), 0
    apart, spread = (across.stride, 1) if forward else (1, across.stride)
    span = across.extent - 1
    first = -across.pad_lo if forward else across.pad_lo - span
    source, target = (across.size, across.out) if forward else (across.out, across.size)
    margin = _round_up(max(0, -(first // apart)), lanes)
    # Whole vectors are read for the last columns, and written behind the last elements.
    reach = (first + span) // apart + _round_up(target, lanes)
    written = _round_up(-(-source // apart), lanes) * spread
    pitch = margin + _round_up(max(reach, written), lanes)
    rows = (pixels - 1) * (high.stride if forward else 1) + high.extent
    row_bytes = apart * pitch * problem.x.dtype.itemsize
    fields = {"apart": apart, "spread": spread, "pitch": pitch, "margin": margin}
    return LINES.pack(**fields, row_bytes=row_bytes, rows=rows), rows * row_bytes


def _round_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@device
def fill_lines(kind, c, target, source, length):
    """One row of ``length`` elements into its lines; may write zeros as far as a margin reaches."""
    size, width, vector = itemsize(kind), lanes(kind), vector_bytes(kind)
    target += c.margin * size
    if c.apart == 2:
        for i in range(0, length, 2 * width):
            at, left = source + i * size, length - i
            if left >= 2 * width:
                a, b = load(kind, at), load(kind, at + vector)
            else:
                a, b = load_first(kind, at, left), load_first(kind, at + vector, left - width)
            place = target + (i >> 1) * size
            store(place, _even(a, b))
            store(place + c.pitch * size, _odd(a, b))
    elif c.spread == 2:
        for i in range(0, length, width):
            a = load_run(kind, source + i * size, length - i)
            place = target + 2 * i * size
            store(place, _low(a, zeros(kind)))
            store(place + vector, _high(a, zeros(kind)))
    else:
        for i in range(length):
            line, at = i % c.apart, i // c.apart * c.spread
            value = load_scalar(kind, source + i * size)
            store_scalar(kind, target + (line * c.pitch + at) * size, value)
