"""Direct convolution of narrow types on dot-product instructions.

Computes: fprop and dgrad of one to three axes, groups, stride, dilation, zero padding; of
    bfloat16, int8 and uint8 in any pair that is not both unsigned, int16.
Layout: channels last in place where whole units of 4 bytes hold a group's channels; otherwise, and
    channels first, through a copy. Weights as panels of units.
Accumulates: float32 or int32, one sum per output in a fixed order; rounded or wrapped when stored.
Good at: everything dense. Bad at: groups of few channels, which fill few lanes.

The tile, the taps and the rows are those of conv_direct. See docs/algorithms/conv_dot.md.
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
from convforge.kernels.cpu._dot import (
    INSTRUCTIONS,
    SIGN,
    STARTS_SCRATCH,
    Dot,
    refuse_host,
    starts_step,
)
from convforge.kernels.cpu._images import images
from convforge.kernels.cpu._planes import is_channels_last
from convforge.kernels.cpu._refuse import (
    NOT_A_CONVOLUTION,
    refuse_activations,
    refuse_pad_modes,
    refuse_post,
)
from convforge.kernels.cpu._stand_in import StandIn, with_stand_ins
from convforge.kernels.cpu._tile_shape import choose_shape
from convforge.kernels.cpu._units import UNIT_BYTES, units_of, units_step
from convforge.kernels.cpu._weights import pack_step, panel_shape, stage_buffer
from convforge.problem import ConvProblem, Direction, DType, Operand, Order, Problem


@dataclass(frozen=True, slots=True)
class DotConfig:
    """Rows and columns (vectors) of the register tile."""

    rows: int
    columns: int


class ConvDot:
    """The algorithm ``cpu.conv_dot``."""

    name = "cpu.conv_dot"
    revision = 2
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Narrow factors that this machine has an instruction for."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        if problem.direction is Direction.WGRAD:
            return Rejected("wgrad: fprop and dgrad only")
        source, written = _source(problem), _written(problem)
        instruction = INSTRUCTIONS.get((source.dtype, problem.w.dtype))
        sums = instruction and instruction.sums
        if instruction is None or sums is not problem.acc:
            return Rejected(
                f"types {source.dtype}-{problem.w.dtype} summed in {problem.acc}: no dot product"
            )
        if written.dtype not in (source.dtype, sums):
            return Rejected(f"{written.dtype} results of {source.dtype}: {sums} or as images only")
        strides = max(a.stride for a in problem.axes)
        if instruction.flips and problem.direction is Direction.DGRAD and strides > 1:
            return Rejected("dgrad of i8 with a stride: its grids take different sums of weights")
        return (
            refuse_host(instruction, machine)
            or refuse_activations(problem)
            or refuse_post(problem)
            or refuse_pad_modes(problem)
        )

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[DotConfig]:
        """The tile that wastes least."""
        assert isinstance(problem, ConvProblem)
        fprop = problem.direction is Direction.FPROP
        pixels = problem.N * prod(problem.out if fprop else problem.size)
        channels, summed = (problem.group_K, problem.C) if fprop else (problem.group_C, problem.K)
        units = summed * problem.taps * problem.x.dtype.itemsize // UNIT_BYTES
        apart = pixels_apart(_of_units(problem))
        config = DotConfig(*choose_shape(machine, UNIT_BYTES, pixels, channels, units, apart))
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: DotConfig) -> WeightFormat | None:
        """Panels of the tile's width, of units."""
        assert isinstance(problem, ConvProblem)
        tile = _tile(problem, config)
        width = tile.width
        filters = _filters(problem)
        geometry = "x".join(str(n) for n in (problem.K, problem.group_C, *problem.filter))
        letter = "k" if problem.direction is Direction.FPROP else "c"
        shape = panel_shape(filters, width)
        steps = [pack_step(filters, width, range(shape[1]))]
        buffers = [stage_buffer(filters, width)]
        nbytes, units = prod(shape) * UNIT_BYTES, "u"
        if tile.zero_byte:
            units = "s"
            steps.append(starts_step(_tile(problem, replace(config, rows=1)), shape))
            buffers.append(STARTS_SCRATCH)
            nbytes += shape[0] * shape[1] * width * UNIT_BYTES
        pack = Program(steps=tuple(steps), buffers=tuple(buffers))
        return WeightFormat(
            id=f"{letter}b{width}:{problem.w.dtype}{units}:{geometry}:g{problem.groups}",
            nbytes=nbytes,
            pack=_behind("w", _weight_units(problem), filters.w_shape, pack),
        )

    def program(self, problem: Problem, config: DotConfig, machine: Machine) -> Program:
        """Put channels into units where they are not, and multiply every grid."""
        assert isinstance(problem, ConvProblem)
        tile, of_units = _tile(problem, config), _of_units(problem)
        io = images(of_units, fill=tile.zero_byte)
        multiply = GatherMultiply(of_units, tile, io, machine)
        inner = Program(
            steps=(*io.before, *multiply.steps(), *io.after),
            buffers=(*io.buffers, multiply.scratch),
        )
        name = "x" if problem.direction is Direction.FPROP else "y"
        shape = of_units.x_shape if name == "x" else of_units.y_shape
        return _behind(name, _image_units(problem, name), shape, inner)


