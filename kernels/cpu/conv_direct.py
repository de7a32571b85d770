"""Direct convolution on a register tile that reads the images in place.

Computes: fprop and dgrad as a gather over filter taps, wgrad as sums of outer products over
    pixels (:mod:`convforge.kernels.cpu._outer`); one to three axes, groups, stride, dilation.
    Fprop and wgrad with every pad mode, by pointing at what stands outside.
Layout: channels last in place; channels first, pointwise layers and images of few channels as
    they are, others through a blocked transpose. Weights as panels.
Accumulates: in the operands' type (float32, float64, int32, int64), one sum per output in a
    fixed order; integers wrap.
Good at: everything dense. Bad at: groups of few channels, which fill few lanes; large filters.

The tile and the tap list: Georganas et al. 2020 (arXiv:1906.06440). Rows that point at pixels,
and at a row of zeros in the padding: Dukhan 2019 (arXiv:1907.02129). See
docs/algorithms/conv_direct.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from convforge.contract import (
    Buffer,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cpu._direct import GatherMultiply, pixels_apart
from convforge.kernels.cpu._images import FEW_CHANNELS, images
from convforge.kernels.cpu._outer import outer_program
from convforge.kernels.cpu._outer_grid import run_of
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
from convforge.kernels.cpu._tile import (
    Tile,
)
from convforge.kernels.cpu._tile_shape import choose_shape
from convforge.kernels.cpu._weights import pack_step, stage_buffer, weight_format
from convforge.problem import ConvProblem, Direction, Problem

WGRAD_SHAPES = {
    # isa: tiles for wgrad, whose rows are channels of dw: it must hold all of them.
    "avx512": ((14, 2), (8, 3), (8, 2), (4, 2), (14, 1), (4, 1)),
    "avx2": ((6, 2), (4, 2), (6, 1), (4, 1)),
    "neon": ((8, 3), (8, 2), (4, 2), (4, 1)),
    "plain": ((6, 2), (4, 2), (4, 1)),
}


@dataclass(frozen=True, slots=True)
class DirectConfig:
    """Rows and columns (vectors) of the register tile."""

    rows: int
    columns: int


class ConvDirect:
    """The algorithm ``cpu.conv_direct``."""

    name = "cpu.conv_direct"
    revision = 2
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any convolution in one type; pad modes but for dgrad, and where it pads a copy."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        refusal = refuse_common(problem, integers=True)
        copied = problem.groups == 1 and problem.C < FEW_CHANNELS
        if refusal is None and (copied or problem.direction is Direction.DGRAD):
            refusal = refuse_pad_modes(problem)
        if refusal is None and default_config(problem, machine) is None:
            fewest = min(rows for rows, _ in WGRAD_SHAPES[machine.isa])
            refusal = Rejected(
                f"wgrad of {run_of(problem)} adjacent inputs: the smallest tile has {fewest}"
            )
        return refusal

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[DirectConfig]:
        """The tile that wastes least."""
        assert isinstance(problem, ConvProblem)
        config = default_config(problem, machine)
        assert config is not None, "supports() was not asked"
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: DirectConfig) -> WeightFormat | None:
        """Panels of the tile's width; wgrad reads no weights."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        dtype = problem.x.dtype.value
        return weight_format(problem, Tile(dtype, config.rows, config.columns).width)

    def program(self, problem: Problem, config: DirectConfig, machine: Machine) -> Program:
        """Bring channels last, multiply every grid, and back."""
        assert isinstance(problem, ConvProblem)
        tile = Tile(problem.x.dtype.value, config.rows, config.columns)
        if problem.direction is Direction.WGRAD:
            return outer_program(problem, tile, machine)
        io = images(problem)
        multiply = GatherMultiply(problem, tile, io, machine)
        return Program(
            steps=(*io.before, *multiply.steps(), *io.after),
            buffers=(*io.buffers, multiply.scratch),
        )

    def plain_program(
        self, problem: Problem, config: DirectConfig, machine: Machine
    ) -> Program | None:
        """Pack a few blocks of outputs and multiply by them while their panels are in L2."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        tile = Tile(problem.x.dtype.value, config.rows, config.columns)
        io = images(problem)
        multiply = GatherMultiply(problem, tile, io, machine)
        kept = machine.threads * max(1, machine.l2_bytes // 2 // max(multiply.panel_bytes, 1))
        if problem.groups > 1 or len(multiply.grids) > 1 or kept >= len(multiply.blocks):
            return None
        steps: list[Step] = []
        for start in range(0, len(multiply.blocks), kept):
            part = multiply.blocks[start : start + kept]
            pack = pack_step(problem, tile.width, part)
            # Equal shares: a worker multiplies by what it packed itself, and nobody waits. In a
            # shorter part, shares lie where another worker's panels of the part before may still
            # be read.
            owners = machine.threads if len(part) % machine.threads == 0 else 1
            joins = owners > 1 and start > 0 and len(part) == kept
            steps += [replace(pack, joins=joins), *multiply.steps(part, owners)]
        packed = Buffer(name="packed", nbytes=kept * multiply.panel_bytes)
        return Program(
            steps=(*io.before, *steps, *io.after),
            buffers=(*io.buffers, packed, stage_buffer(problem, tile.width), multiply.scratch),
        )


def default_config(problem: ConvProblem, machine: Machine) -> DirectConfig | None:
    """Pixels by rows, output channels by columns; for wgrad a tile whose rows fit into dw."""
    size = problem.x.dtype.itemsize
    if problem.direction is Direction.WGRAD:
        return _wgrad_config(problem, machine)
    fprop = problem.direction is Direction.FPROP
    pixels = problem.N * prod(problem.out if fprop else problem.size)
    channels, summed = (problem.group_K, problem.C) if fprop else (problem.group_C, problem.K)
    sizes = size, pixels, channels, summed * problem.taps
    return DirectConfig(*choose_shape(machine, *sizes, pixels_apart(problem)))


def _wgrad_config(problem: ConvProblem, machine: Machine) -> DirectConfig | None:
    lanes = machine.vector_bytes // problem.x.dtype.itemsize
    run, outputs = run_of(problem), problem.group_K
    fitting = [shape for shape in WGRAD_SHAPES[machine.isa] if shape[0] <= run]
    if not fitting:
        return None
    covered = {
        (r, c): -(-run // r) * r * -(-outputs // (c * lanes)) * c * lanes for r, c in fitting
    }
    # Small tiles load more per product; half of one's work must be waste before it loses.
    return DirectConfig(*min(fitting, key=lambda s: covered[s] * (1 + 4 / (s[0] * s[1]))))


ALGORITHMS = (ConvDirect(),)
