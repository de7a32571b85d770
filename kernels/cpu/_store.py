"""From a tile's sums to the output: bias, residual, activation, tails.

The tile writes its sums to a small slab in L1, and one routine takes them from there, whatever
the layout and the ops. Ops are run-time fields, not types: one compiled kernel serves them all.
"""

from __future__ import annotations

import math

from convforge.kernels.cpu._block import block_store, block_transpose, columns_store, whole_load
from convforge.kernels.cpu._convert import (
    load_stored,
    store_all_stored,
    store_stored,
    stored_itemsize,
    vectors_of,
)
from convforge.kernels.cpu._tile import Tile, tile_columns, tile_rows
from convforge.kernels.cpu._vector import (
    fma,
    itemsize,
    lanes,
    load,
    load_scalar,
    scalar,
    splat,
    store,
    store_scalar,
    vector_bytes,
    where_less,
    zeros,
)
from convforge.problem import ConvProblem, PostOp
from convforge.runtime.args import Layout
from convforge.runtime.jit import device
from convforge.runtime.memory import LINE_BYTES
from convforge.runtime.rawmem import load_word, prefetch_to_write

ACTIVATIONS = (PostOp.RELU, PostOp.RELU6, PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH)
_RELU, _RELU6, _SILU, _GELU, _GELU_TANH = range(1, 6)

STORE = Layout("Store", "has_bias has_residual accumulate activation row_bytes plane_bytes")
store_view = STORE.view
STORE_BYTES = STORE.nbytes


def pack_store(problem: ConvProblem, row_bytes: int, plane_bytes: int = 0) -> bytes:
    """The struct ``STORE``.

    Args:
        row_bytes: Distance of pixels in the output.
        plane_bytes: Distance of channels where they are not adjacent (channels first).
    """
    activation = [op for op in problem.post if not op.reads_operand]
    return STORE.pack(
        has_bias=PostOp.BIAS in problem.post,
        has_residual=PostOp.RESIDUAL in problem.post,
        accumulate=problem.accumulate,
        activation=1 + ACTIVATIONS.index(activation[0]) if activation else 0,
        row_bytes=row_bytes,
        plane_bytes=plane_bytes,
    )


def slab_bytes(tile: Tile, size: int) -> int:
    """Memory of a tile's sums, and of as many rows more as a vector has lanes."""
    return (tile.rows + tile.lanes) * tile.width * size


@device
def _smooth(x, activation):
    """Activations that need an exponential, in float64: the sums are few, the error is not."""
    v = float(x)
    if activation == _SILU:
        return v / (1.0 + math.exp(-v))
    if activation == _GELU:
        return 0.5 * v * (1.0 + math.erf(v * math.sqrt(0.5)))
    inner = math.sqrt(2.0 / math.pi) * (v + 0.044715 * v * v * v)
    return 0.5 * v * (1.0 + math.tanh(inner))


@device
def _gelu(kind, v):
    """Of float32, by ``erf(v / sqrt(2)) = v P(v v) / Q(v v)``, which is 1 from 4 sqrt(2) on.

    The quotient of least relative error, 2.5e-8, for ``|v| <= 4 sqrt(2)``; with rounding, the
    result errs by at most 1.7 units of ``v``.
    """
    one = splat(kind, scalar(kind, 1.0))
    far = splat(kind, scalar(kind, 5.656854))
    x = where_less(far, v, far, where_less(v, zeros(kind) - far, zeros(kind) - far, v))
    z = x * x
    p = splat(kind, scalar(kind, 4.39062305e-08))
    p = fma(p, z, splat(kind, scalar(kind, 1.25752272e-05)))
    p = fma(p, z, splat(kind, scalar(kind, 0.000343153994)))
    p = fma(p, z, splat(kind, scalar(kind, 0.00938659653)))
    p = fma(p, z, splat(kind, scalar(kind, 0.068420182)))
    p = fma(p, z, splat(kind, scalar(kind, 0.797884541)))
    q = splat(kind, scalar(kind, 1.16940773e-06))
    q = fma(q, z, splat(kind, scalar(kind, 7.40833084e-05)))
    q = fma(q, z, splat(kind, scalar(kind, 0.00190065336)))
    q = fma(q, z, splat(kind, scalar(kind, 0.0288350612)))
    q = fma(q, z, splat(kind, scalar(kind, 0.252418261)))
    q = fma(q, z, one)
    erf = x * p / q
    erf = where_less(one, erf, one, where_less(erf, zeros(kind) - one, zeros(kind) - one, erf))
    half = splat(kind, scalar(kind, 0.5)) * v
    return fma(half, erf, half)