def _source(problem: ConvProblem) -> Operand:
    return problem.x if problem.direction is Direction.FPROP else problem.y


def _written(problem: ConvProblem) -> Operand:
    return problem.y if problem.direction is Direction.FPROP else problem.x


def _tile(problem: ConvProblem, config: DotConfig) -> Dot:
    factors = _source(problem).dtype, problem.w.dtype
    return Dot(factors, _written(problem).dtype, config.rows, config.columns)


_UNITS = Operand(dtype=DType.I32, order=Order.CHANNELS_LAST)


def _of_units(problem: ConvProblem) -> ConvProblem:
    """The problem with a unit for each channel that is summed."""
    if problem.direction is Direction.FPROP:
        units = units_of(problem.group_C, problem.x.dtype) * problem.groups
        return replace(problem, C=units, x=_UNITS, w=_UNITS)
    units = units_of(problem.group_K, problem.y.dtype) * problem.groups
    return replace(problem, K=units, y=_UNITS, w=_UNITS)


def _filters(problem: ConvProblem) -> ConvProblem:
    """A forward problem whose weights are this one's units, ``[output][tap][unit]``."""
    of_units = _of_units(problem)
    if problem.direction is Direction.FPROP:
        return of_units
    return replace(of_units, direction=Direction.FPROP, C=of_units.K, K=problem.C, post=())


def _behind(name: str, step: Step | None, shape: tuple[int, ...], inner: Program) -> Program:
    """A program that reads units, behind the step that makes them of an operand."""
    if step is None:
        return inner
    units = Buffer(name=f"{name}_units", nbytes=prod(shape) * UNIT_BYTES)
    return with_stand_ins(inner, [StandIn(operand=name, buffers=(units,), there=(step,))])


def _image_units(problem: ConvProblem, name: str) -> Step | None:
    """The step from images to their units; None if they lie in memory like that."""
    fprop = problem.direction is Direction.FPROP
    operand = _source(problem)
    channels, spatial = (problem.C, problem.size) if fprop else (problem.K, problem.out)
    own, size, pixels = channels // problem.groups, operand.dtype.itemsize, prod(spatial)
    row = units_of(own, operand.dtype) * UNIT_BYTES
    last = is_channels_last(operand.order, channels, spatial)
    flips = INSTRUCTIONS[operand.dtype, problem.w.dtype].flips
    if last and own * size == row and not flips:
        return None
    channel, pixel = (size, channels * size) if last else (pixels * size, size)
    return units_step(
        name,
        f"{name}_units",
        operand.dtype,
        (problem.groups, problem.N, pixels, own),
        (own * channel, channels * pixels * size, pixel, channel),
        (row, problem.groups * row * pixels, problem.groups * row),
        flip=SIGN * 0x01010101 * flips,
    )


def _weight_units(problem: ConvProblem) -> Step | None:
    """The step from weights to units of what is summed; None if they lie in memory like that."""
    size, taps, dtype = problem.w.dtype.itemsize, problem.taps, problem.w.dtype
    filter_bytes = problem.group_C * taps * size
    last = is_channels_last(problem.w.order, problem.group_C, problem.filter)
    channel, tap = (size, problem.group_C * size) if last else (taps * size, size)
    if problem.direction is Direction.FPROP:
        row = units_of(problem.group_C, dtype) * UNIT_BYTES
        if last and row == problem.group_C * size:
            return None
        extents = (1, problem.K, taps, problem.group_C)
        return units_step(
            "w", "w_units", dtype, extents, (0, filter_bytes, tap, channel), (0, taps * row, row)
        )
    row = units_of(problem.group_K, dtype) * UNIT_BYTES
    group = problem.group_K * filter_bytes, problem.group_C * taps * row
    # Whatever is adjacent in memory is the inner extent.
    outer, inner = (taps, tap, row), (problem.group_C, channel, taps * row)
    if not last:
        outer, inner = inner, outer
    return units_step(
        "w",
        "w_units",
        dtype,
        (problem.groups, outer[0], inner[0], problem.group_K),
        (group[0], outer[1], inner[1], filter_bytes),
        (group[1], outer[2], inner[2]),
    )


ALGORITHMS = (ConvDot(),)
