"""Grouped convolution with few channels a group: strips of outputs, fed from blocks in the L1.

Computes: fprop, dgrad and wgrad with 2, 4, 8, 16 or 32 channels a group, the same on either side
    and at most two vectors; one to three axes, any stride and dilation, zero padding.
Layout: channels last, in place; channels first goes there by a transpose. Weights by vectors.
Accumulates: in the operands' type, float32 or float64, in a fixed order.
Good at: ResNeXt and its like. Bad at: 1x1 filters, rows that strips cover badly.

Xie et al. 2017 (arXiv:1611.05431). See docs/algorithms/conv_grouped.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convforge.contract import Buffer, Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels.cpu._depthwise_images import arrangement
from convforge.kernels.cpu._group_outer import GroupOuter
from convforge.kernels.cpu._group_strip import GroupStrip
from convforge.kernels.cpu._grouped_rows import grouped_step
from convforge.kernels.cpu._grouped_weights import group_format
from convforge.kernels.cpu._grouped_wgrad import outer_program
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
from convforge.problem import ConvProblem, Direction, Order, PostOp, Problem

_MEMBERS = (2, 4, 8, 16, 32)
_OTHER_REGISTERS = 8
"""Registers that are not sums: elements of the image and a weight."""
_FEWEST_SUMS = 12
"""With fewer, sums wait for one another: two a cycle, and four or five cycles each."""

_CHUNK = 3
"""Taps that may be summed at once: a row of the most common filter."""


@dataclass(frozen=True, slots=True)
class GroupedConfig:
    """Elements of a vector; outputs of a strip, or taps that wgrad sums at once."""

    lanes: int
    pixels: int


class ConvGrouped:
    """The algorithm ``cpu.conv_grouped``."""

    name = "cpu.conv_grouped"
    revision = 2
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Several groups of a power of two of channels that fit two vectors."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        members = problem.group_C
        if problem.groups == 1 or members != problem.group_K or members not in _MEMBERS:
            return Rejected(
                f"{problem.groups} groups of {members} to {problem.group_K} channels: several "
                f"groups of {', '.join(map(str, _MEMBERS))} to as many only"
            )
        register = machine.vector_bytes // problem.x.dtype.itemsize
        if members > 2 * register:
            return Rejected(f"groups of {members} channels: two vectors hold {2 * register}")
        return refuse_common(problem) or refuse_pad_modes(problem)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[GroupedConfig]:
        """The strip that wastes least."""
        assert isinstance(problem, ConvProblem)
        config = _default_config(problem, machine)
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: GroupedConfig) -> WeightFormat | None:
        """The vectors that a strip multiplies by, tap by tap."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        return group_format(problem, config.lanes)

    def program(self, problem: Problem, config: GroupedConfig, machine: Machine) -> Program:
        """One launch, between those that rearrange images where needed."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return outer_program(problem, _outer(problem, config, machine), machine)
        images = arrangement(problem, Order.CHANNELS_LAST)
        bias = "bias" if PostOp.BIAS in problem.post else ""
        operands = (images.source, "packed", images.output, bias, images.residual, "scratch")
        step, scratch = grouped_step(problem, _strip(problem, config), operands, machine)
        return Program(
            steps=(*images.before, step, *images.after),
            buffers=(*images.buffers, Buffer(name="scratch", nbytes=scratch, scope="worker")),
        )


def _strip(problem: ConvProblem, config: GroupedConfig) -> GroupStrip:
    """Chunks of taps where they pay and there are such: a step of an output is that of a tap."""
    axis, members = problem.axes[-1], problem.group_C
    shares = members == config.lanes and axis.stride == axis.dilation
    taps = _CHUNK if shares and axis.filter % _CHUNK == 0 else 1
    return GroupStrip(problem.x.dtype.value, config.lanes, config.pixels, members, taps)


def _outer(problem: ConvProblem, config: GroupedConfig, machine: Machine) -> GroupOuter:
    rows = _rows(problem.group_C, config.lanes, config.pixels, machine)
    return GroupOuter(problem.x.dtype.value, config.lanes, problem.group_C, config.pixels, rows)


def _rows(members: int, lanes: int, taps: int, machine: Machine) -> int:
    """Rows of sums that fit the registers; all of them where they are exchanges."""
    rows, across = members, taps * max(1, members // lanes)
    while members >= lanes and rows > 1 and (rows + 1) * across >= machine.registers:
        rows //= 2
    return rows


def _default_taps(problem: ConvProblem, lanes: int, machine: Machine) -> int:
    """Taps that take the fewest products, loads and waits for a pixel."""
    members = problem.group_C

    def cost(taps: int) -> int:
        rows, across = _rows(members, lanes, taps, machine), taps * max(1, members // lanes)
        tiles = -(-problem.taps // taps) * (members // rows)
        return tiles * (max(rows * across, _FEWEST_SUMS) + rows + across)

    return min((_CHUNK, 1), key=cost)


def _default_config(problem: ConvProblem, machine: Machine) -> GroupedConfig:
    """As many sums as there are registers, or fewer where a row is covered better."""
    register = machine.vector_bytes // problem.x.dtype.itemsize
    lanes = next(n for n in (register >> i for i in range(8)) if n <= problem.C)
    if problem.direction is Direction.WGRAD:
        return GroupedConfig(lanes, _default_taps(problem, lanes, machine))
    forward = problem.direction is Direction.FPROP
    axis = problem.axes[-1]
    out = axis.out if forward else -(-axis.size // axis.stride)
    sums = problem.group_C if problem.group_C < lanes else problem.group_C // lanes
    most = max(1, (machine.registers - _OTHER_REGISTERS) // sums)
    least = min(most, -(-_FEWEST_SUMS // sums))
    # A tap costs an output's products, and to load its weights about as much as one output.
    pixels = min(range(most, least - 1, -1), key=lambda n: -(-out // n) * (n + 1))
    return GroupedConfig(lanes, pixels)


ALGORITHMS = (ConvGrouped(),)
