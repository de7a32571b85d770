"""Wgrad: sums of outer products of source pixels and dy pixels, in panels.

For one filter position, dw is a GEMM whose reduction runs over pixels, and in channels-last
memory both operands are adjacent per pixel: nothing is packed. A task owns one tile of dw and
adds its pixels in a fixed order. Pixels come in chunks that fit the L2 with all their channels,
and the tile is parked in its panel between chunks.
"""

from __future__ import annotations

from itertools import product
from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Machine, Program, Step
from convforge.kernels.cpu._gather import Gather, gathers, is_pointwise
from convforge.kernels.cpu._images import FEW_CHANNELS, channels_last, padded_copy
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
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import device, kernel
from convforge.runtime.tasks import EVERY, claimed_runs

OUTER = Layout(
    "Outer",
    "groups blocks taps row_blocks run group_inputs group_outputs "
    "source_d source_h source_w source_channels step_d step_h step_w "
    "dy_rows dy_d dy_h dy_w dy_channels chunk_rows scratch_bytes",
)
_outer = OUTER.view
_OUTER_BYTES = OUTER.nbytes
_TAP = Layout("OuterTap", "d h w low high")
_tap = _TAP.view
_TAP_BYTES = _TAP.nbytes
_OPERANDS = Layout("OuterPointers", "source dy panels scratch")
_operands = _OPERANDS.view

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
    # A chunk of dy stays in the cache while it meets all tasks of a run.
    most = 1 if g.dy_rows <= g.chunk_rows else EVERY
    for first, beyond in claimed_runs(work, worker, most):
        for chunk in range(0, g.dy_rows, g.chunk_rows):
            stop = min(chunk + g.chunk_rows, g.dy_rows)
            for task in range(first, beyond):
                row_block = task % g.row_blocks
                rest = task // g.row_blocks
                tap = _tap(constants + _OUTER_BYTES + rest % g.taps * _TAP_BYTES)
                group_block = rest // g.taps
                group = group_block // g.blocks
                block = group_block - group * g.blocks
                # The last tile of a run and the last block of outputs overlap the ones before.
                a_first = min(row_block * rows, g.run - rows)
                b_first = min(block * width, g.group_outputs - width)
                panel = p.panels + (rest * g.run + a_first) * panel_row
                sums = tile_zeros(tile)
                if chunk > 0:
                    sums = tile_load(tile, panel, panel_row)
                sums = _add_rows(
                    tile,
                    g,
                    tap,
                    sums,
                    p.source + (group * g.group_inputs + a_first) * size,
                    p.dy + (group * g.group_outputs + b_first) * size,
                    chunk,
                    stop,
                )
                repeated = row_block * rows - a_first
                if repeated == 0:
                    tile_store(tile, sums, panel, panel_row)
                else:
                    tile_store(tile, sums, slab, panel_row)
                    for at in range(repeated * panel_row, rows * panel_row, vector_bytes(tile)):
                        store(panel + at, load(tile, slab + at))


@device
def _add_rows(tile, g, tap, sums, source, dy, first, stop):
    """Add the pixels of some rows of dy under one tap; pixels in the padding add nothing."""
    size = itemsize(tile)
    a_step, b_step = g.step_w * g.source_channels * size, g.dy_channels * size
    count = tap.high - tap.low
    h = first % g.dy_h
    rest = first // g.dy_h
    d = rest % g.dy_d
    n = rest // g.dy_d
    for row in range(first, stop):
        source_d, source_h = d * g.step_d + tap.d, h * g.step_h + tap.h
        inside = (
            (source_d >= 0) & (source_d < g.source_d) & (source_h >= 0) & (source_h < g.source_h)
        )
        if inside:
            line = (n * g.source_d + source_d) * g.source_h + source_h
            pixel = line * g.source_w + tap.low * g.step_w + tap.w
            a = source + pixel * g.source_channels * size
            b = dy + (row * g.dy_w + tap.low) * b_step
            sums = accumulate_pixels(tile, sums, a, b, count, a_step, b_step)
        h += 1
        if h == g.dy_h:
            h = 0
            d += 1
            if d == g.dy_d:
                d = 0
                n += 1
    return sums


