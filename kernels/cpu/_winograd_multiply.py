"""All of a Winograd convolution but its weights, in one launch.

A block of tiles is transformed, multiplied and transformed back while it is in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Machine, Step
from convforge.kernels.cpu._images import Images, output_strides
from convforge.kernels.cpu._store import pack_store, store_view
from convforge.kernels.cpu._tile import (
    outer,
    row_pointers,
    tile_columns,
    tile_rows,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._vector import itemsize, lanes
from convforge.kernels.cpu._winograd_input import (
    INPUT_BYTES,
    input_view,
    pack_input,
    transform_tiles,
)
from convforge.kernels.cpu._winograd_output import (
    OUTPUT_BYTES,
    output_view,
    pack_output,
    slab_bytes,
    store_tiles,
)
from convforge.kernels.cpu._winograd_transform import Winograd, side, transform_of
from convforge.kernels.cpu._winograd_weights import weight_plane_bytes
from convforge.kernels.cpu._winograd_windows import Windows, apart, places
from convforge.problem import ConvProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.memory import LINE_BYTES
from convforge.runtime.rawmem import load_word, prefetch, store_word
from convforge.runtime.tasks import claimed

WINOGRAD = Layout(
    "Winograd",
    "groups blocks pieces piece tiles inputs group_channels taps pad_depth depths slots "
    "layers target_depths depth_bytes target_depth_bytes weight_plane_bytes input_bytes sums_bytes "
    "slab_bytes scratch_bytes",
)
_winograd = WINOGRAD.view
_WINOGRAD_BYTES = WINOGRAD.nbytes
_OPERANDS = Layout("WinogradPointers", "source weights output bias residual scratch")
_operands = _OPERANDS.view


@dataclass(frozen=True, slots=True)
class Part:
    """What a task does of a block of output channels: windows of a depth, layers of the target."""

    piece: int
    layers: int


_CRUMBS = 6
"""Times that a transform takes where the channels of a group lie a pixel apart in memory."""
_ROOMY_TERMS, _CROWDING = 6, 8
"""Planes of larger windows crowd each other out of the L2: products of 49 places were measured to
run at 277 GFLOP/s where those of 36 ran at 316, one in eight for another row of places."""
_TILE_STEPS = 4
"""Steps of the tile's loop that beginning and storing it take."""


@kernel
def winograd_convolve(tile, constants, pointers, worker, work):
    """A task is a piece of the windows of some layers times a block of output channels.

    Neighbouring tasks have the same windows, or those of the next layers. A worker transforms
    those of a depth of the source once, and keeps what the layers' filters reach.
    """
    c = _winograd(constants)
    g = input_view(constants + _WINOGRAD_BYTES)
    o = output_view(constants + _WINOGRAD_BYTES + INPUT_BYTES)
    s = store_view(constants + _WINOGRAD_BYTES + INPUT_BYTES + OUTPUT_BYTES)
    p = _operands(pointers)
    size, width = itemsize(tile), tile_columns(tile) * lanes(tile)
    row, square, transform = width * size, side(tile) * side(tile), transform_of(tile)

    table = p.scratch + worker * c.scratch_bytes
    held = table + 8 * tile_rows(tile)
    window = table + (8 * (tile_rows(tile) + c.slots) + 63) // 64 * 64
    planes = window + square * lanes(tile) * size
    sums = planes + c.slots * c.input_bytes
    slab = sums + c.layers * c.sums_bytes
    for i in range(tile_rows(tile)):
        store_word(table + 8 * i, i * g.tile_bytes)
    for i in range(c.slots):
        store_word(held + 8 * i, -1)

    strata = (c.target_depths + c.layers - 1) // c.layers
    for task in claimed(work, worker):
        stratum = task // c.blocks
        column = stratum // strata
        group = column // c.pieces
        first = (column - group * c.pieces) * c.piece
        count = min(c.piece, c.tiles - first)
        z = (stratum - column * strata) * c.layers
        layers = min(c.layers, c.target_depths - z)
        lowest, beyond = z - c.pad_depth, z + layers - 1 + c.taps - c.pad_depth
        for depth in range(max(0, lowest), min(c.depths, beyond)):
            slot = depth % c.slots
            if load_word(held + 8 * slot) != column * c.depths + depth:
                source = p.source + group * c.inputs * size + depth * c.depth_bytes
                transform_tiles(
                    transform, g, source, first, count, planes + slot * c.input_bytes, window
                )
                store_word(held + 8 * slot, column * c.depths + depth)
        block = task - stratum * c.blocks
        panels = p.weights + (group * c.blocks + block) * c.taps * square * c.weight_plane_bytes
        _multiply(tile, c, g, o, table, planes, panels, count, lowest, layers, sums)
        channel = group * c.group_channels + block * width
        left = min(width, c.group_channels - block * width)
        for i in range(layers):
            above = (z + i) * c.target_depth_bytes
            output = p.output + channel * (s.plane_bytes or size) + above
            bias, residual = p.bias + channel * size, p.residual + channel * size + above
            mine = sums + i * c.sums_bytes
            store_tiles(
                transform, o, s, mine, row, first, count, left, output, bias, residual, slab
            )


