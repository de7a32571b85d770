"""Depthwise convolution: every channel has its own filters and meets no other.

Computes: fprop, dgrad and wgrad with one input channel a group and any number of outputs for it;
    one to three axes, any stride and dilation, zero padding.
Layout: channels last with vectors over channels; channels first by blocks that are transposed in
    the cache, or with vectors over columns. Other combinations go channels first by a transpose.
Accumulates: in the operands' type, float32 or float64, one sum per output in a fixed order.
Good at: every depthwise layer of the common networks. Bad at: dilated or strided long filters.

Howard et al. 2017 (arXiv:1704.04861). See docs/algorithms/conv_depthwise.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convforge.contract import (
    Buffer,
    Machine,
    Program,
    Rejected,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cpu._depthwise_axes import three_axes
from convforge.kernels.cpu._depthwise_channels import channels_format
from convforge.kernels.cpu._depthwise_images import arrangement, order_of
from convforge.kernels.cpu._depthwise_planes import planes_step
from convforge.kernels.cpu._depthwise_rows import rows_step
from convforge.kernels.cpu._depthwise_rows3x3 import rows3x3_step, sweeps_rows
from convforge.kernels.cpu._depthwise_wgrad import wgrad_program
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common, refuse_pad_modes
from convforge.kernels.cpu._strip import Strip
from convforge.kernels.cpu._sweep_rows import Sweep
from convforge.problem import ConvProblem, Direction, Order, PostOp, Problem

PIXELS = {"avx512": (14, 7), "avx2": (7,), "neon": (14, 7), "plain": (7,)}
"""Outputs of a strip: with seven taps they fit the registers, and most maps are a multiple."""
ROWS = {"avx512": (7, 4), "avx2": (2,), "neon": (7, 4), "plain": (2,)}
"""Rows of a sweep: two sums for each, nine weights and an element fit the registers."""
_CHUNKS = (7, 5, 3)


@dataclass(frozen=True, slots=True)
class DepthwiseConfig:
    """Elements of a vector; outputs, taps of a chunk and stride of a strip.

    Attributes:
        rows: Rows of outputs of a 3x3 sweep, which takes the place of strips; 0 where none does.
    """

    lanes: int
    pixels: int
    taps: int
    step: int
    rows: int = 0


class ConvDepthwise:
    """The algorithm ``cpu.conv_depthwise``."""

    name = "cpu.conv_depthwise"
    revision = 2
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any float32 or float64 convolution with one input channel a group."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        if problem.groups != problem.C:
            return Rejected(f"C={problem.C} in {problem.groups} groups: one channel a group only")
        return refuse_common(problem) or refuse_pad_modes(problem)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[DepthwiseConfig]:
        """The strip that wastes least."""
        assert isinstance(problem, ConvProblem)
        config = _default_config(problem, machine)
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: DepthwiseConfig) -> WeightFormat | None:
        """Vectors of channels, tap by tap, where images are channels last; elsewhere plain ones."""
        assert isinstance(problem, ConvProblem)
        last = problem.x.order is problem.y.order is Order.CHANNELS_LAST
        if not last or problem.direction is Direction.WGRAD or problem.group_K != 1:
            return None
        return channels_format(problem, config.lanes)

    def program(self, problem: Problem, config: DepthwiseConfig, machine: Machine) -> Program:
        """One launch, between those that rearrange images where needed."""
        assert isinstance(problem, ConvProblem)
        return _program(problem, config, "packed" if self.weight_format(problem, config) else "w")

    def plain_program(
        self, problem: Problem, config: DepthwiseConfig, machine: Machine
    ) -> Program | None:
        """The same launch, which packs what weights a task needs."""
        assert isinstance(problem, ConvProblem)
        return _program(problem, config, "w")


def _program(problem: ConvProblem, config: DepthwiseConfig, weights: str) -> Program:
    """With weights that are packed or plain."""
    masked = order_of(problem) is Order.CHANNELS_FIRST
    dtype = problem.x.dtype.value
    strip = Strip(dtype, config.lanes, config.pixels, config.taps, config.step, masked)
    if problem.direction is Direction.WGRAD:
        return wgrad_program(problem, strip)
    order = order_of(problem)
    images = arrangement(problem, order)
    bias = "bias" if PostOp.BIAS in problem.post else ""
    operands = (images.source, weights, images.output, bias, images.residual, "scratch")
    if config.rows:
        sweep = Sweep(dtype, config.lanes, config.rows, config.step)
        step, scratch = rows3x3_step(problem, sweep, operands)
    else:
        make = rows_step if order is Order.CHANNELS_LAST else planes_step
        step, scratch = make(problem, strip, operands)
    return Program(
        steps=(*images.before, step, *images.after),
        buffers=(*images.buffers, Buffer(name="scratch", nbytes=scratch, scope="worker")),
    )


def _default_config(problem: ConvProblem, machine: Machine) -> DepthwiseConfig:
    """A strip along a row over channels, or down a column over columns."""
    register = machine.vector_bytes // problem.x.dtype.itemsize
    forward = problem.direction is not Direction.DGRAD
    _, h, w = three_axes(problem)
    if order_of(problem) is Order.CHANNELS_LAST:
        axis, run = w, problem.C
        lanes = next(n for n in (register >> i for i in range(8)) if n <= run)
    else:
        axis, run = h, w.out if forward else w.size
        lanes = register if 2 * run > register else register // 2
    taps = next((n for n in _CHUNKS if n <= axis.filter), _CHUNKS[-1])
    out = axis.out if forward else axis.size
    pixels = min(PIXELS[machine.isa], key=lambda n: -(-out // n) * (n + 1))
    step = 2 if forward and axis.stride == 2 and axis.dilation == 1 else 1
    rows = 0
    if (
        order_of(problem) is Order.CHANNELS_LAST
        and problem.direction is not Direction.WGRAD
        and sweeps_rows(problem)
    ):
        high = h.out if forward else h.size
        rows = min(ROWS[machine.isa], key=lambda n: -(-high // n) * (n * step + 2))
    return DepthwiseConfig(lanes, pixels, taps, step, rows)


ALGORITHMS = (ConvDepthwise(),)
