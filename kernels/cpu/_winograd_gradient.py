"""Wgrad in the transform domain: ``dw = G^T [sum over windows of (A dy) * (B^T x)] G``.

Windows of x and of dy are transformed a chunk at a time. Place by place, a register tile of
channels by output channels adds the products of the chunk's windows to what it has in memory; the
sums go back to taps once, at the end.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from convforge.contract import Buffer, Cost, KernelRef, Machine, Program, Step
from convforge.kernels.cpu._images import channels_last
from convforge.kernels.cpu._tile import (
    Tile,
    accumulate_pixels,
    tile_columns,
    tile_load,
    tile_rows,
    tile_store,
    tile_zeros,
)
from convforge.kernels.cpu._vector import (
    itemsize,
    scalar,
    splat,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._weights import panel_shape, unpack_step
from convforge.kernels.cpu._winograd_input import input_view, pack_input, transform_tiles
from convforge.kernels.cpu._winograd_minimal import TAPS, Gradient, Minimal
from convforge.kernels.cpu._winograd_transform import Transform, side, transform_output
from convforge.kernels.cpu._winograd_windows import Windows, apart, places, windows_of
from convforge.problem import ConvProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.tasks import claimed, claimed_runs

CHUNK = Layout("WinogradChunk", "groups first count source_bytes planes_bytes scratch_bytes")
_chunk = CHUNK.view
_CHUNK_BYTES = CHUNK.nbytes
_CHUNK_POINTERS = Layout("WinogradChunkPointers", "source planes scratch")
_chunk_pointers = _CHUNK_POINTERS.view
SUMS = Layout(
    "WinogradSums",
    "groups places blocks row_blocks count begins x_bytes x_plane_bytes x_group_bytes "
    "y_bytes y_plane_bytes y_group_bytes sums_plane_bytes",
)
_sums = SUMS.view
_SUMS_POINTERS = Layout("WinogradSumsPointers", "x y sums")
_sums_pointers = _SUMS_POINTERS.view
TAPS_OF = Layout("WinogradTaps", "blocks inputs row_bytes sums_plane_bytes")
_taps_of = TAPS_OF.view
_TAPS_POINTERS = Layout("WinogradTapsPointers", "sums panels")
_taps_pointers = _TAPS_POINTERS.view
_SKEW_BYTES = 64
_RUN = 8
"""Windows transformed one after another: the place of the first is found by division."""
_LEAST_CHUNK = 48
"""Windows: as many products as it takes to be worth fetching and storing a tile of sums."""


@kernel
def winograd_transform(kind, constants, pointers, worker, work):
    """A chunk of windows to planes, ``[group][place][window][channel]``; a task is a window."""
    c, g = _chunk(constants), input_view(constants + _CHUNK_BYTES)
    p = _chunk_pointers(pointers)
    window = p.scratch + worker * c.scratch_bytes
    for begin, end in claimed_runs(work, worker, _RUN):
        for group in range(c.groups):
            source = p.source + group * c.source_bytes
            planes = p.planes + group * c.planes_bytes + begin * g.tile_bytes
            transform_tiles(kind, g, source, c.first + begin, end - begin, planes, window)


@kernel
def winograd_outer_products(tile, constants, pointers, worker, work):
    """Add a chunk's products; a task is one tile of a place, channels by output channels."""
    c, p = _sums(constants), _sums_pointers(pointers)
    size, row = itemsize(tile), tile_columns(tile) * vector_bytes(tile)
    for task in claimed(work, worker):
        rest = task // c.blocks
        block = task - rest * c.blocks
        line = rest // c.row_blocks
        channel = (rest - line * c.row_blocks) * tile_rows(tile)
        group = line // c.places
        place = line - group * c.places
        a = p.x + group * c.x_group_bytes + place * c.x_plane_bytes + channel * size
        b = p.y + group * c.y_group_bytes + place * c.y_plane_bytes + block * row
        at = ((group * c.blocks + block) * c.places + place) * c.sums_plane_bytes
        sums = p.sums + at + channel * row
        added = tile_zeros(tile)
        if not c.begins:
            added = tile_load(tile, sums, row)
        added = accumulate_pixels(tile, added, a, b, c.count, c.x_bytes, c.y_bytes)
        tile_store(tile, added, sums, row)


