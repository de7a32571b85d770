"""Fprop and dgrad: source pixels times panels of weights, summed over the taps of a grid."""

from __future__ import annotations

from math import prod

from convforge.contract import (
    Buffer,
    Cost,
    KernelRef,
    Machine,
    Step,
)
from convforge.kernels.cpu._gather import Gather, Taps, gathers
from convforge.kernels.cpu._images import Images, output_strides
from convforge.kernels.cpu._locate import (
    COLUMNS,
    GRID_BYTES,
    TAP_BYTES,
    clip,
    grid_view,
    locate,
    pack_grid,
    tap_view,
)
from convforge.kernels.cpu._store import (
    STORE_BYTES,
    pack_store,
    slab_bytes,
    store_planes,
    store_rows,
    store_view,
)
from convforge.kernels.cpu._tile import (
    Tile,
    accumulate_run,
    tile_columns,
    tile_rows,
    tile_scatter,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._vector import itemsize, lanes
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.rawmem import clear_bytes, copy_bytes, load_word, store_word

_SET_BYTES = 4096
"""Rows this far apart share one set of the L1: more of them than ways evict each other."""
_SKEW_BYTES = 64
MOST_TASKS_PER_THREAD = 4
"""Enough pieces that threads end together, few enough that pixels are located rarely."""

DIRECT = Layout(
    "Direct",
    "groups blocks batch run line_run step tap_panel_bytes panel_bytes group_source_bytes "
    "group_channels scratch_bytes zero_bytes copies plain",
)
_direct = DIRECT.view
_DIRECT_BYTES = DIRECT.nbytes
_OPERANDS = Layout("DirectPointers", "source weights output bias residual scratch")
_operands = _OPERANDS.view


@kernel
def gather_multiply(tile, constants, pointers, worker, workers):
    """Sum source pixels times panels over the taps of a grid.

    A task is one tile of pixels times a batch of channel blocks whose panels fit the L2: the
    tile's pointers are found once for the batch, and its pixels stay in L1.
    """
    c = _direct(constants)
    s = store_view(constants + _DIRECT_BYTES)
    g = grid_view(constants + _DIRECT_BYTES + STORE_BYTES)
    taps = constants + _DIRECT_BYTES + STORE_BYTES + GRID_BYTES
    p = _operands(pointers)
    rows, size = tile_rows(tile), itemsize(tile)
    width = tile_columns(tile) * lanes(tile)
    panel_row = width * size

    table = p.scratch + worker * c.scratch_bytes
    slab = table + 8 * COLUMNS * rows
    zeros = slab + (rows + lanes(tile)) * panel_row
    clear_bytes(zeros, c.zero_bytes)

    tiles = (g.pixels + rows - 1) // rows
    batches = (c.blocks + c.batch - 1) // c.batch
    tasks = c.groups * batches * tiles
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        group_batch = task // tiles
        pixel = (task - group_batch * tiles) * rows
        group = group_batch // batches
        first = (group_batch - group * batches) * c.batch
        count = min(rows, g.pixels - pixel)
        source = p.source + group * c.group_source_bytes
        across, inside = locate(tile, g, source, pixel, count, table)
        many, run, first_tap = g.taps, c.run, taps
        if across:
            many, run, first_tap = g.lines, c.line_run, taps + g.lines_at
        if c.copies:
            _copy_rows(tile, table, zeros + c.zero_bytes, c.run * size)
        for block in range(first, min(first + c.batch, c.blocks)):
            panel = p.weights + (group * c.blocks + block) * c.panel_bytes
            sums = tile_zeros(tile)
            for i in range(many):
                tap = tap_view(first_tap + i * TAP_BYTES)
                rows_at, moved = table, tap.source_bytes
                if not inside:
                    if not clip(tile, g, tap, table, zeros):
                        continue
                    rows_at, moved = table + 8 * rows, 0
                b = panel + tap.position * c.tap_panel_bytes
                sums = accumulate_run(tile, sums, rows_at, moved, b, run, c.step, panel_row)
            channel = group * c.group_channels + block * width
            left = min(width, c.group_channels - block * width)
            output = p.output + channel * (s.plane_bytes or size)
            if c.plain and left == width and s.plane_bytes == 0:
                tile_scatter(tile, sums, table + 40 * rows, output, s.row_bytes)
                continue
            tile_store(tile, sums, slab, panel_row)
            if not c.plain or s.plane_bytes == 0:
                bias, residual = p.bias + channel * size, p.residual + channel * size
                store_rows(tile, s, slab, count, left, table + 40 * rows, output, bias, residual)
            if s.plane_bytes:
                store_planes(tile, s, slab, count, left, table + 40 * rows, output)


@device
def _copy_rows(tile, table, target, nbytes):
    """Move the rows of a tile next to each other, skewed, and point the table at them."""
    for i in range(tile_rows(tile)):
        source = load_word(table + 8 * i)
        copy_bytes(target, source, nbytes)
        store_word(table + 8 * i, target)
        target += nbytes + _SKEW_BYTES


def gather_steps(
    problem: ConvProblem, tile: Tile, io: Images, machine: Machine
) -> tuple[list[Step], Buffer]:
    """A launch of :func:`gather_multiply` for each grid, and their scratch memory."""
    size = problem.x.dtype.itemsize
    inputs = problem.group_C if problem.direction is Direction.FPROP else problem.group_K
    run = io.run or inputs
    grids = io.grids or gathers(problem)
    # Where one pixel's channels lie right behind another's, neighbouring taps are one run.
    adjacent = problem.groups == 1 and not io.source_planes
    lines = [grid.lines() if adjacent else (1, grid.taps) for grid in grids]
    zeros = -(-max(length for length, _ in lines) * run * size // 64) * 64
    scratch = 8 * COLUMNS * tile.rows + slab_bytes(tile, size) + zeros
    if run * size >= _SET_BYTES:
        scratch += tile.rows * (run * size + _SKEW_BYTES)
    buffer = Buffer(name="scratch", nbytes=-(-scratch // 64) * 64, scope="worker")
    return [
        _step(problem, grid, line, tile, run, io, machine, zeros, buffer.nbytes)
        for grid, line in zip(grids, lines, strict=True)
    ], buffer


def _step(
    problem: ConvProblem,
    gather: Gather,
    line: tuple[int, Taps],
    tile: Tile,
    run: int,
    io: Images,
    machine: Machine,
    zero_bytes: int,
    scratch_bytes: int,
) -> Step:
    """Launch of :func:`gather_multiply` on one grid."""
    size = problem.x.dtype.itemsize
    fprop = problem.direction is Direction.FPROP
    outputs = problem.group_K if fprop else problem.group_C
    inputs = problem.group_C if fprop else problem.group_K
    blocks = -(-outputs // tile.width)
    panel_row = tile.width * size
    panel_bytes = problem.taps * inputs * panel_row
    tiles = -(-gather.pixels // tile.rows)
    enough = MOST_TASKS_PER_THREAD * machine.threads
    most = min(
        machine.l2_bytes // 2 // max(panel_bytes, 1), blocks * tiles * problem.groups // enough
    )
    batch = _even_batch(blocks, most)
    # Channels last, a pixel's channels are adjacent; channels first, they are a plane apart.
    step, pixel_bytes, image_bytes = size, inputs * problem.groups * size, 0
    if io.source_planes:
        step, pixel_bytes = prod(gather.source) * size, size
        image_bytes = inputs * problem.groups * step
    copies = len(gather.taps) == 1 and run * size >= _SET_BYTES and pixel_bytes % _SET_BYTES == 0
    length, lines = line
    row_bytes, plane_bytes, dest_image = output_strides(problem, io.planes)
    constants = (
        DIRECT.pack(
            groups=problem.groups,
            blocks=blocks,
            batch=batch,
            run=run,
            line_run=length * run,
            step=step,
            tap_panel_bytes=run * panel_row,
            panel_bytes=panel_bytes,
            group_source_bytes=inputs * step,
            group_channels=outputs,
            scratch_bytes=scratch_bytes,
            zero_bytes=zero_bytes,
            copies=copies,
            plain=not (problem.post or problem.accumulate),
        )
        + pack_store(problem, row_bytes, plane_bytes)
        + pack_grid(gather, pixel_bytes, dest_image, image_bytes, lines if length > 1 else ())
    )
    multiplied = tiles * tile.rows * blocks * tile.width * problem.groups
    pixels = gather.pixels * outputs * problem.groups
    return Step(
        name="multiply",
        kernel=KernelRef(gather_multiply, tile),
        operands=(io.source, "packed", io.output, io.bias, io.residual, "scratch"),
        constants=constants,
        tasks=problem.groups * -(-blocks // batch) * tiles,
        cost=Cost(
            flops=2 * multiplied * len(gather.taps) * run,
            bytes=gather.images * prod(gather.source) * inputs * problem.groups * size
            + problem.groups * blocks * panel_bytes
            + pixels * size,
        ),
    )


def _even_batch(blocks: int, most: int) -> int:
    """Blocks of a batch, at most so many, such that batches are as equal as can be."""
    most = max(1, min(blocks, most))
    divisor = max(d for d in range(1, most + 1) if blocks % d == 0)
    batches = -(-blocks // most)
    return divisor if 2 * divisor > most else -(-blocks // batches)
