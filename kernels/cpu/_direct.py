"""Fprop and dgrad: source pixels times panels of weights, summed over the taps of a grid."""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Machine, Step
from convforge.kernels.cpu._convert import stored_itemsize
from convforge.kernels.cpu._gather import Gather, Taps, gathers, is_pointwise
from convforge.kernels.cpu._images import Images, output_strides, unpadded
from convforge.kernels.cpu._locate import (
    GRID_BYTES,
    TAP_BYTES,
    behind,
    clip,
    clipped,
    destinations,
    grid_view,
    locate,
    pack_grid,
    table_bytes,
    tap_view,
)
from convforge.kernels.cpu._store import (
    STORE_BYTES,
    expect_planes,
    expect_rows,
    pack_store,
    slab_bytes,
    store_planes,
    store_rows,
    store_view,
)
from convforge.kernels.cpu._tile import (
    Tile,
    accumulate_each,
    accumulate_run_ahead,
    tile_columns,
    tile_rows,
    tile_scatter,
    tile_start,
    tile_store,
)
from convforge.kernels.cpu._vector import itemsize, lanes
from convforge.problem import ConvProblem, Direction, Order
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import kernel
from convforge.runtime.memory import LINE_BYTES
from convforge.runtime.rawmem import fill_bytes, load_word
from convforge.runtime.tasks import claimed

_FAR_BYTES = 8 << 20
"""Results channels last that are larger are taken to come from memory, whatever the caches."""
_FINDING_STEPS = 16
"""Products of one vector in the time that it takes to find where a row's run of them begins."""
MOST_TASKS_PER_THREAD = 4
"""Enough pieces that threads end together, few enough that pixels are located rarely."""

DIRECT = Layout(
    "Direct",
    "blocks first_block batch run line_run step tap_panel_bytes panel_bytes "
    "group_source_bytes group_channels scratch_bytes zero_bytes zero_byte starts plain "
    "offsets offsets_at ahead next_tile",
)
_direct = DIRECT.view
_DIRECT_BYTES = DIRECT.nbytes
_OPERANDS = Layout("DirectPointers", "source weights output bias residual scratch")
_operands = _OPERANDS.view


@kernel
def gather_multiply(tile, constants, pointers, worker, work):
    """Sum source pixels times panels over the taps of a grid.

    Where a zero of the source is not zero in memory, rows behind the panels make up for it.

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
    slab, pixels = behind(tile, table), destinations(tile, table)
    zeros = slab + (rows + lanes(tile)) * panel_row
    fill_bytes(zeros, c.zero_byte, c.zero_bytes)

    tiles = (g.pixels + rows - 1) // rows
    batches = (c.blocks + c.batch - 1) // c.batch
    for task in claimed(work, worker):
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
        following = load_word(table) + c.next_tile
        last = min(first + c.batch, c.blocks) - 1
        for block in range(first, last + 1):
            offset = (c.first_block + block) * width
            channel = group * c.group_channels + offset
            left = min(width, c.group_channels - offset)
            output = p.output + channel * (s.plane_bytes or stored_itemsize(tile))
            if c.ahead:
                if s.plane_bytes:
                    expect_planes(s, count, left, pixels, output)
                else:
                    expect_rows(tile, s, pixels, output)
            soon, soon_step = table, 0
            if c.next_tile and block == last:
                soon, soon_step = following, LINE_BYTES
            panel = p.weights + (group * c.blocks + block) * c.panel_bytes
            sums = tile_start(tile, p.weights + c.starts + (group * c.blocks + block) * panel_row)
            if c.offsets:
                sums = accumulate_each(
                    tile, sums, table, constants + c.offsets_at, panel, c.offsets, panel_row
                )
                many = 0
            for i in range(many):
                tap = tap_view(first_tap + i * TAP_BYTES)
                rows_at, moved = table, tap.source_bytes
                if not inside:
                    if not clip(tile, g, tap, table, zeros):
                        continue
                    rows_at, moved = clipped(tile, table), 0
                b = panel + tap.position * c.tap_panel_bytes
                sums = accumulate_run_ahead(
                    tile, sums, rows_at, moved, b, run, c.step, panel_row, soon, soon_step
                )
            if c.plain and left == width and s.plane_bytes == 0:
                tile_scatter(tile, sums, pixels, output, s.row_bytes)
                continue
            tile_store(tile, sums, slab, panel_row)
            if not c.plain or s.plane_bytes == 0:
                at = channel * stored_itemsize(tile)
                bias, residual = p.bias + at, p.residual + at
                store_rows(tile, s, slab, count, left, pixels, output, bias, residual)
            if s.plane_bytes:
                store_planes(tile, s, slab, count, left, pixels, output)


def pixels_apart(problem: ConvProblem) -> int:
    """Bytes from the source pixel of a tile's row to that of the next row."""
    fprop = problem.direction is Direction.FPROP
    source, channels = (problem.x, problem.C) if fprop else (problem.y, problem.K)
    if is_pointwise(problem) and source.order is Order.CHANNELS_FIRST:
        channels = 1
    return channels * source.dtype.itemsize * (problem.axes[-1].stride if fprop else 1)


