"""All of a Winograd convolution but its weights, in one launch.

A block of tiles is transformed, multiplied and transformed back while it is in the cache.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Machine, Step
from convforge.kernels.cpu._images import Images, output_strides
from convforge.kernels.cpu._store import pack_store, store_view
from convforge.kernels.cpu._tile import (
    accumulate_run,
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
    tiles_of,
    transform_tiles,
)
from convforge.kernels.cpu._winograd_output import (
    OUTPUT_BYTES,
    output_view,
    pack_output,
    slab_bytes,
    store_tiles,
)
from convforge.kernels.cpu._winograd_transform import TAPS, Winograd, outputs
from convforge.kernels.cpu._winograd_weights import weight_plane_bytes
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.rawmem import store_word

WINOGRAD = Layout(
    "Winograd",
    "groups blocks pieces piece tiles inputs group_channels weight_plane_bytes "
    "input_bytes sums_bytes slab_bytes scratch_bytes",
)
_winograd = WINOGRAD.view
_WINOGRAD_BYTES = WINOGRAD.nbytes
_OPERANDS = Layout("WinogradPointers", "source weights output bias residual scratch")
_operands = _OPERANDS.view
_LINE_BYTES = 64
_TILE_STEPS = 4
"""Steps of the tile's loop that beginning and storing it take."""


@kernel
def winograd_convolve(tile, constants, pointers, worker, workers):
    """A task is a piece of the tiles of a group times one block of output channels.

    Neighbouring tasks have the same tiles, which are transformed once by each worker.
    """
    c = _winograd(constants)
    g = input_view(constants + _WINOGRAD_BYTES)
    o = output_view(constants + _WINOGRAD_BYTES + INPUT_BYTES)
    s = store_view(constants + _WINOGRAD_BYTES + INPUT_BYTES + OUTPUT_BYTES)
    p = _operands(pointers)
    size, width = itemsize(tile), tile_columns(tile) * lanes(tile)
    side = outputs(tile) + TAPS - 1

    table = p.scratch + worker * c.scratch_bytes
    window = table + (8 * tile_rows(tile) + 63) // 64 * 64
    planes = window + side * side * lanes(tile) * size
    sums = planes + c.input_bytes
    slab = sums + c.sums_bytes
    for i in range(tile_rows(tile)):
        store_word(table + 8 * i, i * g.tile_bytes)

    held = -1
    tasks = c.groups * c.pieces * c.blocks
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        piece = task // c.blocks
        block = task - piece * c.blocks
        group = piece // c.pieces
        first = (piece - group * c.pieces) * c.piece
        count = min(c.piece, c.tiles - first)
        if piece != held:
            source = p.source + group * c.inputs * size
            transform_tiles(tile, g, source, first, count, planes, window)
            held = piece
        panels = p.weights + (group * c.blocks + block) * side * side * c.weight_plane_bytes
        _multiply(tile, c, g, o, table, planes, panels, count, sums)
        channel = group * c.group_channels + block * width
        left = min(width, c.group_channels - block * width)
        output = p.output + channel * (s.plane_bytes or size)
        bias, residual = p.bias + channel * size, p.residual + channel * size
        store_tiles(tile, o, s, sums, first, count, left, output, bias, residual, slab)


@device
def _multiply(tile, c, g, o, table, planes, panels, count, sums):
    """Sum over channels, place by place."""
    side = outputs(tile) + TAPS - 1
    row = tile_columns(tile) * lanes(tile) * itemsize(tile)
    for place in range(side * side):
        plane = planes + place * g.plane_bytes
        panel = panels + place * c.weight_plane_bytes
        for i in range(0, count, tile_rows(tile)):
            at = plane + i * g.tile_bytes
            added = accumulate_run(
                tile, tile_zeros(tile), table, at, panel, c.inputs, itemsize(tile), row
            )
            tile_store(tile, added, sums + place * o.plane_bytes + i * row, row)


def winograd_step(
    problem: ConvProblem, tile: Winograd, m: int, piece: int, io: Images, machine: Machine
) -> tuple[Step, Buffer]:
    """The launch, and its scratch memory.

    Args:
        piece: Tiles of a task.
    """
    size = problem.x.dtype.itemsize
    fprop = problem.direction is Direction.FPROP
    channels_out = problem.group_K if fprop else problem.group_C
    inputs = problem.group_C if fprop else problem.group_K
    tiles_h, tiles_w = tiles_of(problem, m)
    tiles = problem.N * tiles_h * tiles_w
    places = (m + TAPS - 1) ** 2
    blocks = -(-channels_out // tile.width)
    pieces = -(-tiles // piece)
    room = -(-piece // tile.rows) * tile.rows
    row = tile.width * size
    tile_bytes = _apart(-(-inputs // tile.lanes) * tile.lanes * size)
    input_plane, sums_plane = _apart(room * tile_bytes), _apart(room * row)
    weight_plane = weight_plane_bytes(inputs, tile.width, size)
    slab = slab_bytes(tile, m, size)
    scratch = (
        -(-8 * tile.rows // 64) * 64
        + places * (tile.lanes * size + input_plane + sums_plane)
        + slab
    )
    scratch = -(-scratch // 64) * 64
    row_bytes, plane_bytes, image = output_strides(problem, io.planes)
    out = problem.out if fprop else problem.size
    constants = (
        WINOGRAD.pack(
            groups=problem.groups,
            blocks=blocks,
            pieces=pieces,
            piece=piece,
            tiles=tiles,
            inputs=inputs,
            group_channels=channels_out,
            weight_plane_bytes=weight_plane,
            input_bytes=places * input_plane,
            sums_bytes=places * sums_plane,
            slab_bytes=slab,
            scratch_bytes=scratch,
        )
        + pack_input(problem, m, tile_bytes, input_plane)
        + pack_output(problem, image or prod(out), (tiles_h, tiles_w), sums_plane)
        + pack_store(problem, row_bytes, plane_bytes)
    )
    weights = problem.groups * blocks * places * weight_plane
    # Weights that leave room in the last cache are there or in memory: half of them count. Others
    # come from memory, and where they exceed the cache, once for each piece.
    if 2 * weights <= machine.l3_bytes:
        read = weights // 2
    else:
        read = weights * (pieces if weights > machine.l3_bytes else 1)
    step = Step(
        name="winograd",
        kernel=KernelRef(winograd_convolve, tile),
        operands=(io.source, "packed", io.output, io.bias, io.residual, "scratch"),
        constants=constants,
        tasks=problem.groups * pieces * blocks,
        cost=Cost(
            flops=problem.groups * _flops(tile, m, tiles, room * pieces, inputs, blocks),
            bytes=problem.bytes - prod(problem.w_shape) * size + read,
        ),
    )
    return step, Buffer(name="scratch", nbytes=scratch, scope="worker")


def _flops(tile: Winograd, m: int, tiles: int, rows: int, inputs: int, blocks: int) -> int:
    """Work on one group, transforms and the tile's own stores as if they were products."""
    side = m + TAPS - 1
    vectors = -(-inputs // tile.lanes) + blocks * tile.width // tile.lanes
    # A transformed vector takes about as many cycles as it has terms: measured on 64 channels.
    transformed = 2 * tile.lanes * side * tiles * vectors
    return side * side * (transformed + 2 * rows * (inputs + _TILE_STEPS) * blocks * tile.width)


def _apart(nbytes: int) -> int:
    """At least so many bytes, an odd number of lines: neighbours fall on different cache sets."""
    return (nbytes + _LINE_BYTES - 1) // (2 * _LINE_BYTES) * (2 * _LINE_BYTES) + _LINE_BYTES
