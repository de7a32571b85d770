"""Wgrad: sums of outer products of source pixels and dy pixels, in panels.

For one filter position, dw is a GEMM whose reduction runs over pixels, and in channels-last
memory both operands are adjacent per pixel. A task owns one tile of dw and adds its pixels in a
fixed order. Pixels come in chunks: a block of dy's outputs is copied to the L1 and meets every
tile of its rows, whose source pixels are read in place. Between chunks a tile is parked in its
panel, and what the next chunk reads is asked for.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Machine, Program, Step
from convforge.kernels.cpu._gather import Gather
from convforge.kernels.cpu._images import channels_last, padded_copy
from convforge.kernels.cpu._inside import fields_of, inside
from convforge.kernels.cpu._outer_grid import grid_of, wants_rows
from convforge.kernels.cpu._tile import (
    Tile,
    outer_adjacent,
    tile_columns,
    tile_load,
    tile_rows,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    store,
    vector_bytes,
)
from convforge.kernels.cpu._weights import panel_shape, unpack_step
from convforge.problem import ConvProblem
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.rawmem import prefetch, prefetch_near
from convforge.runtime.tasks import EVERY, claimed_runs

OUTER = Layout(
    "Outer",
    "blocks taps row_blocks run group_inputs group_outputs "
    "source_d source_h source_w source_channels step_d step_h step_w "
    "dy_rows dy_d dy_h dy_w dy_channels chunk_rows row_parts part_w source_ahead dy_ahead "
    "most_tasks scratch_bytes "
    "around sign_d before_d behind_d sign_h before_h behind_h sign_w before_w behind_w",
)
_outer = OUTER.view
_OUTER_BYTES = OUTER.nbytes
_TAP = Layout("OuterTap", "d h w low high")
_tap = _TAP.view
_TAP_BYTES = _TAP.nbytes
_OPERANDS = Layout("OuterPointers", "source dy panels scratch")
_operands = _OPERANDS.view

_BLOCK_SHARE = 2 / 3
"""Of the L1, for a block of dy: the rest is for source pixels that pass by."""
_PIXELS_AHEAD = 8
_FEW_TASKS = 8
"""Of a run where there is one chunk: they share a copy of dy, and no worker has much more to do."""
_FEWEST_SUMS = 12
"""Vectors of a tile that take less time with none: sums wait for one another."""


@kernel
def outer_products(tile, constants, pointers, worker, work):
    """Panels of dw; a task is one tile of rows (channels of a tap) by outputs."""
    g, p = _outer(constants), _operands(pointers)
    rows, size = tile_rows(tile), itemsize(tile)
    width = tile_columns(tile) * lanes(tile)
    panel_row = width * size
    slab = p.scratch + worker * g.scratch_bytes
    dy_block = slab + rows * panel_row
    chunks = (g.dy_rows + g.chunk_rows - 1) // g.chunk_rows * g.row_parts
    for first, beyond in claimed_runs(work, worker, g.most_tasks):
        for chunk in range(chunks):
            at_hand = -1
            for task in range(first, beyond):
                row_block = task % g.row_blocks
                rest = task // g.row_blocks
                tap = _tap(constants + _OUTER_BYTES + rest % g.taps * _TAP_BYTES)
                group_block = rest // g.taps
                group = group_block // g.blocks
                block = group_block - group * g.blocks
                if group_block != at_hand:
                    at_hand = group_block
                    outputs = min(width, g.group_outputs - block * width)
                    dy = p.dy + (group * g.group_outputs + block * width) * size
                    _copy_block(tile, g, dy, dy_block, chunk, outputs)
                # The last tile of a run overlaps the one before.
                a_first = min(row_block * rows, g.run - rows)
                panel = p.panels + (rest * g.run + a_first) * panel_row
                sums = tile_zeros(tile)
                if chunk > 0:
                    sums = tile_load(tile, panel, panel_row)
                source = p.source + (group * g.group_inputs + a_first) * size
                ahead = g.source_ahead if rest == first // g.row_blocks else 0
                sums = _add_chunk(tile, g, tap, sums, source, ahead, dy_block, chunk)
                repeated = row_block * rows - a_first
                if repeated == 0:
                    tile_store(tile, sums, panel, panel_row)
                else:
                    tile_store(tile, sums, slab, panel_row)
                    for at in range(repeated * panel_row, rows * panel_row, vector_bytes(tile)):
                        store(panel + at, load(tile, slab + at))


@inlined
def _extent(g, chunk):
    """Rows of dy from, to; and the part of each of them, from, to."""
    first = chunk // g.row_parts * g.chunk_rows
    begin = chunk % g.row_parts * g.part_w
    return first, min(first + g.chunk_rows, g.dy_rows), begin, min(begin + g.part_w, g.dy_w)


@device
def _copy_block(tile, g, dy, target, chunk, outputs):
    """Some outputs of a chunk's pixels next to each other, with zeros behind the last output."""
    pixel_bytes = g.dy_channels * itemsize(tile)
    first, stop, begin, end = _extent(g, chunk)
    for row in range(first, stop):
        for pixel in range(begin, end):
            place = dy + (row * g.dy_w + pixel) * pixel_bytes
            for j in range(tile_columns(tile)):
                at = j * vector_bytes(tile)
                prefetch(place + g.dy_ahead + at)
                store(target, load_first(tile, place + at, outputs - j * lanes(tile)))
                target += vector_bytes(tile)