@device
def _apply_smooth(kind, address, count, activation):
    for i in range(count):
        place = address + i * itemsize(kind)
        value = load_scalar(kind, place)
        store_scalar(kind, place, scalar(kind, _smooth(value, activation)))


@device
def store_rows(tile, s, slab, count, width, destinations, output, bias, residual):
    """Write ``count`` rows of a slab, ``width`` channels each, through the post ops.

    Args:
        slab: Address of the sums, rows one tile's width apart; overwritten. Where channels are
            planes, the finished rows stay there for :func:`store_planes`.
        destinations: Table of the rows' pixels in the output.
        output, residual: Address of the first of these channels in pixel 0.
        bias: Address of the first of these channels' bias.
    """
    row = tile_columns(tile) * vector_bytes(tile)
    put_rows(vectors_of(tile), s, slab, row, count, width, destinations, output, bias, residual)


@device
def put_rows(kind, s, slab, slab_row, count, width, destinations, output, bias, residual):
    """As :func:`store_rows`, rows ``slab_row`` bytes apart."""
    none, six = zeros(kind), splat(kind, scalar(kind, 6))
    for i in range(count):
        place = slab + i * slab_row
        offset = load_word(destinations + 8 * i) * s.row_bytes
        for j in range(0, width, lanes(kind)):
            left, at, first = width - j, j * itemsize(kind), j * stored_itemsize(kind)
            value = load(kind, place + at)
            if s.has_bias:
                value = value + load_stored(kind, bias + first, left)
            if s.has_residual:
                value = value + load_stored(kind, residual + offset + first, left)
            if s.activation == _RELU or s.activation == _RELU6:
                value = where_less(value, none, none, value)
                if s.activation == _RELU6:
                    value = where_less(six, value, six, value)
            elif s.activation == _GELU and itemsize(kind) == 4:
                value = _gelu(kind, value)
            elif s.activation != 0:
                store(place + at, value)
                _apply_smooth(kind, place + at, min(left, lanes(kind)), s.activation)
                value = load(kind, place + at)
            if s.accumulate:
                value = value + load_stored(kind, output + offset + first, left)
            if s.plane_bytes:
                store(place + at, value)
            elif left >= lanes(kind):
                store_all_stored(kind, output + offset + first, value)
            else:
                store_stored(kind, output + offset + first, value, left)


@device
def expect_planes(s, count, width, destinations, output):
    """Ask for the cache lines that :func:`store_planes` will write, while sums are computed.

    A tile ends in a line of every plane that no tile was in before. The stores would wait for
    these lines one after another, and the next tile for the stores.
    """
    place = output + load_word(destinations + 8 * (count - 1)) * s.row_bytes
    for j in range(width):
        prefetch_to_write(place + j * s.plane_bytes)


@device
def expect_rows(tile, s, destinations, output):
    """Ask for the cache lines of a tile's rows, which will be written once sums are computed."""
    nbytes = tile_columns(tile) * lanes(tile) * stored_itemsize(tile)
    for i in range(tile_rows(tile)):
        place = output + load_word(destinations + 8 * i) * s.row_bytes
        for at in range(0, nbytes, LINE_BYTES):
            prefetch_to_write(place + at)


@device
def store_planes(tile, s, slab, count, width, destinations, output):
    """Write a finished slab channels first: blocks of pixels that are adjacent in their plane."""
    row = tile_columns(tile) * vector_bytes(tile)
    put_planes(vectors_of(tile), s, slab, row, count, width, destinations, output)


@device
def put_planes(kind, s, slab, slab_row, count, width, destinations, output):
    """As :func:`store_planes`, rows ``slab_row`` bytes apart."""
    first = 0
    while first < count:
        dest = load_word(destinations + 8 * first)
        pixels = 1
        while (
            pixels < lanes(kind)
            and first + pixels < count
            and load_word(destinations + 8 * (first + pixels)) == dest + pixels
        ):
            pixels += 1
        for j in range(0, width, lanes(kind)):
            sums = slab + first * slab_row + j * itemsize(kind)
            place = output + dest * s.row_bytes + j * s.plane_bytes
            # Rows beyond the pixels are read, which the slab has room for, and not written.
            block = block_transpose(kind, whole_load(kind, sums, slab_row))
            if width - j >= lanes(kind):
                columns_store(kind, block, place, s.plane_bytes, pixels)
            else:
                block_store(kind, block, place, s.plane_bytes, width - j, pixels)
        first += pixels
