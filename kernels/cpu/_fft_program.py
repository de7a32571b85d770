"""The steps of an FFT convolution, as data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convforge.contract import (
    Buffer,
    Cost,
    KernelRef,
    Machine,
    Program,
    Step,
    WeightFormat,
)
from convforge.kernels.cpu._fft_products import (
    PRODUCTS,
    SUMS,
    correlate_spectra,
    multiply_spectra,
)
from convforge.kernels.cpu._fft_shape import (
    Shape,
    Tiling,
    filter_window,
    gradient_window,
    image_window,
    tiling,
    whole,
)
from convforge.kernels.cpu._fft_spectra import KEPT, SPECTRA, finish_tiles, transform_operand
from convforge.kernels.cpu._fft_tile import (
    frequencies,
    line_bytes,
    pack_tile,
    tile_bytes,
    transform_flops,
)
from convforge.kernels.cpu._fft_window import Window
from convforge.kernels.cpu._planes import is_channels_last, to_channels_first, to_channels_last
from convforge.kernels.cpu._store import pack_store
from convforge.kernels.cpu._tile import Tile
from convforge.kernels.cpu._vector import Vector
from convforge.problem import Axis, ConvProblem, Direction, Order, PostOp

_ALL = 1 << 40
"""Blocks of lanes that follow one another where no panel ends."""
_TRANSFORM_COST = 2.0
"""Flops of a transform against a product's, by the time that they take."""


@dataclass(frozen=True, slots=True)
class Strides:
    """Bytes from a group, an image, a channel and an element of each axis to the next."""

    group: int
    image: int
    channel: int
    axes: tuple[int, int, int]