@device
def _add_chunk(tile, g, tap, sums, source, ahead, dy_block, chunk):
    """Add the pixels of a chunk under one tap; pixels in the padding add nothing."""
    pixel_bytes, panel_row = (
        g.source_channels * itemsize(tile),
        tile_columns(tile) * vector_bytes(tile),
    )
    first, stop, begin, end = _extent(g, chunk)
    low, high = max(begin, tap.low), min(end, tap.high)
    start, last = low, high
    if g.around:
        start, last = begin, end
    h = first % g.dy_h
    rest = first // g.dy_h
    d = rest % g.dy_d
    n = rest // g.dy_d
    for row in range(first, stop):
        at_d, at_h = d * g.step_d + tap.d, h * g.step_h + tap.h
        at_d = inside(at_d, g.source_d, g.sign_d, g.before_d, g.behind_d)
        at_h = inside(at_h, g.source_h, g.sign_h, g.before_h, g.behind_h)
        if at_d >= 0 and at_h >= 0:
            line = ((n * g.source_d + at_d) * g.source_h + at_h) * g.source_w
            w = start
            while w < last:
                at_w, count = w * g.step_w + tap.w, 1
                if low <= w < high:
                    count = high - w
                else:
                    at_w = inside(at_w, g.source_w, g.sign_w, g.before_w, g.behind_w)
                if at_w >= 0:
                    a = source + (line + at_w) * pixel_bytes
                    b = dy_block + ((row - first) * (end - begin) + w - begin) * panel_row
                    sums = _add_pixels(
                        tile, sums, a, b, count, g.step_w * pixel_bytes, panel_row, ahead
                    )
                w += count
        h += 1
        if h == g.dy_h:
            h = 0
            d += 1
            if d == g.dy_d:
                d = 0
                n += 1
    return sums


@inlined
def _add_pixels(tile, sums, a, b, count, a_step, b_step, ahead):
    """Add pixels, asking for the L1 to have a few more and for the L2 to have the next chunk's.

    Hardware does not follow lines that are a pixel's channels apart.
    """
    for i in range(count):
        place = a + i * a_step
        prefetch_near(place + _PIXELS_AHEAD * a_step)
        prefetch(place + ahead)
        sums = outer_adjacent(tile, sums, place, b + i * b_step)
    return sums


