"""From operands to spectra and from spectra to results: the two ends of the FFT's programs.

A spectrum lies scattered over memory: its element f is part of matrix f, which the products in
the middle read and write as a whole.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._fft_tile import (
    backwards_columns,
    backwards_row,
    forwards,
    row_bytes,
    tile_view,
)
from convforge.kernels.cpu._fft_window import WINDOW_BYTES, load_tile, window_view
from convforge.kernels.cpu._store import STORE_BYTES, store_planes, store_rows, store_view
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    scalar,
    splat,
    store,
    vector_bytes,
    zeros,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.rawmem import store_word
from convforge.runtime.tasks import claimed

SPECTRA = Layout(
    "Spectra",
    "groups first_row rows tiles channels "
    "group_bytes image_bytes lane_bytes "
    "spectral_group frequency row block blocks_wide real imaginary streams "
    "scratch_bytes table_bytes line_bytes scale",
)
"""Tasks are groups x rows x blocks of lanes, where a row is a tile of an image, counted from
``first_row``; then where the lanes of the operand lie, where elements of its spectra lie, and the
scratch memory of a worker."""
_spectra = SPECTRA.view
_SPECTRA_BYTES = SPECTRA.nbytes
_FORWARD = Layout("ForwardPointers", "source spectra scratch")
_forward = _FORWARD.view
_BACKWARD = Layout("BackwardPointers", "spectra output bias residual scratch")
_backward = _BACKWARD.view
KEPT = Layout(
    "Kept",
    "count_d count_h count_w keep_d keep_h keep_w step_d step_h step_w "
    "some_d some_h some_w zero_d zero_h zero_w",
)
"""Outputs of an axis, of these how many a tile has, and how many places apart. Outputs in front of
``some`` and from ``zero`` on are sums of nothing, written as 0."""
kept_view = KEPT.view
_KEPT_BYTES = KEPT.nbytes


@device
def _spectrum(kind, c, group, row, block):
    """Offset of the spectrum of a block of lanes."""
    within = block // c.blocks_wide * c.block + block % c.blocks_wide * vector_bytes(kind)
    return group * c.spectral_group + row * c.row + within


@kernel
def transform_operand(kind, constants, pointers, worker, work):
    """Spectra of an operand; a task is one tile of a block of lanes.

    Of each element minus the imaginary part and the real part are written, and where
    ``imaginary`` is not 0 the imaginary part as well: what a product of real matrices wants.
    """
    c, p = _spectra(constants), _forward(pointers)
    d = window_view(constants + _SPECTRA_BYTES)
    h = window_view(constants + _SPECTRA_BYTES + WINDOW_BYTES)
    w = window_view(constants + _SPECTRA_BYTES + 2 * WINDOW_BYTES)
    plan = constants + _SPECTRA_BYTES + 3 * WINDOW_BYTES
    t = tile_view(plan)
    lines = p.scratch + worker * c.scratch_bytes
    tile = lines + c.line_bytes
    blocks = (c.channels + lanes(kind) - 1) // lanes(kind)
    for task in claimed(work, worker):
        group, rest = task // (c.rows * blocks), task % (c.rows * blocks)
        row, block = rest // blocks, rest % blocks
        image, number = (c.first_row + row) // c.tiles, (c.first_row + row) % c.tiles
        channel = block * lanes(kind)
        width = min(lanes(kind), c.channels - channel)
        source = p.source + group * c.group_bytes + image * c.image_bytes + channel * c.lane_bytes
        low_d, high_d, low_h, high_h = load_tile(
            kind, t, d, h, w, number, tile, source, c.lane_bytes, width
        )
        forwards(kind, plan, tile, low_d, high_d, low_h, high_h, lines)
        _spread(kind, c, t, tile, p.spectra + _spectrum(kind, c, group, row, block))


@intrinsic
def _store_past_caches(context, address, value):
    """A vector that is a cache line to memory that is not read again soon."""

    def codegen(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], args[1].type.as_pointer())
        stored = builder.store(args[1], pointer)
        stored.align = value.lanes * value.itemsize
        one = ir.Constant(ir.IntType(32), 1)
        stored.set_metadata("nontemporal", builder.module.add_metadata([one]))
        return context.get_dummy_value()

    return types.void(types.int64, value), codegen


@device
def _spread(kind, c, t, tile, target):
    """A tile's spectrum to its places in the matrices."""
    size = vector_bytes(kind)
    if c.streams:
        for _ in range(t.D * t.H * (t.W // 2 + 1)):
            _store_past_caches(target, zeros(kind) - load(kind, tile + size))
            _store_past_caches(target + c.real, load(kind, tile))
            tile += 2 * size
            target += c.frequency
        return
    for _ in range(t.D * t.H * (t.W // 2 + 1)):
        real, imaginary = load(kind, tile), load(kind, tile + size)
        store(target, zeros(kind) - imaginary)
        store(target + c.real, real)
        if c.imaginary:
            store(target + c.imaginary, imaginary)
        tile += 2 * size
        target += c.frequency


@device
def _collect(kind, c, t, source, tile):
    """A spectrum from its places in the matrices, scaled; conjugated where the scale says so."""
    size = vector_bytes(kind)
    by = splat(kind, scalar(kind, 1.0 / abs(c.scale)))
    by_imaginary = splat(kind, scalar(kind, 1.0 / c.scale))
    for _ in range(t.D * t.H * (t.W // 2 + 1)):
        store(tile, load(kind, source + c.real) * by)
        store(tile + size, load(kind, source + c.imaginary) * by_imaginary)
        tile += 2 * size
        source += c.frequency


@kernel
def finish_tiles(kind, constants, pointers, worker, work):
    """Spectra to outputs, through the post ops; a task is one tile of a block of lanes."""
    c, p = _spectra(constants), _backward(pointers)
    k = kept_view(constants + _SPECTRA_BYTES)
    s = store_view(constants + _SPECTRA_BYTES + _KEPT_BYTES)
    plan = constants + _SPECTRA_BYTES + _KEPT_BYTES + STORE_BYTES
    t = tile_view(plan)
    lines = p.scratch + worker * c.scratch_bytes
    table = lines + c.line_bytes
    tile = table + c.table_bytes
    blocks = (c.channels + lanes(kind) - 1) // lanes(kind)
    for task in claimed(work, worker):
        group, rest = task // (c.rows * blocks), task % (c.rows * blocks)
        row, block = rest // blocks, rest % blocks
        image, number = (c.first_row + row) // c.tiles, (c.first_row + row) % c.tiles
        channel = block * lanes(kind)
        width = min(lanes(kind), c.channels - channel)
        moved = group * c.group_bytes + image * c.image_bytes + channel * c.lane_bytes
        bias = p.bias + (group * c.channels + channel) * itemsize(kind)
        _collect(kind, c, t, p.spectra + _spectrum(kind, c, group, row, block), tile)
        tiles_h = (k.count_h + k.keep_h - 1) // k.keep_h
        tiles_w = (k.count_w + k.keep_w - 1) // k.keep_w
        first_w = number % tiles_w * k.keep_w
        keep_w = min(k.keep_w, k.count_w - first_w)
        finish_tile(
            kind, plan, k, s, number // (tiles_h * tiles_w), number // tiles_w % tiles_h,
            first_w, keep_w, keep_w, tile, width,
            p.output + moved, bias, p.residual + moved, table, lines,
        )  # fmt: skip


@device
def finish_tile(
    kind, plan, k, s, tile_d, tile_h, first_w, keep_w, short_w, tile, width,
    output, bias, residual, table, lines,
):  # fmt: skip
    """Transform a tile back and write what it has of the output.

    Args:
        tile_d, tile_h: Which tile of these axes. first_w: Its first output of the last axis.
        keep_w, short_w: Outputs of a row that all lanes have, and that the last lane has.
        width: Lanes there are.
    """
    t = tile_view(plan)
    first_d, first_h = tile_d * k.keep_d, tile_h * k.keep_h
    keep_d = min(k.keep_d, k.count_d - first_d)
    keep_h = min(k.keep_h, k.count_h - first_h)
    backwards_columns(kind, plan, tile, (keep_d - 1) * k.step_d + 1, lines)
    for i in range(keep_d):
        for j in range(keep_h):
            slab = tile + (i * k.step_d * t.H + j * k.step_h) * row_bytes(kind, t)
            backwards_row(kind, plan, slab, lines)
            pixel = ((first_d + i) * k.count_h + first_h + j) * k.count_w + first_w
            for q in range(keep_w):
                store_word(table + 8 * q, pixel + q)
                if k.step_w > 1:
                    vector = load(kind, slab + q * k.step_w * vector_bytes(kind))
                    store(slab + q * vector_bytes(kind), vector)
            some, zero = k.some_w - first_w, k.zero_w - first_w
            if (
                first_d + i < k.some_d or first_d + i >= k.zero_d
                or first_h + j < k.some_h or first_h + j >= k.zero_h
            ):  # fmt: skip
                some = zero
            for q in range(min(some, keep_w)):
                store(slab + q * vector_bytes(kind), zeros(kind))
            for q in range(zero, keep_w):
                store(slab + q * vector_bytes(kind), zeros(kind))
            done, lanes_left = 0, width
            while done < keep_w:
                count = (short_w if done < short_w else keep_w) - done
                rows, places = slab + done * vector_bytes(kind), table + 8 * done
                store_rows(kind, s, rows, count, lanes_left, places, output, bias, residual)
                if s.plane_bytes:
                    store_planes(kind, s, rows, count, lanes_left, places, output)
                done, lanes_left = done + count, width - 1
