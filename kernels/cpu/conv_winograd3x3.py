"""Winograd convolution of 3x3 filters: fewer products, more additions.

Computes: fprop and dgrad of two axes, 3x3 filters, stride 1, dilation 1, any padding, groups.
Layout: channels last in place; channels first through a blocked transpose and out of the tile.
    Weights transformed, as panels.
Accumulates: products of transformed pixels and filters in the operands' type, float32 or float64,
    over channels; then a fixed combination of (m + 2)^2 sums for an output.
Good at: many channels on maps of a dozen pixels and more. Bad at: maps of few tiles with weights
    from memory, which are 16/9 (m = 2), 4 (m = 4) or 64/9 (m = 6) times as many.

Winograd 1980; for layers of networks Lavin & Gray 2015 (arXiv:1509.09308); points of good accuracy
Barabasz et al. 2018 (arXiv:1803.10986). See docs/algorithms/conv_winograd3x3.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from convforge.contract import Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels.cpu._images import images
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
from convforge.kernels.cpu._winograd_input import tiles_of
from convforge.kernels.cpu._winograd_multiply import winograd_step
from convforge.kernels.cpu._winograd_transform import TAPS, Transform, Winograd
from convforge.kernels.cpu._winograd_weights import winograd_format
from convforge.problem import ConvProblem, Direction, Problem

Points = tuple[Fraction, ...]


def _both_signs(*points: str) -> Points:
    """Each of these points, and those that are not zero with the other sign: they share work."""
    found = []
    for point in map(Fraction, points):
        found += [point, -point] if point else [point]
    return tuple(found)


SHAPES = {
    # isa: register tiles, rows of windows by vectors of output channels; the first is preferred.
    "avx512": ((14, 2), (9, 2), (8, 2), (7, 2)),
    "avx2": ((6, 2), (4, 2)),
    "neon": ((8, 3), (4, 3)),
    "plain": ((6, 2), (4, 2)),
}


MOST_TILES, MOST_TILES_FAR = 32, 64
"""Tiles of a task, whose planes should stay in the L2; more where weights do not stay in the L3."""
_LEAST_TILES = 12
_WORTH_COMPILING = 0.97


@dataclass(frozen=True, slots=True)
class WinogradConfig:
    """Rows and columns (vectors) of the register tile, and the tiles of a task."""

    rows: int
    columns: int
    piece: int


class ConvWinograd3x3:
    """F(m, 3) along both axes: ``cpu.conv_winograd3x3.f2`` and so on.

    Args:
        points: Interpolation points; m is one less than they are.
        tolerance: What they were measured to keep.
        fewest_inputs: Channels below which too little averages out to keep it.
    """

    revision = 1
    traits = Traits(strict_nan=False)

    def __init__(self, points: Points, tolerance: Tolerance, fewest_inputs: int = 4) -> None:
        self.points, self.tolerance, self.fewest_inputs = points, tolerance, fewest_inputs
        self.m = len(points) + 2 - TAPS
        self.name = f"cpu.conv_winograd3x3.f{self.m}"

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """3x3 filters on two axes, one pixel apart."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        if problem.direction is Direction.WGRAD:
            return Rejected(f"{problem.direction}: fprop and dgrad only")
        if problem.filter != (TAPS, TAPS):
            return Rejected(f"filter {'x'.join(map(str, problem.filter))}: 3x3 only")
        if any(a.stride > 1 or a.dilation > 1 for a in problem.axes):
            return Rejected("stride or dilation above 1")
        inputs = _inputs(problem)
        if inputs < self.fewest_inputs:
            return Rejected(
                f"{inputs} channels to sum: below {self.fewest_inputs} its errors stand out"
            )
        return refuse_common(problem) or refuse_pad_modes(problem)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[WinogradConfig]:
        """The tile that wastes least, and as many windows as the caches are good for."""
        assert isinstance(problem, ConvProblem)
        config = self._default_config(problem, machine)
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: WinogradConfig) -> WeightFormat | None:
        """Transformed filters in panels of the tile's width."""
        assert isinstance(problem, ConvProblem)
        dtype = problem.x.dtype.value
        width = Winograd(dtype, config.rows, config.columns, self.points).width
        transform = Transform(dtype, self.points)
        return winograd_format(problem, transform, self.m, width)

    def program(self, problem: Problem, config: WinogradConfig, machine: Machine) -> Program:
        """Bring channels last, convolve, and back."""
        assert isinstance(problem, ConvProblem)
        tile = Winograd(problem.x.dtype.value, config.rows, config.columns, self.points)
        io = images(problem, tapwise=False)
        step, scratch = winograd_step(problem, tile, self.m, config.piece, io, machine)
        return Program(steps=(*io.before, step, *io.after), buffers=(*io.buffers, scratch))

    def _default_config(self, problem: ConvProblem, machine: Machine) -> WinogradConfig:
        """The rows and the piece for which the busiest thread multiplies least."""
        tiles = problem.N * prod(tiles_of(problem, self.m))
        outputs = problem.group_K if problem.direction is Direction.FPROP else problem.group_C
        size = problem.x.dtype.itemsize
        weights = (self.m + TAPS - 1) ** 2 * problem.K * problem.group_C * size
        most = MOST_TILES_FAR if 2 * weights > machine.l3_bytes else MOST_TILES

        def work(rows: int, columns: int, piece: int) -> float:
            blocks = -(-outputs * size // (columns * machine.vector_bytes)) * problem.groups
            pieces = -(-tiles // piece)
            share = -(-pieces * blocks // machine.threads)
            room, last = (-(-n // rows) * rows for n in (piece, tiles - (pieces - 1) * piece))
            busiest = min(share * room, blocks * ((pieces - 1) * room + last))
            # Longer tiles load less for a product, larger pieces read the weights less often.
            return busiest * columns * (1 + 0.6 / rows) * (1 + 0.5 / piece)

        def best(shapes: Iterable[tuple[int, int]]) -> tuple[float, WinogradConfig]:
            options = (
                (work(*shape, piece), WinogradConfig(*shape, piece))
                for shape in shapes
                for piece in range(min(tiles, _LEAST_TILES), min(tiles, most) + 1)
            )
            return min(options, key=lambda option: option[0])

        preferred, *others = SHAPES[machine.isa]
        usual, special = best([preferred]), best(others)
        return special[1] if special[0] < _WORTH_COMPILING * usual[0] else usual[1]


def _inputs(problem: ConvProblem) -> int:
    """Channels that an output sums over."""
    return problem.group_C if problem.direction is Direction.FPROP else problem.group_K


ALGORITHMS = (
    ConvWinograd3x3(_both_signs("0", "1"), Tolerance(growth=4.0, planewise=True, exact=True)),
    ConvWinograd3x3(
        _both_signs("0", "5/8", "3/2"), Tolerance(growth=16.0, planewise=True, exact=False)
    ),
    ConvWinograd3x3(
        _both_signs("3/8", "7/8", "3/2"),
        Tolerance(growth=16.0, planewise=True, exact=False),
        fewest_inputs=16,
    ),
    ConvWinograd3x3(
        _both_signs("0", "1", "1/2", "2"), Tolerance(growth=64.0, planewise=True, exact=False)
    ),
)
