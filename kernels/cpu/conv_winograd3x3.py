"""Winograd convolution of 3x3 filters: fewer products, more additions.

Computes: fprop, dgrad and wgrad of 3x3 filters with stride 1 or 2, any padding and groups, any
    dilation (but for dgrad with stride 2), any pad mode but along depth and in dgrad; of volumes
    with filters of any depth by 3x3, fprop, and dgrad with stride 1.
Layout: channels last in place; channels first through a blocked transpose and out of the tile.
    Weights transformed, as panels.
Accumulates: products of transformed pixels and filters in the operands' type, float32 or float64,
    over channels and depth; then a fixed combination of (m + 2)^2 sums for an output.
Good at: many channels on maps of a dozen pixels and more. Bad at: maps of few tiles with weights
    from memory, which are 16/9 (m = 2), 4 (m = 4) or 64/9 (m = 6) times as many.

Winograd 1980; for layers of networks Lavin & Gray 2015 (arXiv:1509.09308); points of good accuracy
Barabasz et al. 2018 (arXiv:1803.10986). See docs/algorithms/conv_winograd3x3.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from convforge.contract import Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels.cpu._images import images
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
from convforge.kernels.cpu._winograd_gradient import WinogradGradient, chunk_of
from convforge.kernels.cpu._winograd_minimal import Interleaved, Minimal
from convforge.kernels.cpu._winograd_multiply import Part, winograd_step
from convforge.kernels.cpu._winograd_transform import Winograd
from convforge.kernels.cpu._winograd_weights import winograd_format
from convforge.kernels.cpu._winograd_windows import is_plane_of_threes, places, windows_of
from convforge.problem import ConvProblem, Direction, PadMode, Problem

Points = tuple[Fraction, ...]


def _both_signs(*points: str) -> Points:
    """Each of these points, and those that are not zero with the other sign: they share work."""
    found = []
    for point in map(Fraction, points):
        found += [point, -point] if point else [point]
    return tuple(found)


SHAPES = {
    # isa: register tiles, rows of windows by vectors of output channels; the first is preferred.
    # With 16 registers, 4x2 leaves the FMAs waiting for each other: 16 tiles took it as long as 18.
    "avx512": ((14, 2), (13, 2), (9, 2), (8, 2), (7, 2)),
    "avx2": ((6, 2),),
    "neon": ((8, 3), (4, 3)),
    "plain": ((6, 2),),
}


MOST_TILES, MOST_TILES_FAR = 32, 96
"""Tiles of a task, whose planes should stay in the L2; more where weights do not stay in the L3,
or where those of a block are a volume's."""
_LEAST_TILES = 12
_WORTH_COMPILING, _WORTH_FLOPS = 0.97, 2e6
"""Share of the usual tile's work, and work of a thread, that another tile must save."""
_FEWEST_WINDOWS = 4
"""For wgrad, which sums over them."""
_FEWEST_CHANNELS = 4
"""For wgrad, whose transforms take a vector of them."""


@dataclass(frozen=True, slots=True)
class WinogradConfig:
    """Rows and columns (vectors) of the register tile; windows and layers of a task."""

    rows: int
    columns: int
    piece: int
    layers: int


