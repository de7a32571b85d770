"""A convolution as windows, and the launches for them: transform, multiply, write.

For a chunk of windows, buffers hold the places of what is read and of what is written as planes
``[group][place][window][channel]``, or with the last two exchanged: what neighbouring
threads of the transforms, which follow the memory of the image, write side by side. Each group and
place is a product of matrices, which takes either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from convforge.contract import Buffer, Machine, Program, Step, WeightFormat
from convforge.kernels.cuda_numba._element import Types
from convforge.kernels.cuda_numba._epilogue import post_code
from convforge.kernels.cuda_numba._gemm import gemm_config, gemm_step
from convforge.kernels.cuda_numba._gemm_tile import GemmConfig
from convforge.kernels.cuda_numba._geometry import index_of, steps
from convforge.kernels.cuda_numba._winograd_squares import (
    TAPS,
    SquareConfig,
    Windows,
    square_step,
)
from convforge.problem import ConvProblem, Direction
from convforge.runtime.cuda.jit import MOST_INT32

_CHUNK_BYTES, _ENOUGH_CHUNKS = 32 << 20, 32
"""What the cache of a large GPU holds. Beyond so many chunks they are larger, for between launches
the device is idle in part. Sums of wgrad depend on chunks, so nobody asks the device."""
_ENOUGH_TILES, _FEWEST_WINDOWS = 512, 256
"""Tiles of a product that keep a device busy; below, wgrad sums slices of so many windows."""
_TILE_ROWS, _ = GemmConfig("i32", "f32", ()).tile
_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class WinogradConfig(Types):
    """Windows of a chunk besides the types, which are those of x, w and y."""

    chunk: int


@dataclass(frozen=True)
class WinogradWork:
    """A problem by F(m, 3)."""

    problem: ConvProblem
    m: int

    @property
    def side(self) -> int:
        """Places of a window along an axis."""
        return self.m + TAPS - 1

    @property
    def filter_places(self) -> int:
        """Elements of transformed filters, or of the gradient of them."""
        return self.side**2 * self.problem.K * self.problem.group_C

    @property
    def _backwards(self) -> bool:
        return self.problem.direction is Direction.DGRAD

    @cached_property
    def source(self) -> Windows:
        """What is read with its border: x, in dgrad dy."""
        p = self.problem
        if self._backwards:
            down, across = (axis.pad_lo - axis.extent + 1 for axis in p.axes)
            return self._windows(of_x=False, start=(down, across))
        down, across = (-axis.pad_lo for axis in p.axes)
        return self._windows(of_x=True, start=(down, across))

    @cached_property
    def target(self) -> Windows:
        """What windows cover side by side: y, in dgrad dx."""
        return self._windows(of_x=self._backwards, start=(0, 0))

    def _windows(self, *, of_x: bool, start: tuple[int, int]) -> Windows:
        p = self.problem
        order, channels, size = (p.x.order, p.C, p.size) if of_x else (p.y.order, p.K, p.out)
        n, c, _, h, w = steps(order, p.N, channels, size)
        covered = p.size if self._backwards else p.out
        down, across = (axis.dilation for axis in p.axes)
        return Windows(
            images=p.N,
            channels=channels,
            group_channels=channels // p.groups,
            size=(size[0], size[1]),
            image=(n, c, h, w),
            reach=(self.m * down, self.m * across),
            step=(down, across),
            start=start,
            extent=(covered[0], covered[1]),
            channels_last=c == 1,
        )

    @cached_property
    def filters(self) -> Windows:
        """Weights: for each input of a group an image of 3x3 with K channels."""
        p = self.problem
        k, c, _, r, s = steps(p.w.order, p.K, p.group_C, p.filter)
        first = 0
        if self._backwards:
            first, r, s = (TAPS - 1) * (r + s), -r, -s
        return Windows(
            images=p.group_C,
            channels=p.K,
            group_channels=p.group_K,
            size=(TAPS, TAPS),
            image=(c, k, r, s),
            first=first,
            reach=(1, 1),
            extent=(1, 1),
            # What is written, the columns of the product, comes last.
            channels_last=not self._backwards,
        )

    @property
    def slices(self) -> int:
        """Of a chunk's windows in wgrad, summed each for itself."""
        p = self.problem
        tile_rows, tile_columns = GemmConfig("i32", "f32", ()).tile
        tiles = self.side**2 * p.groups * -(-p.group_C // tile_rows) * -(-p.group_K // tile_columns)
        most = max(1, self.source.count // _FEWEST_WINDOWS)
        return min(-(-_ENOUGH_TILES // tiles), most)

    def chunk(self, workspace_limit: int) -> int:
        """Windows that fit into the cache, or into the limit where that is less; at least one."""
        p = self.problem
        size = p.acc.itemsize
        bytes_a_window = self.side**2 * (p.C + p.K) * size
        wgrad = p.direction is Direction.WGRAD
        sums = self.slices * self.filter_places * size if wgrad else 0
        room = workspace_limit - sums - 3 * _LINE_BYTES
        whole = self.source.count * bytes_a_window
        chunk = min(room, max(_CHUNK_BYTES, sums, whole // _ENOUGH_CHUNKS)) // bytes_a_window
        if index_of(p) == "i32":
            chunk = min(chunk, MOST_INT32 // 2 // (self.side**2 * max(p.C, p.K)))
        if chunk > _TILE_ROWS:
            chunk -= chunk % _TILE_ROWS
        return max(1, min(chunk, self.source.count))

    def program(self, config: WinogradConfig, machine: Machine) -> Program:
        """Launches of fprop and dgrad, from transformed filters."""
        p, source, target = self.problem, self.source, self.target
        batches = p.groups * self.side**2
        names = ("y", "x") if self._backwards else ("x", "y")
        extras = (op if op in p.post else "" for op in ("bias", "residual"))
        written = ("sums", names[1], *extras)
        plane, _, window, channel = self.filters.places(self.side, p.group_C)
        summed, output = (channel, window) if self._backwards else (window, channel)
        tile = gemm_config(
            config.index, config.acc, batches, config.chunk, target.group_channels, machine
        )
        found: list[Step] = []
        for chunk in self._chunks(config):
            a, c = (each.places(self.side, len(chunk)) for each in (source, target))
            found += (
                square_step(
                    source,
                    self._squares(config, "images"),
                    operands=(names[0], "images"),
                    chunk=chunk,
                    planes=a,
                ),
                gemm_step(
                    tile,
                    operands=("images", "packed", "sums"),
                    batches=batches,
                    rows=len(chunk),
                    columns=target.group_channels,
                    depth=source.group_channels,
                    a=(a[0], a[2], a[3]),
                    b=(plane, summed, output),
                    c=(c[0], c[2], c[3]),
                ),
                square_step(
                    target,
                    self._squares(config, "results"),
                    operands=written,
                    chunk=chunk,
                    planes=c,
                    post=post_code(p),
                    accumulate=p.accumulate,
                ),
            )
        buffers = self._buffer("images", config, source), self._buffer("sums", config, target)
        return Program(steps=tuple(found), buffers=buffers)

    def gradient_program(self, config: WinogradConfig, machine: Machine) -> Program:
        """Launches of wgrad: products sum over windows, and the sums are transformed back once."""
        p, source, target = self.problem, self.source, self.target
        batches = p.groups * self.side**2
        filters = self.filters.places(self.side, p.group_C)
        tile = gemm_config(config.index, config.acc, batches, p.group_C, p.group_K, machine)
        found: list[Step] = []
        for chunk in self._chunks(config):
            a, b = (each.places(self.side, len(chunk)) for each in (source, target))
            found += (
                square_step(
                    source,
                    self._squares(config, "images"),
                    operands=("x", "images"),
                    chunk=chunk,
                    planes=a,
                ),
                square_step(
                    target,
                    self._squares(config, "gradients"),
                    operands=("y", "gradients"),
                    chunk=chunk,
                    planes=b,
                ),
                gemm_step(
                    tile,
                    operands=("images", "gradients", "sums"),
                    batches=batches,
                    rows=p.group_C,
                    columns=p.group_K,
                    depth=len(chunk),
                    a=(a[0], a[3], a[2]),
                    b=(b[0], b[2], b[3]),
                    c=(filters[0], filters[2], filters[3]),
                    slices=self.slices,
                    accumulate=chunk.start > 0,
                ),
            )
        found.append(
            square_step(
                self.filters,
                self._squares(config, "filters"),
                operands=("sums", "w", "", ""),
                chunk=range(p.group_C),
                planes=filters,
                slices=self.slices,
                accumulate=p.accumulate,
            )
        )
        sums = Buffer(name="sums", nbytes=self.slices * self.filter_places * p.acc.itemsize)
        buffers = self._buffer("images", config, source), self._buffer("gradients", config, target)
        return Program(steps=tuple(found), buffers=(*buffers, sums))

    def weight_format(self, config: WinogradConfig) -> WeightFormat:
        """Transformed filters, [group][place][summed channel][written channel]."""
        p = self.problem
        letter = "c" if self._backwards else "k"
        pack = square_step(
            self.filters,
            self._squares(config, "weights"),
            operands=("w", "packed"),
            chunk=range(p.group_C),
            planes=self.filters.places(self.side, p.group_C),
        )
        return WeightFormat(
            id=f"winograd{self.m}:cuda:{letter}:{p.w.dtype}:{p.acc}:{p.K}x{p.group_C}:g{p.groups}",
            nbytes=self.filter_places * p.acc.itemsize,
            pack=Program(steps=(pack,)),
        )

    def _chunks(self, config: WinogradConfig) -> list[range]:
        every = range(self.source.count)
        return [every[first : first + config.chunk] for first in every[:: config.chunk]]

    def _squares(self, config: WinogradConfig, part: str) -> SquareConfig:
        source, weight, target = config.pointers
        if self._backwards:
            source, target = target, source
        acc = config.acc
        pointers = {
            "images": (source, acc),
            "gradients": (target, acc),
            "weights": (weight, acc),
            "results": (acc, target, target, target),
            "filters": (acc, weight, weight, weight),
        }[part]
        return SquareConfig(config.index, acc, pointers, self.m, part)

    def _buffer(self, name: str, config: WinogradConfig, windows: Windows) -> Buffer:
        elements = self.side**2 * config.chunk * windows.channels
        return Buffer(name=name, nbytes=elements * self.problem.acc.itemsize)