def _wants_rows(problem: ConvProblem) -> bool:
    """Few channels: a tap of one pixel is too short a run, a row of the filter is not."""
    last = problem.axes[-1]
    return (
        problem.groups == 1
        and problem.C < FEW_CHANNELS
        and last.dilation == 1
        and last.filter > 1
        and not is_pointwise(problem)
    )


def _rows_of(problem: ConvProblem) -> Gather:
    """The grid of a padded source whose taps are whole filter rows, adjacent in memory."""
    fill = 3 - problem.rank
    outer = problem.axes[:-1]
    offsets = product(*([r * a.dilation for r in range(a.filter)] for a in outer))
    return Gather(
        images=problem.N,
        source=(1,) * fill + tuple(a.padded for a in problem.axes),
        grid=(1,) * fill + problem.out,
        dest=(1,) * fill + problem.out,
        step=(1,) * fill + tuple(a.stride for a in problem.axes),
        taps=tuple(((0,) * fill + (*offset, 0), i) for i, offset in enumerate(offsets)),
    )


def _grid(problem: ConvProblem) -> tuple[Gather, int]:
    """The grid of fprop, and the run of channels that a tap spans in its source."""
    if _wants_rows(problem):
        return _rows_of(problem), problem.C * problem.axes[-1].filter
    return gathers(problem)[0], problem.group_C


def run_of(problem: ConvProblem) -> int:
    """Adjacent elements of dw's rows that one tap holds: what the tile's rows must fit."""
    return _grid(problem)[1]


def outer_program(problem: ConvProblem, tile: Tile, machine: Machine) -> Program:
    """Bring both operands channels last, sum, unpack."""
    size = problem.x.dtype.itemsize
    grid, run = _grid(problem)
    x, x_steps, x_buffers = channels_last(problem, "x", problem.x, problem.C, problem.size)
    y, y_steps, y_buffers = channels_last(problem, "y", problem.y, problem.K, problem.out)
    steps, buffers = (*x_steps, *y_steps), (*x_buffers, *y_buffers)
    if _wants_rows(problem):
        step, buffer = padded_copy(problem, x)
        x, steps, buffers = "padded", (*steps, step), (*buffers, buffer)
    panels = prod(panel_shape(problem, tile.width)) * size
    slab = tile.rows * tile.width * size
    multiply = _multiply_step(problem, grid, run, tile, x, y, machine)
    unpack, block = unpack_step(problem, tile.width, overlap=True)
    return Program(
        steps=(*steps, multiply, unpack),
        buffers=(
            *buffers,
            Buffer(name="panels", nbytes=panels),
            block,
            Buffer(name="slab", nbytes=slab, scope="worker"),
        ),
    )


def _multiply_step(
    problem: ConvProblem, grid: Gather, run: int, tile: Tile, x: str, dy: str, machine: Machine
) -> Step:
    size = problem.x.dtype.itemsize
    blocks = -(-problem.group_K // tile.width)
    row_blocks = -(-run // tile.rows)
    row_bytes = grid.grid[2] * (problem.C + tile.width) * size
    chunk_rows = max(1, machine.l2_bytes // 2 // row_bytes)
    fields = {
        "groups": problem.groups,
        "blocks": blocks,
        "taps": len(grid.taps),
        "row_blocks": row_blocks,
        "run": run,
        "group_inputs": problem.group_C,
        "group_outputs": problem.group_K,
        "source_channels": problem.C,
        "dy_rows": grid.images * grid.grid[0] * grid.grid[1],
        "dy_channels": problem.K,
        "chunk_rows": chunk_rows,
        "scratch_bytes": -(-tile.rows * tile.width * size // 64) * 64,
    }
    for i, axis in enumerate("dhw"):
        fields |= {
            f"source_{axis}": grid.source[i],
            f"step_{axis}": grid.step[i],
            f"dy_{axis}": grid.grid[i],
        }
    step_w, source_w, dy_w = grid.step[2], grid.source[2], grid.grid[2]
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
        operands=(x, dy, "panels", "slab"),
        constants=OUTER.pack(**fields) + pack_table(table),
        tasks=items,
        cost=Cost(
            flops=2 * items * max(tile.rows * tile.width, _FEWEST_SUMS * tile.lanes) * pixels,
            bytes=(pixels * (problem.K + problem.C)) * size + problem.bytes,
        ),
    )
