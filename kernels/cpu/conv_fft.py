"""Convolution by Fourier transforms of overlapping tiles, for large filters.

Computes: fprop, dgrad and wgrad for one to three axes, groups, stride, dilation, zero padding.
Layout: any order in place; spectra in between as one matrix a frequency.
Accumulates: in the operands' type, float32 or float64: transforms, then one sum over channels.
Good at: filters of about 9x9 and more, long filters in one axis. Bad at: small filters; strides,
    which compute everything and keep a part; a first call, which transforms the filters.

Mathieu, Henaff, LeCun 2013 (arXiv:1312.5851); Vasilache et al. 2014 (arXiv:1412.7580); tiles on
CPUs: Zlateski, Jia, Li, Durand 2018 (arXiv:1809.07851). See docs/algorithms/conv_fft.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convforge.contract import Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels._met import refuse_unmet
from convforge.kernels.cpu._fft_channelwise import (
    channelwise_format,
    channelwise_program,
    is_channelwise,
    may_tile_lanes,
)
from convforge.kernels.cpu._fft_program import (
    filter_gradient_program,
    gather_program,
    weight_format,
)
from convforge.kernels.cpu._fft_shape import (
    LONGEST,
    Shape,
    channelwise_shapes,
    shapes,
    too_long,
)
from convforge.kernels.cpu._fft_tile import frequencies
from convforge.kernels.cpu._fft_work import Work
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
from convforge.kernels.cpu._tile import Tile
from convforge.kernels.cpu._tile_shape import choose_shape
from convforge.problem import ConvProblem, Direction, Problem

MOST_LAUNCHES = 64
"""Chunks of tiles that a call may be cut into."""
_L3_SHARE = 0.5
"""Of the shared cache, what spectra and products of a chunk should take."""


@dataclass(frozen=True, slots=True)
class FftConfig:
    """Places of a tile, what its lanes are, and how its spectra are multiplied.

    Attributes:
        shape: Places of a tile.
        lanes: ``sums``, channels whose spectra are summed by a matrix product; ``channels``, that
            stay apart; ``tiles``, neighbours of one channel.
        rows, columns: The register tile of sums. chunk: Tiles multiplied at once.
    """

    shape: Shape
    lanes: str
    rows: int = 1
    columns: int = 1
    chunk: int = 0


class ConvFft:
    """The algorithm ``cpu.conv_fft``."""

    name = "cpu.conv_fft"
    revision = 1
    tolerance = Tolerance(growth=4.0, planewise=True, exact=False)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Float32 or float64 convolutions of more than one tap, with zeros around the image."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        refusal = refuse_common(problem) or refuse_pad_modes(problem)
        if refusal is None and problem.taps == 1:
            refusal = Rejected("a filter of one place: nothing for a transform to save")
        if refusal is None and too_long(problem):
            refusal = Rejected(f"a filter that spans more than {LONGEST} places")
        return refusal or refuse_unmet(problem)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[FftConfig]:
        """Tiles in the order of their expected times, in the largest chunks that fit."""
        assert isinstance(problem, ConvProblem)
        lanes = machine.vector_bytes // problem.x.dtype.itemsize
        if is_channelwise(problem):
            ways = (False, True) if may_tile_lanes(problem) else (False,)
            for across, shape in channelwise_shapes(problem, lanes, machine.l2_bytes, ways):
                config = FftConfig(shape, "tiles" if across else "channels")
                if self._needs(problem, config, machine) <= workspace_limit:
                    yield config
            return
        for shape in shapes(problem, lanes):
            fitting = self._fitting(problem, shape, machine, workspace_limit)
            if fitting is not None:
                yield fitting

    def _needs(self, problem: ConvProblem, config: FftConfig, machine: Machine) -> int:
        return self.program(problem, config, machine).workspace_bytes(machine.threads)

    def _fitting(
        self, problem: ConvProblem, shape: Shape, machine: Machine, limit: int
    ) -> FftConfig | None:
        """The configuration of a tile shape, None if even its smallest chunk needs too much."""
        size = problem.x.dtype.itemsize
        products = 2 * frequencies(shape) * problem.C
        if problem.direction is Direction.WGRAD:
            tile = choose_shape(machine, size, problem.group_K, problem.group_C, products)
            whole = FftConfig(shape, "sums", *tile)
            return whole if self._needs(problem, whole, machine) <= limit else None
        outputs = problem.group_C if problem.direction is Direction.DGRAD else problem.group_K
        rows = Work(problem, shape, Tile(problem.x.dtype.value, 1, 1)).rows
        least = -(-rows // MOST_LAUNCHES)
        tile = choose_shape(machine, size, 2 * rows, outputs, products)
        wanted = min(limit, int(machine.l3_bytes * _L3_SHARE))
        chunk = rows
        while True:
            config = FftConfig(shape, "sums", *tile, chunk)
            needs = self._needs(problem, config, machine)
            if needs <= wanted or chunk == least:
                return config if needs <= limit else None
            chunk = max(least, min(chunk - 1, chunk * wanted // needs))

    def weight_format(self, problem: Problem, config: FftConfig) -> WeightFormat | None:
        """Spectra of the filters; wgrad reads none."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        work = self._work(problem, config)
        return weight_format(work) if config.lanes == "sums" else channelwise_format(work)

    def program(self, problem: Problem, config: FftConfig, machine: Machine) -> Program:
        """Transform, multiply, transform back."""
        assert isinstance(problem, ConvProblem)
        work = self._work(problem, config)
        if problem.direction is Direction.WGRAD:
            return filter_gradient_program(work)
        if config.lanes == "sums":
            return gather_program(work, config.chunk)
        return channelwise_program(work, across=config.lanes == "tiles")

    def _work(self, problem: ConvProblem, config: FftConfig) -> Work:
        tile = Tile(problem.x.dtype.value, config.rows, config.columns)
        return Work(problem, config.shape, tile)


ALGORITHMS = (ConvFft(),)
