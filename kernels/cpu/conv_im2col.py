"""im2col and GEMM: lower a chunk of pixels to a matrix, multiply it by the weights.

Computes: fprop, dgrad (per phase of the stride) and wgrad for one to three axes, groups, stride,
    dilation; fprop and wgrad with every pad mode, by mapping indices while lowering.
Layout: channels last; channels first through a blocked transpose. Weights as panels.
Accumulates: in the operands' type (float32, float64, int32, int64), one sum per output in a
    fixed order; integers wrap.
Good at: few channels, odd padding; the fallback that takes any shape. Bad at: memory traffic,
    each source element is copied once per tap.

Chellapilla, Puri, Simard 2006, "High Performance Convolutional Neural Networks for Document
Processing". The matrix never exists whole: each worker lowers as many pixels as its share of the
workspace limit and its L2 hold. See docs/algorithms/conv_im2col.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from convforge.contract import (
    Buffer,
    Cost,
    KernelRef,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cpu._gather import Gather, gathers
from convforge.kernels.cpu._images import Images, images, output_strides
from convforge.kernels.cpu._locate import (
    GRID_BYTES,
    TAP_BYTES,
    behind,
    destinations,
    grid_view,
    locate,
    pack_grid,
    table_bytes,
    tap_view,
)
from convforge.kernels.cpu._lower import LOWERING_BYTES, lower, lowering_view, pack_lowering
from convforge.kernels.cpu._lowered_outer import lowered_outer_program
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
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
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._tile_shape import choose_shape
from convforge.kernels.cpu._vector import itemsize, lanes
from convforge.kernels.cpu._weights import weight_format
from convforge.problem import ConvProblem, Direction, Problem
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import store_word
from convforge.runtime.tasks import claimed

MOST_TILES = 8
"""Tiles of pixels lowered at once: enough to read a panel from L1, few enough to stay in L2."""

IM2COL = Layout(
    "Im2col",
    "groups blocks chunk run merged tap_panel_bytes panel_bytes group_source_bytes "
    "group_channels row_bytes scratch_bytes",
)
_im2col = IM2COL.view
_IM2COL_BYTES = IM2COL.nbytes
_OPERANDS = Layout("Im2colPointers", "source weights output bias residual scratch")
_operands = _OPERANDS.view


@dataclass(frozen=True, slots=True)
class Im2colConfig:
    """Rows and columns (vectors) of the register tile, and tiles of pixels lowered at once."""

    rows: int
    columns: int
    tiles: int


@kernel
def lowered_multiply(tile, constants, pointers, worker, work):
    """Lower a chunk of pixels of one group, multiply it by every block of outputs."""
    c = _im2col(constants)
    s = store_view(constants + _IM2COL_BYTES)
    how = lowering_view(constants + _IM2COL_BYTES + STORE_BYTES)
    g = grid_view(constants + _IM2COL_BYTES + STORE_BYTES + LOWERING_BYTES)
    taps = constants + _IM2COL_BYTES + STORE_BYTES + LOWERING_BYTES + GRID_BYTES
    p = _operands(pointers)
    rows, size = tile_rows(tile), itemsize(tile)
    width = tile_columns(tile) * lanes(tile)
    panel_row = width * size

    table = p.scratch + worker * c.scratch_bytes
    slab, pixels = behind(tile, table), destinations(tile, table)
    matrix = slab + (rows + lanes(tile)) * panel_row
    chunks = (g.pixels + c.chunk - 1) // c.chunk
    for task in claimed(work, worker):
        group = task // chunks
        start = (task - group * chunks) * c.chunk
        stop = min(start + c.chunk, g.pixels)
        source = p.source + group * c.group_source_bytes
        count, columns = stop - start, g.taps * c.run
        lower(tile, g, how, taps, source, start, count, 0, columns, matrix, c.row_bytes)
        for block in range(c.blocks):
            panel = p.weights + (group * c.blocks + block) * c.panel_bytes
            channel = group * c.group_channels + block * width
            for pixel in range(start, stop, rows):
                count = min(rows, stop - pixel)
                locate(tile, g, source, pixel, count, table)
                for i in range(rows):
                    at = pixel - start + min(i, count - 1)
                    store_word(table + 8 * i, matrix + at * c.row_bytes)
                sums = tile_zeros(tile)
                if c.merged:
                    sums = accumulate_run(tile, sums, table, 0, panel, columns, size, panel_row)
                else:
                    for i in range(g.taps):
                        b = panel + tap_view(taps + i * TAP_BYTES).position * c.tap_panel_bytes
                        moved = i * c.run * size
                        sums = accumulate_run(tile, sums, table, moved, b, c.run, size, panel_row)
                tile_store(tile, sums, slab, panel_row)
                left = min(width, c.group_channels - block * width)
                output = p.output + channel * (s.plane_bytes or size)
                bias, residual = p.bias + channel * size, p.residual + channel * size
                store_rows(tile, s, slab, count, left, pixels, output, bias, residual)
                if s.plane_bytes:
                    store_planes(tile, s, slab, count, left, pixels, output)


def _multiply_step(
    problem: ConvProblem, gather: Gather, tile: Tile, tiles: int, io: Images
) -> Step:
    size = problem.x.dtype.itemsize
    fprop = problem.direction is Direction.FPROP
    outputs = problem.group_K if fprop else problem.group_C
    inputs = problem.group_C if fprop else problem.group_K
    blocks = -(-outputs // tile.width)
    panel_row = tile.width * size
    chunk = tiles * tile.rows
    row_bytes, plane_bytes, dest_image = output_strides(problem, io.planes)
    constants = (
        IM2COL.pack(
            groups=problem.groups,
            blocks=blocks,
            chunk=chunk,
            run=inputs,
            merged=[position for _, position in gather.taps] == list(range(problem.taps)),
            tap_panel_bytes=inputs * panel_row,
            panel_bytes=problem.taps * inputs * panel_row,
            group_source_bytes=inputs * size,
            group_channels=outputs,
            row_bytes=len(gather.taps) * inputs * size,
            scratch_bytes=_scratch_bytes(problem, tile, tiles),
        )
        + pack_store(problem, row_bytes, plane_bytes)
        + pack_lowering(problem, inputs)
        + pack_grid(gather, inputs * problem.groups * size, dest_image)
    )
    padded_pixels = -(-gather.pixels // tile.rows) * tile.rows
    lowered = len(gather.taps) * inputs
    return Step(
        name="lower and multiply",
        kernel=KernelRef(lowered_multiply, tile),
        operands=(io.source, "packed", io.output, io.bias, io.residual, "scratch"),
        constants=constants,
        tasks=problem.groups * -(-gather.pixels // chunk),
        cost=Cost(
            flops=2 * padded_pixels * lowered * blocks * tile.width * problem.groups
            # Copying an element costs about as much as two vector operations of a whole tile.
            + 2 * gather.pixels * lowered * problem.groups * tile.width,
            bytes=problem.bytes + gather.pixels * lowered * problem.groups * size,
        ),
    )


def _scratch_bytes(problem: ConvProblem, tile: Tile, tiles: int) -> int:
    """Tables, slab and lowered matrix of one worker."""
    size = problem.x.dtype.itemsize
    inputs = problem.group_C if problem.direction is Direction.FPROP else problem.group_K
    matrix = tiles * tile.rows * problem.taps * inputs * size
    return -(-(table_bytes(tile) + slab_bytes(tile, size) + matrix) // 64) * 64


class ConvIm2col:
    """The algorithm ``cpu.conv_im2col``."""

    name = "cpu.conv_im2col"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any convolution in one type, with work to do; pad modes except in dgrad."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        refusal = refuse_common(problem, integers=True)
        if refusal is None and problem.direction is Direction.DGRAD:
            refusal = refuse_pad_modes(problem)
        return refusal

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterator[Im2colConfig]:
        """From the largest chunk that fits the limit down to a single tile."""
        assert isinstance(problem, ConvProblem)
        size = problem.x.dtype.itemsize
        fprop = problem.direction is not Direction.DGRAD
        pixels = problem.N * prod(problem.out if fprop else problem.size)
        channels, summed = (problem.group_K, problem.C) if fprop else (problem.group_C, problem.K)
        rows, columns = choose_shape(machine, size, pixels, channels, summed * problem.taps)
        tiles = MOST_TILES
        while tiles:
            config = Im2colConfig(rows, columns, tiles)
            program = self.program(problem, config, machine)
            if program.workspace_bytes(machine.threads) <= workspace_limit:
                yield config
            tiles //= 2

    def weight_format(self, problem: Problem, config: Im2colConfig) -> WeightFormat | None:
        """Panels of the tile's width; wgrad reads no weights."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        dtype = problem.x.dtype.value
        return weight_format(problem, Tile(dtype, config.rows, config.columns).width)

    def program(self, problem: Problem, config: Im2colConfig, machine: Machine) -> Program:
        """Bring channels last, lower and multiply every grid, and back."""
        assert isinstance(problem, ConvProblem)
        tile = Tile(problem.x.dtype.value, config.rows, config.columns)
        if problem.direction is Direction.WGRAD:
            return lowered_outer_program(problem, tile, config.tiles)
        io = images(problem, tapwise=False)
        steps = [_multiply_step(problem, grid, tile, config.tiles, io) for grid in gathers(problem)]
        scratch = _scratch_bytes(problem, tile, config.tiles)
        return Program(
            steps=(*io.before, *steps, *io.after),
            buffers=(*io.buffers, Buffer(name="scratch", nbytes=scratch, scope="worker")),
        )


ALGORITHMS = (ConvIm2col(),)