class GatherMultiply:
    """Makes the launches of :func:`gather_multiply`, one a grid, and their scratch memory."""

    def __init__(self, problem: ConvProblem, tile: Tile, io: Images, machine: Machine) -> None:
        self.problem, self.tile, self.io, self.machine = problem, tile, io, machine
        self.size = tile.itemsize
        fprop = problem.direction is Direction.FPROP
        self.outputs = problem.group_K if fprop else problem.group_C
        self.inputs = problem.group_C if fprop else problem.group_K
        self.run = self.inputs
        self.grids = gathers(unpadded(problem) if io.few else problem)
        # Where one pixel's channels lie right behind another's, neighbouring taps are one run.
        adjacent = problem.groups == 1 and not io.source_planes and not io.few
        self.lines = [grid.lines() if adjacent else (1, grid.taps) for grid in self.grids]
        longest = max(length for length, _ in self.lines) * self.run
        self.zero_bytes = -(-longest * self.size // 64) * 64
        used = table_bytes(tile) + slab_bytes(tile, self.size) + self.zero_bytes
        self.scratch = Buffer(name="scratch", nbytes=-(-used // 64) * 64, scope="worker")
        self.blocks = range(-(-self.outputs // tile.width))
        self.panel_bytes = problem.taps * self.inputs * tile.width * self.size

    def steps(self, blocks: range | None = None, owners: int = 1) -> tuple[Step, ...]:
        """A launch for each grid.

        Args:
            blocks: Of outputs, all unless the panels come in parts.
            owners: Workers that each compute an equal share of the blocks, in their order.
        """
        lines = zip(self.grids, self.lines, strict=True)
        return tuple(self._step(grid, *line, blocks or self.blocks, owners) for grid, line in lines)

    def _step(self, grid: Gather, length: int, lines: Taps, blocks: range, owners: int) -> Step:
        problem, tile, io, size = self.problem, self.tile, self.io, self.size
        tiles = -(-grid.pixels // tile.rows)
        batch = self._batch(len(blocks), tiles, owners)
        # Channels last, a pixel's channels are adjacent; channels first, they are a plane apart.
        step, pixel_bytes, image_bytes = size, self.inputs * problem.groups * size, 0
        if io.source_planes:
            step, pixel_bytes = prod(grid.source) * size, size
            image_bytes = self.inputs * problem.groups * step
        columns = len(blocks) * tile.width * problem.groups
        source_bytes = grid.images * prod(grid.source) * self.inputs * problem.groups * size
        output_bytes = grid.pixels * min(columns, self.outputs * problem.groups) * size
        # The next tile's pixels lie right behind this one's, in memory that is read once.
        adjacent = (
            len(grid.taps) == 1
            and grid.grid == grid.source
            and problem.groups == 1
            and not io.source_planes
            and source_bytes > self.machine.l2_bytes
        )
        row_bytes, plane_bytes, dest_image = output_strides(problem, io.planes)
        lines = lines if length > 1 else ()
        space = pack_grid(grid, pixel_bytes, dest_image, image_bytes, lines)
        offsets = self._offsets(grid, step, pixel_bytes) if io.few else ()
        constants = (
            DIRECT.pack(
                blocks=len(blocks),
                first_block=blocks.start,
                batch=batch,
                run=self.run,
                line_run=length * self.run,
                step=step,
                tap_panel_bytes=self.run * tile.width * size,
                panel_bytes=self.panel_bytes,
                group_source_bytes=self.inputs * step,
                group_channels=self.outputs,
                scratch_bytes=self.scratch.nbytes,
                zero_bytes=self.zero_bytes,
                zero_byte=tile.zero_byte,
                starts=problem.groups * len(self.blocks) * self.panel_bytes,
                plain=not (problem.post or problem.accumulate),
                offsets=len(offsets),
                offsets_at=_DIRECT_BYTES + STORE_BYTES + len(space),
                # What stays near from call to call is not asked for: asking has its price.
                ahead=output_bytes > (self.machine.l2_bytes if io.planes else _FAR_BYTES),
                next_tile=tile.rows * pixel_bytes if adjacent else 0,
            )
            + pack_store(problem, row_bytes, plane_bytes)
            + space
            + pack_table([offsets])
        )
        return Step(
            name="multiply",
            kernel=KernelRef(gather_multiply, tile),
            operands=(io.source, "packed", io.output, io.bias, io.residual, "scratch"),
            constants=constants,
            tasks=problem.groups * -(-len(blocks) // batch) * tiles,
            joins=owners > 1,
            cost=Cost(
                flops=2 * tiles * tile.rows * self._steps(grid) * columns,
                bytes=source_bytes + problem.groups * len(blocks) * self.panel_bytes + output_bytes,
            ),
        )

    def _offsets(self, grid: Gather, step: int, pixel_bytes: int) -> tuple[int, ...]:
        """Of every element that a pixel meets, in the order of the panel's rows."""
        row_bytes = grid.source[2] * pixel_bytes
        plane_bytes = grid.source[1] * row_bytes
        taps = (d * plane_bytes + h * row_bytes + w * pixel_bytes for (d, h, w), _ in grid.taps)
        return tuple(tap + c * step for tap in taps for c in range(self.inputs))

    def _steps(self, grid: Gather) -> int:
        """Products of an output; with groups, and finding the short run of each of its taps."""
        tile = self.tile
        finding = _FINDING_STEPS * tile.lanes // tile.width if self.problem.groups > 1 else 0
        return len(grid.taps) * (self.run + finding)

    def _batch(self, blocks: int, tiles: int, owners: int) -> int:
        """Blocks that a tile of pixels meets at once: panels in L2, work for every thread."""
        fitting = max(1, self.machine.l2_bytes // 2 // max(self.panel_bytes, 1))
        if owners > 1:
            share = blocks // owners
            return max(d for d in range(1, share + 1) if share % d == 0 and d <= fitting)
        enough = MOST_TASKS_PER_THREAD * self.machine.threads
        return _even_batch(blocks, min(fitting, blocks * tiles * self.problem.groups // enough))


def _even_batch(blocks: int, most: int) -> int:
    """Blocks of a batch, at most so many, such that batches are as equal as can be."""
    most = max(1, min(blocks, most))
    divisor = max(d for d in range(1, most + 1) if blocks % d == 0)
    batches = -(-blocks // most)
    return divisor if 2 * divisor > most else -(-blocks // batches)
