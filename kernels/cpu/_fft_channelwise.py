"""One input channel an output channel: transform, filter and transform back in one go.

Without a sum over channels a tile never leaves its core's cache. Lanes are channels where there
are many, as in depthwise layers, or neighbouring tiles of one channel, as in a long signal.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._fft_output import Output
from convforge.kernels.cpu._fft_shape import filter_window, image_window
from convforge.kernels.cpu._fft_spectra import KEPT, finish_tile, kept_view
from convforge.kernels.cpu._fft_tile import forwards, tile_view
from convforge.kernels.cpu._fft_window import WINDOW_BYTES, load_tile, load_tiles, window_view
from convforge.kernels.cpu._fft_work import Work, strides
from convforge.kernels.cpu._store import STORE_BYTES, pack_store, store_view
from convforge.kernels.cpu._tile import Tile
from convforge.kernels.cpu._vector import (
    fma,
    itemsize,
    lanes,
    load,
    load_scalar,
    scalar,
    splat,
    store,
    vector_bytes,
    zeros,
)
from convforge.problem import ConvProblem, Direction, Order, PostOp
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.tasks import claimed

CHANNELWISE = Layout(
    "Channelwise",
    "channels images tiles source_image source_channel output_image output_channel "
    "spectrum scratch_bytes table_bytes line_bytes scale has_bias",
)
"""Strides in bytes of the source and of the output; bytes of the spectra of a block of filters."""
_channelwise = CHANNELWISE.view
_OPERANDS = Layout("ChannelwisePointers", "source filters output bias residual scratch")
_operands = _OPERANDS.view
_KEPT = CHANNELWISE.nbytes
_WINDOWS = _KEPT + KEPT.nbytes
_STORE = _WINDOWS + 3 * WINDOW_BYTES
_PLAN = _STORE + STORE_BYTES


def is_channelwise(problem: ConvProblem) -> bool:
    """Whether each output channel reads one input channel of its own, and is not wgrad."""
    each = problem.group_C == 1 and problem.group_K == 1
    return each and problem.direction is not Direction.WGRAD


def may_tile_lanes(problem: ConvProblem) -> bool:
    """Whether neighbouring tiles can be lanes: rows are read and written without gaps."""
    source, output = (problem.x, problem.y)
    swapped = problem.direction is Direction.DGRAD
    if swapped:
        source, output = output, source
    gaps = swapped and problem.axes[-1].stride > 1
    adjacent = output.order is Order.CHANNELS_FIRST or problem.groups == 1
    return adjacent and not gaps and not problem.accumulate and PostOp.RESIDUAL not in problem.post


def channelwise_format(work: Work) -> WeightFormat:
    """Spectra of the filters, lanes over channels: ``[block][frequency][-Im, Re][lane]``."""
    problem = work.problem
    first = Order.CHANNELS_FIRST
    at = strides(first, work.size, 1, 1, tuple(axis.filter for axis in work.axes))
    spectrum = work.frequencies * 2 * work.vector
    fields = {
        "spectral_group": 0,
        "frequency": 2 * work.vector,
        "row": 0,
        "block": spectrum,
        "blocks_wide": 1,
        "real": work.vector,
        "imaginary": 0,
        "streams": 0,
    }
    windows = tuple(
        filter_window(problem.direction, *each)
        for each in zip(work.axes, work.cuts, at.axes, strict=True)
    )
    step = work.transform(
        "w", "packed", "packing", windows, at, 1, problem.groups, fields, groups=1
    )
    return WeightFormat(
        id=f"{work.format_id()}:channelwise",
        nbytes=-(-problem.groups // work.tile.lanes) * spectrum,
        pack=Program(steps=(step,), buffers=(work.scratch("packing"),)),
    )


def channelwise_program(work: Work, across: bool) -> Program:
    """One launch; ``across``: lanes are neighbouring tiles."""
    problem = work.problem
    source, output = ("y", "x") if problem.direction is Direction.DGRAD else ("x", "y")
    at, _ = work.image(source)
    end = Output(work, output, problem.N)
    to = end.strides()
    windows = tuple(
        image_window(problem.direction, *each)
        for each in zip(work.axes, work.cuts, at.axes, strict=True)
    )
    lanes_, runs = work.tile.lanes, -(-work.cuts[2].tiles // work.tile.lanes)
    blocks = -(-problem.groups // lanes_) * work.tiles
    if across:
        blocks = problem.groups * work.tiles // work.cuts[2].tiles * runs
    constants = CHANNELWISE.pack(
        channels=problem.groups,
        images=problem.N,
        tiles=work.tiles,
        source_image=at.image,
        source_channel=at.channel,
        output_image=to.image,
        output_channel=to.channel,
        spectrum=work.frequencies * 2 * work.vector,
        scratch_bytes=work.worker,
        table_bytes=work.table,
        line_bytes=work.lines,
        scale=4 * prod(work.shape),
        has_bias=PostOp.BIAS in problem.post,
    )
    planes = work.cuts[2].kept * work.size if across else to.channel if end.planes else 0
    step = Step(
        name="filter",
        kernel=KernelRef(
            filter_tiles if across else filter_channels, Tile(problem.x.dtype.value, 1, 1)
        ),
        operands=(
            source,
            "packed",
            end.name,
            "bias" if PostOp.BIAS in problem.post else "",
            end.residual,
            "lines",
        ),
        constants=constants
        + work.kept()
        + b"".join(w.pack() for w in windows)
        + pack_store(problem, to.axes[2], planes)
        + work.plan,
        tasks=problem.N * blocks,
        cost=Cost(
            flops=problem.N * blocks * lanes_ * 2 * work.flops_each(),
            bytes=problem.bytes,
        ),
    )
    return Program(steps=(*end.before, step, *end.after), buffers=(*end.buffers, work.scratch()))


@kernel
def filter_channels(kind, constants, pointers, worker, work):
    """Lanes are channels; a task is a tile of a block of them."""
    c, p = _channelwise(constants), _operands(pointers)
    k, s = kept_view(constants + _KEPT), store_view(constants + _STORE)
    d = window_view(constants + _WINDOWS)
    h = window_view(constants + _WINDOWS + WINDOW_BYTES)
    w = window_view(constants + _WINDOWS + 2 * WINDOW_BYTES)
    plan = constants + _PLAN
    t = tile_view(plan)
    lines = p.scratch + worker * c.scratch_bytes
    table = lines + c.line_bytes
    tile = table + c.table_bytes
    each = c.images * c.tiles
    for task in claimed(work, worker):
        block, image, number = task // each, task % each // c.tiles, task % c.tiles
        channel = block * lanes(kind)
        width = min(lanes(kind), c.channels - channel)
        source = p.source + image * c.source_image + channel * c.source_channel
        low_d, high_d, low_h, high_h = load_tile(
            kind, t, d, h, w, number, tile, source, c.source_channel, width
        )
        forwards(kind, plan, tile, low_d, high_d, low_h, high_h, lines)
        _filter(kind, c, t, tile, p.filters + block * c.spectrum)
        moved = image * c.output_image + channel * c.output_channel
        first_w = number % w.tiles * k.keep_w
        keep_w = min(k.keep_w, k.count_w - first_w)
        finish_tile(
            kind, plan, k, s, number // (w.tiles * h.tiles), number // w.tiles % h.tiles,
            first_w, keep_w, keep_w, tile, width, p.output + moved,
            p.bias + channel * itemsize(kind), p.residual + moved, table, lines,
        )  # fmt: skip


@kernel
def filter_tiles(kind, constants, pointers, worker, work):
    """Lanes are tiles along the last axis; a task is as many of them as there are lanes."""
    c, p = _channelwise(constants), _operands(pointers)
    k, s = kept_view(constants + _KEPT), store_view(constants + _STORE)
    d = window_view(constants + _WINDOWS)
    h = window_view(constants + _WINDOWS + WINDOW_BYTES)
    w = window_view(constants + _WINDOWS + 2 * WINDOW_BYTES)
    plan = constants + _PLAN
    t = tile_view(plan)
    lines = p.scratch + worker * c.scratch_bytes
    table = lines + c.line_bytes
    tile = table + c.table_bytes
    runs = (w.tiles + lanes(kind) - 1) // lanes(kind)
    each = d.tiles * h.tiles * runs
    for task in claimed(work, worker):
        channel, image = task // each // c.images, task // each % c.images
        tile_d, tile_h = task % each // (h.tiles * runs), task % each // runs % h.tiles
        first = task % runs * lanes(kind)
        width = min(lanes(kind), w.tiles - first)
        source = p.source + image * c.source_image + channel * c.source_channel
        # Lines are scratch of the transforms, which begin when all is loaded.
        low_d, high_d, low_h, high_h = load_tiles(
            kind, t, d, h, w, tile_d, tile_h, first, width, tile, source, lines
        )
        forwards(kind, plan, tile, low_d, high_d, low_h, high_h, lines)
        spectrum = p.filters + channel // lanes(kind) * c.spectrum
        _filter_all(kind, c, t, tile, spectrum + channel % lanes(kind) * itemsize(kind))
        bias = zeros(kind)
        if c.has_bias:
            bias = splat(kind, load_scalar(kind, p.bias + channel * itemsize(kind)))
        store(lines + c.line_bytes - vector_bytes(kind), bias)
        moved = image * c.output_image + channel * c.output_channel
        first_w = first * k.keep_w
        last_w = k.count_w - (first + width - 1) * k.keep_w
        finish_tile(
            kind, plan, k, s, tile_d, tile_h, first_w, k.keep_w, min(k.keep_w, last_w), tile,
            width, p.output + moved, table - vector_bytes(kind), p.residual, table, lines,
        )  # fmt: skip


@device
def _filter(kind, c, t, tile, filters):
    """A spectrum times those of as many filters, scaled."""
    size = vector_bytes(kind)
    scale = splat(kind, scalar(kind, 1.0 / c.scale))
    for _ in range(t.D * t.H * (t.W // 2 + 1)):
        imaginary, real = load(kind, filters) * scale, load(kind, filters + size) * scale
        _multiply(kind, tile, real, imaginary)
        tile += 2 * size
        filters += 2 * size


@device
def _filter_all(kind, c, t, tile, filters):
    """A spectrum times that of one filter, scaled."""
    size = vector_bytes(kind)
    scale = splat(kind, scalar(kind, 1.0 / c.scale))
    for _ in range(t.D * t.H * (t.W // 2 + 1)):
        imaginary = splat(kind, load_scalar(kind, filters)) * scale
        real = splat(kind, load_scalar(kind, filters + size)) * scale
        _multiply(kind, tile, real, imaginary)
        tile += 2 * size
        filters += 2 * size


@device
def _multiply(kind, place, real, imaginary):
    a, b = load(kind, place), load(kind, place + vector_bytes(kind))
    store(place, a * real - b * imaginary)
    store(place + vector_bytes(kind), fma(a, imaginary, b * real))