def strides(order: Order, size: int, groups: int, channels: int, extent: tuple[int, ...]) -> Strides:
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
        self.scratch = -(-(line_bytes(shape, self.vector)) // 64) * 64
        self.table = -(-8 * max(cut.kept for cut in self.cuts) // 64) * 64
        # A block of lanes is read behind the last row when planes are written.
        self.worker = (
            self.scratch + self.table + tile_bytes(shape, self.vector) + tile.lanes * self.vector
        )
        self.plan = pack_tile(shape, problem.x.dtype)

    def padded(self, channels: int, multiple: int) -> int:
        """Bytes of this many channels, up to a multiple of so many."""
        return -(-channels // multiple) * multiple * self.size

    def flops(self, tiles: int, channels: int) -> int:
        """Cost of transforming so many tiles of all groups."""
        lanes = -(-channels // self.tile.lanes) * self.tile.lanes * self.problem.groups
        return int(_TRANSFORM_COST * transform_flops(self.shape) * tiles * lanes)

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
    ) -> Step:
        """Spectra of an operand."""
        constants = SPECTRA.pack(
            groups=self.problem.groups,
            first_row=first,
            rows=rows,
            tiles=prod(w.tiles for w in windows),
            channels=channels,
            group_bytes=at.group,
            image_bytes=at.image,
            lane_bytes=at.channel,
            scratch_bytes=self.worker,
            table_bytes=self.table,
            line_bytes=self.scratch,
            scale=1,
            **spectrum,
        )
        written = self.problem.groups * rows * self.padded(channels, self.tile.lanes)
        return Step(
            name=f"transform {source}",
            kernel=KernelRef(transform_operand, Vector(self.problem.x.dtype.value)),
            operands=(source, target, scratch),
            constants=constants + b"".join(w.pack() for w in windows) + self.plan,
            tasks=self.problem.groups * rows * -(-channels // self.tile.lanes),
            cost=Cost(flops=self.flops(rows, channels), bytes=3 * self.frequencies * written),
        )

    def lines(self, name: str = "lines") -> Buffer:
        """Scratch memory of the workers."""
        return Buffer(name=name, nbytes=self.worker, scope="worker")


def _rows_of(part: int, rows: int, frequencies: int) -> dict[str, int]:
    """Where the spectra of images lie: ``[group][frequency][row][-Im, Re, Im][channel]``."""
    return {
        "spectral_group": frequencies * rows * 3 * part,
        "frequency": rows * 3 * part,
        "row": 3 * part,
        "block": 0,
        "blocks_wide": _ALL,
        "real": part,
        "imaginary": 2 * part,
    }


def weight_format(work: Work) -> WeightFormat:
    """Spectra of the filters as panels: ``[group][frequency][block][Im, Re][input][width]``."""
    problem, size = work.problem, work.size
    at = strides(problem.w.order, size, 1, problem.group_C, tuple(a.filter for a in work.axes))
    swapped = problem.direction is Direction.DGRAD
    group = problem.group_K * at.image
    image, channel = (at.image, at.channel) if swapped else (at.channel, at.image)
    panel_row = work.tile.width * size
    step = work.transform(
        "w",
        "packed",
        "packing",
        tuple(
            filter_window(problem.direction, *each)
            for each in zip(work.axes, work.cuts, at.axes, strict=True)
        ),
        Strides(group, image, channel, at.axes),
        work.inputs,
        work.outputs,
        {
            "spectral_group": work.frequencies * work.blocks * work.panel,
            "frequency": work.blocks * work.panel,
            "row": panel_row,
            "block": work.panel,
            "blocks_wide": panel_row // work.vector,
            "real": work.inputs * panel_row,
            "imaginary": 0,
        },
    )
    tile = "x".join(map(str, work.shape))
    spans = "x".join(f"{a.filter}d{a.dilation}" for a in work.axes)
    letter = "c" if swapped else "k"
    return WeightFormat(
        id=(
            f"fft{tile}{letter}b{work.tile.width}:{problem.w.dtype}:{problem.K}x{problem.group_C}"
            f"x{spans}:g{problem.groups}"
        ),
        nbytes=problem.groups * work.frequencies * work.blocks * work.panel,
        pack=Program(steps=(step,), buffers=(work.lines("packing"),)),
    )


def _image_strides(work: Work, name: str) -> tuple[Strides, int]:
    """Of x or y; and its channels in a group."""
    problem = work.problem
    if name == "x":
        channels, extent, operand = problem.C, [a.size for a in work.axes], problem.x
    else:
        channels, extent, operand = problem.K, [a.out for a in work.axes], problem.y
    at = strides(operand.order, work.size, problem.groups, channels, tuple(extent))
    return at, channels // problem.groups


def gather_program(work: Work, chunk: int) -> Program:
    """Fprop and dgrad: transform, multiply and transform back, ``chunk`` tiles at a time."""
    problem, tile, size = work.problem, work.tile, work.size
    source, output = ("y", "x") if problem.direction is Direction.DGRAD else ("x", "y")
    at, _ = _image_strides(work, source)
    windows = tuple(
        image_window(problem.direction, *each)
        for each in zip(work.axes, work.cuts, at.axes, strict=True)
    )
    part = work.padded(work.inputs, tile.lanes)
    result_row = work.blocks * tile.width * size
    result_rows = -(-2 * chunk // tile.rows) * tile.rows
    matrices = problem.groups * work.frequencies
    end = _Output(work, output, problem.N)
    steps = []
    for first in range(0, work.rows, chunk):
        rows = min(chunk, work.rows - first)
        spectrum = _rows_of(part, chunk, work.frequencies)
        steps.append(
            work.transform(
                source, "spectra", "lines", windows, at, rows, work.inputs, spectrum, first
            )
        )
        padded = -(-2 * rows // tile.rows) * tile.rows
        steps.append(
            Step(
                name="multiply",
                kernel=KernelRef(multiply_spectra, tile),
                operands=("spectra", "packed", "products", "lines"),
                constants=PRODUCTS.pack(
                    frequencies=matrices,
                    rows=rows,
                    inputs=work.inputs,
                    blocks=work.blocks,
                    matrix=chunk * 3 * part,
                    row=3 * part,
                    part=part,
                    panel=work.panel,
                    result=result_rows * result_row,
                    result_row=result_row,
                    scratch_bytes=work.worker,
                ),
                tasks=matrices,
                cost=Cost(
                    flops=4 * matrices * padded * work.inputs * work.blocks * tile.width,
                    bytes=matrices * (work.blocks * work.panel + rows * 3 * part),
                ),
            )
        )
        steps.append(
            end.step("products", first, rows, result_rows * result_row, result_row, work.outputs, 1)
        )
    return Program(
        steps=(*end.before, *steps, *end.after),
        buffers=(
            *end.buffers,
            Buffer(name="spectra", nbytes=matrices * chunk * 3 * part),
            Buffer(name="products", nbytes=matrices * result_rows * result_row),
            work.lines(),
        ),
    )


def filter_gradient_program(work: Work) -> Program:
    """Wgrad: transform x and dy, correlate over tiles and images, transform back."""
    problem, tile, size = work.problem, work.tile, work.size
    steps, parts = [], []
    for name, window, multiple in (("y", None, tile.lanes), ("x", image_window, tile.width)):
        at, channels = _image_strides(work, name)
        windows = tuple(
            window(problem.direction, axis, cut, stride)
            if window
            else gradient_window(axis, cut, stride)
            for axis, cut, stride in zip(work.axes, work.cuts, at.axes, strict=True)
        )
        part = work.padded(channels, multiple)
        spectrum = _rows_of(part, work.rows, work.frequencies)
        target = f"{name}_spectra"
        steps.append(
            work.transform(name, target, "lines", windows, at, work.rows, channels, spectrum)
        )
        parts.append(part)
    left, right = parts
    outputs = -(-problem.group_K // tile.rows) * tile.rows
    matrices = problem.groups * work.frequencies
    steps.append(
        Step(
            name="correlate",
            kernel=KernelRef(correlate_spectra, tile),
            operands=("y_spectra", "x_spectra", "sums"),
            constants=SUMS.pack(
                frequencies=matrices,
                rows=work.rows,
                outputs=problem.group_K,
                blocks=right // (tile.width * size),
                left=work.rows * 3 * left,
                left_row=3 * left,
                left_part=left,
                right=work.rows * 3 * right,
                right_row=3 * right,
                right_part=right,
                result=2 * outputs * right,
                result_row=right,
            ),
            tasks=matrices,
            cost=Cost(
                flops=8 * matrices * work.rows * outputs * right // size,
                bytes=matrices * 2 * outputs * right,
            ),
        )
    )
    end = _Output(work, "w", problem.K)
    steps.append(
        end.step("sums", 0, problem.group_K, 2 * outputs * right, right, problem.group_C, -1)
    )
    return Program(
        steps=(*end.before, *steps, *end.after),
        buffers=(
            *end.buffers,
            # The tile reads some channels beyond the last ones of dy.
            Buffer(name="y_spectra", nbytes=matrices * work.rows * 3 * left + tile.rows * size),
            Buffer(name="x_spectra", nbytes=matrices * work.rows * 3 * right),
            Buffer(name="sums", nbytes=matrices * 2 * outputs * right),
            work.lines(),
        ),
    )


class _Output:
    """Where results go: to their place, or to a buffer in channels-last order and from there.

    The store routine reads (a residual, or what is there already) only where channels are
    adjacent.
    """

    def __init__(self, work: Work, name: str, images: int) -> None:
        problem = work.problem
        self.work = work
        self.wgrad = name == "w"
        operand = {"x": problem.x, "y": problem.y, "w": problem.w}[name]
        self.extent = tuple(cut.count for cut in work.cuts)
        self.channels = {"x": problem.C, "y": problem.K, "w": problem.group_C}[name]
        last = is_channels_last(operand.order, self.channels, self.extent)
        self.name = name
        self.residual = "residual" if PostOp.RESIDUAL in problem.post else ""
        self.before: tuple[Step, ...] = ()
        self.after: tuple[Step, ...] = ()
        self.buffers: tuple[Buffer, ...] = ()
        self.planes = not last
        if self.planes and (self.residual or problem.accumulate):
            self.planes = False
            geometry = (operand.dtype, images, self.channels, self.extent)
            nbytes = images * self.channels * prod(self.extent) * work.size
            self.name = f"{name}_last"
            self.buffers = (Buffer(name=self.name, nbytes=nbytes),)
            if problem.accumulate:
                self.before = (to_channels_last(name, self.name, *geometry),)
            if self.residual:
                self.residual = "residual_last"
                self.before += (to_channels_last("residual", self.residual, *geometry),)
                self.buffers += (Buffer(name=self.residual, nbytes=nbytes),)
            self.after = (to_channels_first(self.name, name, *geometry),)

    def step(
        self,
        spectra: str,
        first: int,
        rows: int,
        matrix: int,
        row: int,
        channels: int,
        sign: int,
    ) -> Step:
        """Transform back: matrices of rows of real and rows of imaginary parts."""
        work, problem = self.work, self.work.problem
        order = Order.CHANNELS_FIRST if self.planes else Order.CHANNELS_LAST
        groups = 1 if self.wgrad else problem.groups
        at = strides(order, work.size, groups, self.channels, self.extent)
        fields = {
            name: value
            for axis, cut, dilated in zip("dhw", work.cuts, work.axes, strict=True)
            for name, value in (
                (f"count_{axis}", cut.count),
                (f"keep_{axis}", cut.kept),
                (f"step_{axis}", _spacing(problem.direction, dilated)),
            )
        }
        constants = SPECTRA.pack(
            groups=problem.groups,
            first_row=first,
            rows=rows,
            tiles=1 if self.wgrad else work.tiles,
            channels=channels,
            group_bytes=problem.group_K * at.image if self.wgrad else at.group,
            image_bytes=at.image,
            lane_bytes=at.channel,
            spectral_group=work.frequencies * matrix,
            frequency=matrix,
            row=2 * row,
            block=0,
            blocks_wide=_ALL,
            real=0,
            imaginary=row,
            scratch_bytes=work.worker,
            table_bytes=work.table,
            line_bytes=work.scratch,
            scale=sign * 4 * prod(work.shape),
        )
        store = pack_store(problem, at.axes[2], at.channel if self.planes else 0)
        written = problem.groups * rows * work.padded(channels, work.tile.lanes)
        return Step(
            name="transform back",
            kernel=KernelRef(finish_tiles, Tile(problem.x.dtype.value, 1, 1)),
            operands=(
                spectra,
                self.name,
                "bias" if PostOp.BIAS in problem.post else "",
                self.residual,
                "lines",
            ),
            constants=constants + KEPT.pack(**fields) + store + work.plan,
            tasks=problem.groups * rows * -(-channels // work.tile.lanes),
            cost=Cost(flops=work.flops(rows, channels), bytes=3 * work.frequencies * written),
        )


def _spacing(direction: Direction, axis: Axis) -> int:
    """Places from a wanted result to the next."""
    return {
        Direction.FPROP: axis.stride,
        Direction.DGRAD: 1,
        Direction.WGRAD: axis.dilation,
    }[direction]


def program(work: Work, chunk: int, machine: Machine) -> Program:
    """The program of any direction."""
    if work.problem.direction is Direction.WGRAD:
        return filter_gradient_program(work)
    return gather_program(work, chunk)