@kernel
def winograd_taps(kind, constants, pointers, worker, work):
    """Sums to taps, in panels; a task is a row of all places, one channel by a block's outputs."""
    c, p = _taps_of(constants), _taps_pointers(pointers)
    low, high = splat(kind, scalar(kind, -np.inf)), splat(kind, scalar(kind, np.inf))
    row = c.row_bytes
    for task in claimed(work, worker):
        block = task // c.inputs
        channel = task - block * c.inputs
        sums = p.sums + block * side(kind) * side(kind) * c.sums_plane_bytes + channel * row
        panel = p.panels + (block * TAPS * TAPS * c.inputs + channel) * row
        for at in range(0, row, vector_bytes(kind)):
            transform_output(
                kind,
                sums + at,
                c.sums_plane_bytes,
                zeros(kind),
                low,
                high,
                panel + at,
                TAPS * c.inputs * row,
                c.inputs * row,
            )


def chunk_of(windows: Windows, minimal: Minimal, groups: int, size: int, machine: Machine) -> int:
    """Windows transformed at a time: in the last cache, unless the sums are larger than it.

    It does not depend on the number of threads, and so neither do the bits.
    """
    channels = windows.inputs + windows.outputs
    cached = machine.l3_bytes // 4 // (places(minimal) * channels * groups * size)
    as_large_as_sums = windows.inputs * windows.outputs // channels
    most = max(cached, as_large_as_sums, _LEAST_CHUNK)
    chunks = -(-windows.planes // most)
    return -(-windows.planes // chunks)


class WinogradGradient:
    """The launches, ``chunk`` windows at a time."""

    def __init__(
        self, problem: ConvProblem, minimal: Minimal, rows: int, columns: int, chunk: int
    ) -> None:
        dtype, size = problem.x.dtype.value, problem.x.dtype.itemsize
        self.problem, self.minimal, self.chunk, self.size = problem, minimal, chunk, size
        self.tile = Tile(dtype, rows, columns)
        self.kinds = Transform(dtype, minimal), Transform(dtype, Gradient(minimal))
        x = windows_of(problem, minimal)
        y = replace(x, inputs=x.outputs, source=x.target, around=(), pad=(0, 0))
        self.windows = x, y
        self.blocks = -(-problem.group_K // self.tile.width)
        self.row_blocks = -(-problem.group_C // rows)
        # Tiles of sums may reach beyond the last channel, to what nobody reads.
        wide = max(self.row_blocks * rows, -(-problem.group_C // self.tile.lanes) * self.tile.lanes)
        self.tile_bytes = apart(wide * size), apart(self.blocks * self.tile.width * size)
        self.plane_bytes = tuple(apart(chunk * nbytes) for nbytes in self.tile_bytes)
        self.sums_plane = self.row_blocks * rows * self.tile.width * size + _SKEW_BYTES

    def program(self, machine: Machine) -> Program:
        """Bring both operands channels last, transform and add every chunk, and back."""
        problem, square = self.problem, places(self.minimal)
        x, x_steps, x_buffers = channels_last(problem, "x", problem.x, problem.C, problem.size)
        y, y_steps, y_buffers = channels_last(problem, "y", problem.y, problem.K, problem.out)
        steps = [*x_steps, *y_steps]
        tiles = self.windows[0].planes
        for first in range(0, tiles, self.chunk):
            count = min(self.chunk, tiles - first)
            steps += [
                self._transform(i, name, first, count, machine) for i, name in enumerate((x, y))
            ]
            steps.append(self._multiply(first, count, machine))
        unpack, block = unpack_step(problem, self.tile.width)
        panels = prod(panel_shape(problem, self.tile.width)) * self.size
        planes = [problem.groups * square * nbytes for nbytes in self.plane_bytes]
        return Program(
            steps=(*steps, self._back(machine), unpack),
            buffers=(
                *x_buffers,
                *y_buffers,
                Buffer(name="x_planes", nbytes=planes[0]),
                Buffer(name="y_planes", nbytes=planes[1]),
                Buffer(name="sums", nbytes=self._sums_bytes),
                Buffer(name="panels", nbytes=panels),
                Buffer(name="window", nbytes=self._window_bytes, scope="worker"),
                block,
            ),
        )

    @property
    def _sums_bytes(self) -> int:
        return self.problem.groups * self.blocks * places(self.minimal) * self.sums_plane

    @property
    def _window_bytes(self) -> int:
        return places(self.minimal) * self.tile.lanes * self.size

    def _transform(self, which: int, source: str, first: int, count: int, machine: Machine) -> Step:
        problem, windows, square = self.problem, self.windows[which], places(self.minimal)
        channels = windows.inputs * problem.groups
        vectors = -(-windows.inputs // self.tile.lanes) * problem.groups
        stride = self.minimal.stride if which == 0 else 1
        return Step(
            name="transform",
            kernel=KernelRef(winograd_transform, self.kinds[which]),
            operands=(source, ("x_planes", "y_planes")[which], "window"),
            constants=CHUNK.pack(
                groups=problem.groups,
                first=first,
                count=count,
                source_bytes=windows.inputs * self.size,
                planes_bytes=square * self.plane_bytes[which],
                scratch_bytes=self._window_bytes,
            )
            + pack_input(
                windows,
                stride,
                channels * self.size,
                self.tile_bytes[which],
                self.plane_bytes[which],
                machine,
            ),
            tasks=count,
            cost=Cost(
                flops=2 * square * self.minimal.side * vectors * self.tile.lanes * count,
                # Planes go to the last cache, which takes them twice as fast as memory.
                bytes=problem.groups * square * count * self.tile_bytes[which] // 2,
            ),
        )

    def _multiply(self, first: int, count: int, machine: Machine) -> Step:
        problem, square = self.problem, places(self.minimal)
        x_plane, y_plane = self.plane_bytes
        tasks = problem.groups * square * self.row_blocks * self.blocks
        # Memory is read before it is written; planes are written and read.
        moved = 3 * self._sums_bytes + 2 * problem.groups * square * (x_plane + y_plane)
        return Step(
            name="multiply",
            kernel=KernelRef(winograd_outer_products, self.tile),
            operands=("x_planes", "y_planes", "sums"),
            constants=SUMS.pack(
                groups=problem.groups,
                places=square,
                blocks=self.blocks,
                row_blocks=self.row_blocks,
                count=count,
                begins=first == 0,
                x_bytes=self.tile_bytes[0],
                x_plane_bytes=x_plane,
                x_group_bytes=square * x_plane,
                y_bytes=self.tile_bytes[1],
                y_plane_bytes=y_plane,
                y_group_bytes=square * y_plane,
                sums_plane_bytes=self.sums_plane,
            ),
            tasks=tasks,
            cost=Cost(
                flops=2 * tasks * self.tile.rows * self.tile.width * count,
                bytes=moved if moved > machine.l3_bytes else 0,
            ),
        )

    def _back(self, machine: Machine) -> Step:
        tasks = self.problem.groups * self.blocks * self.problem.group_C
        return Step(
            name="taps",
            kernel=KernelRef(winograd_taps, self.kinds[1]),
            operands=("sums", "panels"),
            constants=TAPS_OF.pack(
                blocks=self.problem.groups * self.blocks,
                inputs=self.problem.group_C,
                row_bytes=self.tile.width * self.size,
                sums_plane_bytes=self.sums_plane,
            ),
            tasks=tasks,
            cost=Cost(bytes=self._sums_bytes * (2 if self._sums_bytes > machine.l3_bytes else 1)),
        )
