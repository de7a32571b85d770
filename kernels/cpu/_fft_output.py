"""The last step of an FFT convolution, and where it writes."""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Step
from convforge.kernels.cpu._fft_spectra import SPECTRA, finish_tiles
from convforge.kernels.cpu._fft_work import ALL, Strides, Work, strides
from convforge.kernels.cpu._planes import is_channels_last, to_channels_first, to_channels_last
from convforge.kernels.cpu._store import pack_store
from convforge.kernels.cpu._tile import Tile
from convforge.problem import Order, PostOp


class Output:
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

    def strides(self) -> Strides:
        """Of what is written."""
        order = Order.CHANNELS_FIRST if self.planes else Order.CHANNELS_LAST
        groups = 1 if self.wgrad else self.work.problem.groups
        return strides(order, self.work.size, groups, self.channels, self.extent)

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
        at = self.strides()
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
            blocks_wide=ALL,
            real=0,
            imaginary=row,
            streams=0,
            scratch_bytes=work.worker,
            table_bytes=work.table,
            line_bytes=work.lines,
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
            constants=constants + work.kept() + store + work.plan,
            tasks=problem.groups * rows * -(-channels // work.tile.lanes),
            cost=Cost(
                flops=problem.groups * work.flops(rows, channels),
                bytes=3 * work.frequencies * written,
            ),
        )