@device
def _multiply(tile, c, g, o, table, planes, panels, count, lowest, layers, sums):
    """Sum over channels and depth, place by place."""
    square = side(tile) * side(tile)
    row = tile_columns(tile) * lanes(tile) * itemsize(tile)
    for place in range(square):
        for layer in range(layers):
            top = lowest + layer
            low, high = max(0, -top), min(c.taps, c.depths - top)
            to = sums + layer * c.sums_bytes + place * o.plane_bytes
            asked = 0
            for i in range(0, count, tile_rows(tile)):
                windows = planes + place * g.plane_bytes + i * g.tile_bytes
                added = tile_zeros(tile)
                for tap in range(low, high):
                    a = windows + (top + tap) % c.slots * c.input_bytes
                    b = panels + (tap * square + place) * c.weight_plane_bytes
                    soon, soon_step = table, 0
                    if asked < c.inputs * row:
                        soon, soon_step = b + c.weight_plane_bytes + asked, LINE_BYTES
                    behind = a + tile_rows(tile) * g.tile_bytes
                    added = _add_run(
                        tile, added, table, a, b, c.inputs, row, soon, soon_step, behind
                    )
                asked += c.inputs * LINE_BYTES
                tile_store(tile, added, to + i * row, row)


@inlined
def _add_run(tile, sums, table, a, b, length, row, soon, soon_step, behind):
    """Add ``length`` rank-1 updates, and ask for two lines that are needed soon at each.

    A panel serves a few tiles, and the next one is in the last cache or in memory: while the
    first tiles are multiplied by it, the next place's panel is asked for, line by line. Of the
    windows, those behind the tile's are asked for: planes of many places exceed the L2.
    """
    pointers = row_pointers(tile, table, a)
    for i in range(length):
        sums = outer(tile, sums, pointers, i * itemsize(tile), b + i * row)
        prefetch(soon + i * soon_step)
        prefetch(behind + i * LINE_BYTES)
    return sums


def winograd_step(
    problem: ConvProblem,
    windows: Windows,
    tile: Winograd,
    part: Part,
    io: Images,
    machine: Machine,
) -> tuple[Step, Buffer]:
    """The launch, and its scratch memory."""
    size = problem.x.dtype.itemsize
    inputs, tiles, square = windows.inputs, windows.planes, places(tile.minimal)
    blocks = -(-windows.outputs // tile.width)
    pieces, strata = -(-tiles // part.piece), -(-windows.target_depths // part.layers)
    slots = part.layers + windows.taps - 1
    room = -(-part.piece // tile.rows) * tile.rows
    rows = (pieces - 1) * room
    rows += -(-(tiles - (pieces - 1) * part.piece) // tile.rows) * tile.rows
    row = tile.width * size
    tile_bytes = apart(-(-inputs // tile.lanes) * tile.lanes * size)
    input_plane, sums_plane = apart(room * tile_bytes), apart(room * row)
    weight_plane = weight_plane_bytes(inputs, tile.width, size)
    slab = slab_bytes(tile, size)
    scratch = (
        -(-8 * (tile.rows + slots) // 64) * 64
        + square * (tile.lanes * size + slots * input_plane)
        + square * part.layers * sums_plane
        + slab
    )
    scratch = -(-scratch // 64) * 64
    row_bytes, plane_bytes, image = output_strides(problem, io.planes)
    pixel_bytes = inputs * problem.groups * size
    constants = (
        WINOGRAD.pack(
            groups=problem.groups,
            blocks=blocks,
            pieces=pieces,
            piece=part.piece,
            tiles=tiles,
            inputs=inputs,
            group_channels=windows.outputs,
            taps=windows.taps,
            pad_depth=windows.pad_depth,
            depths=windows.depths,
            slots=slots,
            layers=part.layers,
            target_depths=windows.target_depths,
            depth_bytes=prod(windows.source) * pixel_bytes,
            target_depth_bytes=prod(windows.target) * row_bytes,
            weight_plane_bytes=weight_plane,
            input_bytes=square * input_plane,
            sums_bytes=square * sums_plane,
            slab_bytes=slab,
            scratch_bytes=scratch,
        )
        + pack_input(windows, tile.minimal.stride, pixel_bytes, tile_bytes, input_plane, machine)
        + pack_output(
            problem,
            windows,
            image or windows.target_depths * prod(windows.target),
            sums_plane,
            machine,
        )
        + pack_store(problem, row_bytes, plane_bytes)
    )
    weights = problem.groups * blocks * windows.taps * square * weight_plane
    # Weights that leave room in the last cache are there or in memory: half of them count. Others
    # come from memory, and where they exceed the cache, once for each piece.
    if 2 * weights <= machine.l3_bytes:
        read = weights // 2
    else:
        read = weights * (pieces * strata if weights > machine.l3_bytes else 1)
    step = Step(
        name="winograd",
        kernel=KernelRef(winograd_convolve, tile),
        operands=(io.source, "packed", io.output, io.bias, io.residual, "scratch"),
        constants=constants,
        tasks=problem.groups * pieces * strata * blocks,
        cost=Cost(
            flops=problem.groups * _flops(windows, tile, rows, blocks, problem.groups),
            bytes=problem.bytes - prod(problem.w_shape) * size + read,
        ),
    )
    return step, Buffer(name="scratch", nbytes=scratch, scope="worker")


def _flops(windows: Windows, tile: Winograd, rows: int, blocks: int, groups: int) -> int:
    """Work on one group, transforms and the tile's own stores as if they were products."""
    # A transformed vector takes about as many cycles as it has terms: measured on 64 channels.
    terms = 2 * tile.lanes * tile.minimal.terms * windows.planes
    if groups > 1:
        terms *= _CRUMBS
    inputs = windows.depths * -(-windows.inputs // tile.lanes)
    outputs = windows.target_depths * blocks * tile.width // tile.lanes
    depth_products = windows.taps * windows.inputs + _TILE_STEPS
    products = 2 * rows * windows.target_depths * depth_products * blocks * tile.width
    products *= 1 + max(0, tile.minimal.terms - _ROOMY_TERMS) / _CROWDING
    return int(places(tile.minimal) * (terms * (inputs + outputs) + products))