def outer_program(problem: ConvProblem, tile: Tile, machine: Machine) -> Program:
    """Bring both operands channels last, sum, unpack."""
    size = problem.x.dtype.itemsize
    grid, run = grid_of(problem)
    x, x_steps, x_buffers = channels_last(problem, "x", problem.x, problem.C, problem.size)
    y, y_steps, y_buffers = channels_last(problem, "y", problem.y, problem.K, problem.out)
    steps, buffers = (*x_steps, *y_steps), (*x_buffers, *y_buffers)
    if wants_rows(problem):
        step, buffer = padded_copy(problem, x)
        x, steps, buffers = "padded", (*steps, step), (*buffers, buffer)
    panels = prod(panel_shape(problem, tile.width)) * size
    chunk_rows, row_parts = _chunks(grid, tile, machine)
    pixels = chunk_rows * -(-grid.grid[2] // row_parts)
    scratch = -(-(tile.rows + pixels) * tile.width * size // 64) * 64
    multiply = _multiply_step(problem, grid, run, tile, x, y, (chunk_rows, row_parts), scratch)
    unpack, block = unpack_step(problem, tile.width)
    return Program(
        steps=(*steps, multiply, unpack),
        buffers=(
            *buffers,
            Buffer(name="panels", nbytes=panels),
            block,
            Buffer(name="scratch", nbytes=scratch, scope="worker"),
        ),
    )


def _chunks(grid: Gather, tile: Tile, machine: Machine) -> tuple[int, int]:
    """Rows of dy in a chunk, or parts of a row: as much of a block of dy as the L1 holds."""
    pixels = max(1, int(machine.l1_bytes * _BLOCK_SHARE) // (tile.width * tile.itemsize))
    return max(1, pixels // grid.grid[2]), -(-grid.grid[2] // pixels)


def _multiply_step(
    problem: ConvProblem,
    grid: Gather,
    run: int,
    tile: Tile,
    x: str,
    dy: str,
    chunks: tuple[int, int],
    scratch: int,
) -> Step:
    size = problem.x.dtype.itemsize
    blocks = -(-problem.group_K // tile.width)
    row_blocks = -(-run // tile.rows)
    chunk_rows, row_parts = chunks
    dy_rows, dy_w = grid.images * grid.grid[0] * grid.grid[1], grid.grid[2]
    part_w = -(-dy_w // row_parts)
    # What lies as far behind what a chunk reads is read by the next one.
    ahead = part_w * grid.step[2]
    if row_parts == 1:
        ahead = chunk_rows * grid.step[1] * grid.source[2]
    fields = {
        "blocks": blocks,
        "taps": len(grid.taps),
        "row_blocks": row_blocks,
        "run": run,
        "group_inputs": problem.group_C,
        "group_outputs": problem.group_K,
        "source_channels": problem.C,
        "dy_rows": dy_rows,
        "dy_channels": problem.K,
        "chunk_rows": chunk_rows,
        "row_parts": row_parts,
        "part_w": part_w,
        "source_ahead": ahead * problem.C * size,
        "dy_ahead": chunk_rows * part_w * problem.K * size,
        "most_tasks": EVERY if dy_rows > chunk_rows or row_parts > 1 else _FEW_TASKS,
        "scratch_bytes": scratch,
    }
    fields |= {"around": bool(grid.around), **fields_of(grid.around)}
    for i, axis in enumerate("dhw"):
        fields |= {
            f"source_{axis}": grid.source[i],
            f"step_{axis}": grid.step[i],
            f"dy_{axis}": grid.grid[i],
        }
    step_w, source_w = grid.step[2], grid.source[2]
    table = []
    for (d, h, w), _ in grid.taps:
        low = min(dy_w, max(0, -(w // step_w)))
        high = max(low, min(dy_w, -((w - source_w) // step_w)))
        table.append((d, h, w, low, high))
    items = problem.groups * blocks * len(grid.taps) * row_blocks
    pixels = grid.pixels
    return Step(
        name="multiply",
        kernel=KernelRef(outer_products, tile),
        operands=(x, dy, "panels", "scratch"),
        constants=OUTER.pack(**fields) + pack_table(table),
        tasks=items,
        cost=Cost(
            flops=2 * items * max(tile.rows * tile.width, _FEWEST_SUMS * tile.lanes) * pixels,
            bytes=(pixels * (problem.K + problem.C)) * size + problem.bytes,
        ),
    )
