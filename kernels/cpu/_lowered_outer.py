"""Wgrad by im2col: the lowered pixels times dy, in panels.

Takes any number of channels: the lowered rows and the block of dy are copied to scratch with
zeros up to whole tiles. A task owns a slice of the lowered columns for every block of outputs,
and adds its pixels chunk by chunk in a fixed order.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step
from convforge.kernels.cpu._copy import clear_elements, copy_elements
from convforge.kernels.cpu._gather import Gather, gathers
from convforge.kernels.cpu._images import channels_last
from convforge.kernels.cpu._locate import GRID_BYTES, grid_view, pack_grid
from convforge.kernels.cpu._lower import (
    LOWERING_BYTES,
    lower,
    lowering_view,
    pack_lowering,
)
from convforge.kernels.cpu._tile import (
    Tile,
    accumulate_pixels,
    tile_columns,
    tile_load,
    tile_rows,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._vector import itemsize, lanes, load, store, vector_bytes
from convforge.kernels.cpu._weights import panel_shape, unpack_step
from convforge.problem import ConvProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.tasks import EVERY, claimed_runs

SLICE_TILES = 4
"""Row tiles of a task: the copy of dy is shared by so many."""
_CHUNK_PIXELS_PER_TILE = 32

LOWERED = Layout(
    "LoweredOuter",
    "groups blocks slices columns chunk group_inputs_bytes group_outputs dy_channels scratch_bytes",
)
_lowered = LOWERED.view
_LOWERED_BYTES = LOWERED.nbytes
_OPERANDS = Layout("LoweredOuterPointers", "source dy panels scratch")
_operands = _OPERANDS.view


@kernel
def lowered_outer_products(tile, constants, pointers, worker, work):
    """Panels of dw; a task is one slice of lowered columns of a group."""
    c, p = _lowered(constants), _operands(pointers)
    how = lowering_view(constants + _LOWERED_BYTES)
    g = grid_view(constants + _LOWERED_BYTES + LOWERING_BYTES)
    taps = constants + _LOWERED_BYTES + LOWERING_BYTES + GRID_BYTES
    rows, size = tile_rows(tile), itemsize(tile)
    width = tile_columns(tile) * lanes(tile)
    panel_row = width * size
    slice_width = SLICE_TILES * rows
    matrix = p.scratch + worker * c.scratch_bytes
    matrix_row = slice_width * size
    dy_block = matrix + c.chunk * matrix_row
    slab = dy_block + c.chunk * panel_row
    for begin, beyond in claimed_runs(work, worker, EVERY):
        for chunk in range(0, g.pixels, c.chunk):
            count = min(c.chunk, g.pixels - chunk)
            for task in range(begin, beyond):
                group = task // c.slices
                first = (task - group * c.slices) * slice_width
                last = min(first + slice_width, c.columns)
                for i in range(count):
                    row = matrix + i * matrix_row + (last - first) * size
                    clear_elements(tile, row, slice_width - (last - first))
                source = p.source + group * c.group_inputs_bytes
                lower(tile, g, how, taps, source, chunk, count, first, last, matrix, matrix_row)
                for block in range(c.blocks):
                    channel = group * c.group_outputs + block * width
                    outputs = min(width, c.group_outputs - block * width)
                    for i in range(count):
                        pixel = p.dy + ((chunk + i) * c.dy_channels + channel) * size
                        copy_elements(tile, pixel, dy_block + i * panel_row, outputs)
                        clear_elements(
                            tile, dy_block + i * panel_row + outputs * size, width - outputs
                        )
                    panels = p.panels + (group * c.blocks + block) * c.columns * panel_row
                    for column in range(first, last, rows):
                        _add_tile(
                            tile,
                            matrix + (column - first) * size,
                            matrix_row,
                            dy_block,
                            count,
                            chunk > 0,
                            panels + column * panel_row,
                            min(rows, last - column),
                            slab,
                        )


@device
def _add_tile(tile, a, a_step, b, count, parked, panel, kept, slab):
    """Add ``count`` pixels to the ``kept`` first rows of a tile of dw."""
    panel_row = tile_columns(tile) * vector_bytes(tile)
    sums = tile_zeros(tile)
    place = panel
    if kept < tile_rows(tile):
        place = slab
        for at in range(0, kept * panel_row, vector_bytes(tile)):
            store(slab + at, load(tile, panel + at))
    if parked:
        sums = tile_load(tile, place, panel_row)
    sums = accumulate_pixels(tile, sums, a, b, count, a_step, panel_row)
    tile_store(tile, sums, place, panel_row)
    if kept < tile_rows(tile):
        for at in range(0, kept * panel_row, vector_bytes(tile)):
            store(panel + at, load(tile, slab + at))


def lowered_outer_program(problem: ConvProblem, tile: Tile, tiles: int) -> Program:
    """Bring both operands channels last, lower and sum, unpack."""
    size = problem.x.dtype.itemsize
    x, x_steps, x_buffers = channels_last(problem, "x", problem.x, problem.C, problem.size)
    y, y_steps, y_buffers = channels_last(problem, "y", problem.y, problem.K, problem.out)
    chunk = tiles * _CHUNK_PIXELS_PER_TILE
    slice_width = SLICE_TILES * tile.rows
    used = chunk * (slice_width + tile.width) + tile.rows * tile.width
    scratch = -(-used * size // 64) * 64
    panels = prod(panel_shape(problem, tile.width)) * size
    (grid,) = gathers(problem)
    multiply = _multiply_step(problem, grid, tile, chunk, scratch, (x, y))
    unpack, block = unpack_step(problem, tile.width)
    return Program(
        steps=(*x_steps, *y_steps, multiply, unpack),
        buffers=(
            *x_buffers,
            *y_buffers,
            Buffer(name="panels", nbytes=panels),
            block,
            Buffer(name="scratch", nbytes=scratch, scope="worker"),
        ),
    )


def _multiply_step(
    problem: ConvProblem, grid: Gather, tile: Tile, chunk: int, scratch: int, io: tuple[str, str]
) -> Step:
    size = problem.x.dtype.itemsize
    # One long row of a pointwise problem still has the group's channels as its run.
    columns = problem.taps * problem.group_C
    slices = -(-columns // (SLICE_TILES * tile.rows))
    blocks = -(-problem.group_K // tile.width)
    constants = (
        LOWERED.pack(
            groups=problem.groups,
            blocks=blocks,
            slices=slices,
            columns=columns,
            chunk=chunk,
            group_inputs_bytes=problem.group_C * size,
            group_outputs=problem.group_K,
            dy_channels=problem.K,
            scratch_bytes=scratch,
        )
        + pack_lowering(problem, problem.group_C)
        + pack_grid(grid, problem.C * size)
    )
    tasks = problem.groups * slices
    return Step(
        name="lower and multiply",
        kernel=KernelRef(lowered_outer_products, tile),
        operands=(*io, "panels", "scratch"),
        constants=constants,
        tasks=tasks,
        cost=Cost(
            flops=2 * tasks * SLICE_TILES * tile.rows * blocks * tile.width * grid.pixels
            + 2 * grid.pixels * columns * problem.groups * tile.width,
            bytes=problem.bytes + grid.pixels * columns * problem.groups * size,
        ),
    )
