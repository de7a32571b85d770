"""A problem cut into tiles: where operands and spectra lie, and the step that transforms one."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Step
from convforge.kernels._met import met
from convforge.kernels.cpu._fft_shape import Shape, Tiling, tiling, transform_flops, whole
from convforge.kernels.cpu._fft_spectra import KEPT, SPECTRA, transform_operand
from convforge.kernels.cpu._fft_tile import (
    frequencies,
    line_bytes,
    pack_tile,
    tile_bytes,
)
from convforge.kernels.cpu._fft_window import Window
from convforge.kernels.cpu._tile import Tile
from convforge.kernels.cpu._vector import Vector
from convforge.problem import ConvProblem, Direction, Order

ALL = 1 << 40
"""Blocks of lanes that follow one another where no panel ends."""


@dataclass(frozen=True, slots=True)
class Strides:
    """Bytes from a group, an image, a channel and an element of each axis to the next."""

    group: int
    image: int
    channel: int
    axes: tuple[int, int, int]


def strides(
    order: Order, size: int, groups: int, channels: int, extent: tuple[int, ...]
) -> Strides:
    """Of an operand of so many channels, over all groups."""
    inner = size if order is Order.CHANNELS_FIRST else size * channels
    channel = prod(extent) * size if order is Order.CHANNELS_FIRST else size
    d, h, w = extent
    return Strides(
        channels // groups * channel,
        channels * d * h * w * size,
        channel,
        (h * w * inner, w * inner, inner),
    )


def uneven(nbytes: int) -> int:
    """An odd number of cache lines, so that a spectrum's elements lie in all sets of a cache."""
    return (-(-nbytes // 64) | 1) * 64


class Work:
    """A problem, its tiles and the memory that its spectra take.

    Attributes:
        rows: Tiles of all images. inputs, outputs: Channels of a group that are summed, that are
            written; in wgrad those of x and of dy. parts: Bytes of a row's real parts, by operand.
    """

    def __init__(self, problem: ConvProblem, shape: Shape, tile: Tile) -> None:
        self.problem, self.shape, self.tile = problem, shape, tile
        self.size = problem.x.dtype.itemsize
        self.vector = tile.lanes * self.size
        self.axes = whole(problem.axes)
        self.cuts: tuple[Tiling, ...] = tuple(
            tiling(problem.direction, axis, n) for axis, n in zip(self.axes, shape, strict=True)
        )
        self.tiles = prod(cut.tiles for cut in self.cuts)
        self.rows = problem.N * self.tiles
        self.frequencies = frequencies(shape)
        swapped = problem.direction is Direction.DGRAD
        self.inputs = problem.group_K if swapped else problem.group_C
        self.outputs = problem.group_C if swapped else problem.group_K
        self.blocks = -(-self.outputs // tile.width)
        self.panel = 2 * self.inputs * tile.width * self.size
        self.filters = uneven(self.blocks * self.panel)
        self.lines = -(-(line_bytes(shape, self.vector) + self.vector) // 64) * 64
        self.table = -(-8 * max(cut.kept for cut in self.cuts) // 64) * 64
        # A block of lanes is read behind the last row when planes are written.
        self.worker = (
            self.lines + self.table + tile_bytes(shape, self.vector) + tile.lanes * self.vector
        )
        self.plan = pack_tile(shape, problem.x.dtype)

    def image(self, name: str) -> tuple[Strides, int]:
        """Strides of x or y, and its channels in a group."""
        problem = self.problem
        if name == "x":
            channels, extent, operand = problem.C, [a.size for a in self.axes], problem.x
        else:
            channels, extent, operand = problem.K, [a.out for a in self.axes], problem.y
        at = strides(operand.order, self.size, problem.groups, channels, tuple(extent))
        return at, channels // problem.groups

    def kept(self) -> bytes:
        """What of a tile goes to the output."""
        fields: dict[str, int] = {}
        for name, axis, cut in zip("dhw", self.axes, self.cuts, strict=True):
            spacing = {
                Direction.FPROP: axis.stride,
                Direction.DGRAD: 1,
                Direction.WGRAD: axis.dilation,
            }[self.problem.direction]
            fields |= {f"count_{name}": cut.count, f"keep_{name}": cut.kept}
            fields[f"step_{name}"] = spacing
            wgrad = self.problem.direction is Direction.WGRAD
            some = met(axis).taps if wgrad else range(cut.count)
            fields |= {f"some_{name}": some.start, f"zero_{name}": some.stop}
        return KEPT.pack(**fields)

    def padded(self, channels: int, multiple: int) -> int:
        """Bytes of this many channels, up to a multiple of so many."""
        return -(-channels // multiple) * multiple * self.size

    def format_id(self) -> str:
        """What the spectra of filters depend on."""
        problem = self.problem
        tile = "x".join(map(str, self.shape))
        taps = [met(axis).taps for axis in self.axes]
        spans = "x".join(
            f"{axis.filter}d{axis.dilation}t{read.start}-{read.stop}"
            for axis, read in zip(self.axes, taps, strict=True)
        )
        letter = "c" if problem.direction is Direction.DGRAD else "k"
        return (
            f"fft{tile}{letter}b{self.tile.width}:{problem.w.dtype}:"
            f"{problem.K}x{problem.group_C}x{spans}:g{problem.groups}"
        )

    def flops_each(self) -> int:
        """Cost of transforming one lane of one tile."""
        return int(transform_flops(self.shape))

    def flops(self, tiles: int, channels: int) -> int:
        """Cost of transforming so many tiles of all groups."""
        return self.flops_each() * tiles * -(-channels // self.tile.lanes) * self.tile.lanes

    def transform(
        self,
        source: str,
        target: str,
        scratch: str,
        windows: tuple[Window, ...],
        at: Strides,
        rows: int,
        channels: int,
        spectrum: dict[str, int],
        first: int = 0,
        groups: int = 0,
    ) -> Step:
        """Spectra of an operand, of the problem's groups if no other number is given."""
        groups = groups or self.problem.groups
        constants = SPECTRA.pack(
            groups=groups,
            first_row=first,
            rows=rows,
            tiles=prod(w.tiles for w in windows),
            channels=channels,
            group_bytes=at.group,
            image_bytes=at.image,
            lane_bytes=at.channel,
            scratch_bytes=self.worker,
            table_bytes=self.table,
            line_bytes=self.lines,
            scale=1,
            **spectrum,
        )
        written = groups * rows * self.padded(channels, self.tile.lanes)
        return Step(
            name=f"transform {source}",
            kernel=KernelRef(transform_operand, Vector(self.problem.x.dtype.value)),
            operands=(source, target, scratch),
            constants=constants + b"".join(w.pack() for w in windows) + self.plan,
            tasks=groups * rows * -(-channels // self.tile.lanes),
            cost=Cost(
                flops=groups * self.flops(rows, channels), bytes=3 * self.frequencies * written
            ),
        )

    def scratch(self, name: str = "lines") -> Buffer:
        """Scratch memory of the workers."""
        return Buffer(name=name, nbytes=self.worker, scope="worker")


def rows_of(part: int, rows: int, frequencies: int) -> dict[str, int]:
    """Where the spectra of images lie: ``[group][frequency][row][-Im, Re, Im][channel]``."""
    return {
        "spectral_group": frequencies * uneven(rows * 3 * part),
        "frequency": uneven(rows * 3 * part),
        "row": 3 * part,
        "block": 0,
        "blocks_wide": ALL,
        "real": part,
        "imaginary": 2 * part,
        "streams": 0,
    }