class ConvWinograd3x3:
    """F(m, 3) along both axes: ``cpu.conv_winograd3x3.f2`` and so on, with stride 2 ``f2s2``.

    Args:
        points: Interpolation points.
        tolerance: What they were measured to keep.
        stride: Of the convolution.
        fewest_inputs: Channels below which too little averages out to keep it.
    """

    revision = 3
    traits = Traits(strict_nan=False)

    def __init__(
        self, points: Points, tolerance: Tolerance, *, stride: int = 1, fewest_inputs: int = 4
    ) -> None:
        self.minimal = Minimal(points, stride)
        self.tolerance, self.fewest_inputs = tolerance, fewest_inputs
        self.name = f"cpu.conv_winograd3x3.f{self.minimal.name}"

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """3x3 filters in a plane, and their one stride."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        stride = self.minimal.stride
        wgrad = problem.direction is Direction.WGRAD
        if not is_plane_of_threes(problem.filter):
            return Rejected(f"filter {'x'.join(map(str, problem.filter))}: 3x3 in a plane only")
        strided_dgrad = problem.direction is Direction.DGRAD and stride > 1
        if (wgrad or strided_dgrad) and problem.rank > 2:
            return Rejected(f"{problem.direction} of volumes: images only")
        depth, plane = problem.axes[:-2], problem.axes[-2:]
        if any(axis.stride != stride for axis in plane):
            return Rejected(
                f"stride {'x'.join(str(axis.stride) for axis in plane)}: "
                f"transforms for {stride}x{stride}"
            )
        if any(axis.stride > 1 or axis.dilation > 1 for axis in depth):
            return Rejected("stride or dilation above 1 along depth")
        if strided_dgrad and any(axis.dilation > 1 for axis in plane):
            return Rejected(f"{problem.direction} with stride and dilation")
        if strided_dgrad and len({axis.pad_lo % stride for axis in plane}) > 1:
            return Rejected(
                f"{problem.direction} with padding {'x'.join(str(axis.pad_lo) for axis in plane)}: "
                f"one remainder by {stride} only"
            )
        windows = windows_of(problem, self._minimal(problem))
        if wgrad and windows.planes < _FEWEST_WINDOWS:
            return Rejected(
                f"{windows.planes} windows to sum: below {_FEWEST_WINDOWS} its errors stand out"
            )
        inputs = windows.inputs
        if wgrad and inputs < _FEWEST_CHANNELS:
            return Rejected(f"wgrad of {inputs} channels: a vector of them is mostly empty")
        if not wgrad and inputs < self.fewest_inputs:
            return Rejected(
                f"{inputs} channels to sum: below {self.fewest_inputs} its errors stand out"
            )
        refusal = refuse_common(problem)
        flat = all(axis.pad_mode is PadMode.ZEROS for axis in depth)
        if refusal is None and (problem.direction is Direction.DGRAD or not flat):
            refusal = refuse_pad_modes(problem)
        return refusal

    def _minimal(self, problem: ConvProblem) -> Minimal | Interleaved:
        """What computes windows in this direction."""
        if problem.direction is Direction.DGRAD and self.minimal.stride > 1:
            return Interleaved(self.minimal, problem.axes[-1].pad_lo % self.minimal.stride)
        return self.minimal

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[WinogradConfig]:
        """The tile that wastes least, and as many windows as the caches are good for."""
        assert isinstance(problem, ConvProblem)
        wgrad = problem.direction is Direction.WGRAD
        config = (self._wgrad_config if wgrad else self._default_config)(problem, machine)
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: WinogradConfig) -> WeightFormat | None:
        """Transformed filters in panels of the tile's width; wgrad reads no weights."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        dtype = problem.x.dtype.value
        width = Winograd(dtype, config.rows, config.columns, self.minimal).width
        return winograd_format(problem, self._minimal(problem), width)

    def program(self, problem: Problem, config: WinogradConfig, machine: Machine) -> Program:
        """Bring channels last, convolve, and back."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            gradient = WinogradGradient(
                problem, self.minimal, config.rows, config.columns, config.piece
            )
            return gradient.program(machine)
        minimal = self._minimal(problem)
        tile = Winograd(problem.x.dtype.value, config.rows, config.columns, minimal)
        windows = windows_of(problem, minimal)
        io = images(problem, tapwise=False, scattered=max(windows.step) > 1)
        part = Part(config.piece, config.layers)
        step, scratch = winograd_step(problem, windows, tile, part, io, machine)
        return Program(steps=(*io.before, step, *io.after), buffers=(*io.buffers, scratch))

    def _wgrad_config(self, problem: ConvProblem, machine: Machine) -> WinogradConfig:
        """Rows that waste least of the channels, and a chunk of windows."""
        windows = windows_of(problem, self.minimal)
        rows, columns = min(
            SHAPES[machine.isa], key=lambda s: -(-windows.inputs // s[0]) * s[0] * (1 + 0.6 / s[0])
        )
        size = problem.x.dtype.itemsize
        chunk = chunk_of(windows, self.minimal, problem.groups, size, machine)
        return WinogradConfig(rows, columns, chunk, 1)

    def _default_config(self, problem: ConvProblem, machine: Machine) -> WinogradConfig:
        """The rows and the piece for which the busiest thread multiplies least."""
        windows = windows_of(problem, self._minimal(problem))
        tiles, depths = windows.planes, windows.target_depths
        size = problem.x.dtype.itemsize
        weights = places(self.minimal) * problem.K * problem.group_C * windows.taps * size
        far = 2 * weights > machine.l3_bytes or windows.taps > 1
        most = MOST_TILES_FAR if far else MOST_TILES

        def work(config: WinogradConfig) -> float:
            rows, columns = config.rows, config.columns
            blocks = -(-windows.outputs * size // (columns * machine.vector_bytes)) * problem.groups
            pieces = -(-tiles // config.piece)
            share = -(-pieces * blocks * -(-depths // config.layers) // machine.threads)
            room = -(-config.piece // rows) * rows
            last = -(-(tiles - (pieces - 1) * config.piece) // rows) * rows
            all_of_it = blocks * depths * ((pieces - 1) * room + last)
            busiest = min(share * room * config.layers, all_of_it)
            # Longer tiles load less for a product, larger tasks read the weights less often.
            again = 1 + 0.5 / (config.piece * config.layers)
            return busiest * columns * (1 + 0.6 / rows) * again

        def best(shapes: Iterable[tuple[int, int]]) -> tuple[float, WinogradConfig]:
            configs = (
                WinogradConfig(*shape, piece, layers)
                for shape in shapes
                for piece in range(min(tiles, _LEAST_TILES), min(tiles, most) + 1)
                for layers in _even_parts(depths, max(1, most // piece))
            )
            return min(((work(config), config) for config in configs), key=lambda option: option[0])

        preferred, *others = SHAPES[machine.isa]
        usual, special = best([preferred]), best(others or [preferred])
        flops = 2 * machine.vector_bytes // size * places(self.minimal) * windows.inputs
        saved = (usual[0] - special[0]) * flops * windows.taps
        worth = special[0] < _WORTH_COMPILING * usual[0] and saved > _WORTH_FLOPS
        return special[1] if worth else usual[1]


def _even_parts(whole: int, most: int) -> list[int]:
    """Sizes, at most so many, that cut a whole into parts as equal as can be."""
    return sorted({-(-whole // parts) for parts in range(-(-whole // most), whole + 1)})


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
    ConvWinograd3x3(_both_signs("1"), Tolerance(growth=4.0, planewise=True, exact=True), stride=2),
    ConvWinograd3x3(
        _both_signs("3/8", "5/4"), Tolerance(growth=8.0, planewise=True, exact=False), stride=2
    ),
)
