"""Which buffers a kernel that wants channels last reads and writes, and the steps around it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from convforge.contract import Buffer, Step
from convforge.kernels.cpu._gather import Gather, is_pointwise
from convforge.kernels.cpu._planes import (
    is_channels_last,
    pad_step,
    to_channels_first,
    to_channels_last,
)
from convforge.problem import ConvProblem, Direction, Operand, PostOp

_SHORT_RUN = 16
"""Input channels below which rows of a padded copy beat single pixels: see conv_direct.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Names of the operands in channels-last order, and how they come to be.

    Attributes:
        source_planes: The source is read channels first, in place.
        planes: The output is written channels first, straight from the tile.
        run, grids: Where the source is a padded copy: elements a tap spans, and its grid.
    """

    source: str
    output: str
    bias: str
    residual: str
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    source_planes: bool = False
    planes: bool = False
    run: int = 0
    grids: tuple[Gather, ...] = ()


def output_strides(problem: ConvProblem, planes: bool) -> tuple[int, int, int]:
    """(row_bytes, plane_bytes, dest_image) of the output as the store routine counts."""
    fprop = problem.direction is Direction.FPROP
    size = (problem.y if fprop else problem.x).dtype.itemsize
    channels, spatial = (problem.K, problem.out) if fprop else (problem.C, problem.size)
    if planes:
        return size, prod(spatial) * size, channels * prod(spatial)
    return channels * size, 0, 0


def channels_last(
    problem: ConvProblem, name: str, operand: Operand, channels: int, spatial: tuple[int, ...]
) -> tuple[str, tuple[Step, ...], tuple[Buffer, ...]]:
    """Where to read an array channels last: itself, or a buffer and the step that fills it."""
    if is_channels_last(operand.order, channels, spatial):
        return name, (), ()
    buffer = f"{name}_last"
    nbytes = problem.N * channels * prod(spatial) * operand.dtype.itemsize
    step = to_channels_last(name, buffer, operand.dtype, problem.N, channels, spatial)
    return buffer, (step,), (Buffer(name=buffer, nbytes=nbytes),)


def images(
    problem: ConvProblem, *, tapwise: bool = True, scattered: bool | None = None, fill: int = 0
) -> Images:
    """Operands of fprop or dgrad, channels last.

    Args:
        tapwise: The kernel adds tap by tap. Then a source with few channels may be a padded
            copy whose taps are rows, and a pointwise one, which no tap leaves, stays as it is.
        scattered: The kernel writes pixels that are not adjacent; those of a strided dgrad are
            not, unless this says otherwise.
        fill: What every byte of padding is.
    """
    if problem.direction is Direction.FPROP:
        source, source_is = "x", (problem.x, problem.C, problem.size)
        output, output_is = "y", (problem.y, problem.K, problem.out)
    else:
        source, source_is = "y", (problem.y, problem.K, problem.out)
        output, output_is = "x", (problem.x, problem.C, problem.size)
    residual = "residual" if PostOp.RESIDUAL in problem.post else ""
    source_planes = (
        tapwise
        and is_pointwise(problem)
        and not is_channels_last(source_is[0].order, *source_is[1:])
    )
    before: tuple[Step, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    if not source_planes:
        source, before, buffers = channels_last(problem, source, *source_is)
    after: tuple[Step, ...] = ()
    name, steps, own = channels_last(problem, output, *output_is)
    # Written from the tile where nothing is read and pixels of a phase are adjacent.
    if scattered is None:
        scattered = problem.direction is Direction.DGRAD and any(a.stride > 1 for a in problem.axes)
    planes = name != output and not (residual or problem.accumulate or scattered)
    if name != output and not planes:
        operand, channels, spatial = output_is
        if problem.accumulate:
            before += steps
        if residual:
            residual, steps, more = channels_last(problem, residual, *output_is)
            before, own = before + steps, own + more
        after = (to_channels_first(name, output, operand.dtype, problem.N, channels, spatial),)
        buffers, output = buffers + own, name
    run, grids = 0, tuple[Gather, ...]()
    if tapwise and problem.direction is Direction.FPROP and wants_rows(problem):
        step, buffer = padded_copy(problem, source, fill)
        before, buffers = (*before, step), (*buffers, buffer)
        source, run, grids = "padded", problem.C * problem.axes[-1].filter, (rows_of(problem),)
    return Images(
        source=source,
        output=output,
        bias="bias" if PostOp.BIAS in problem.post else "",
        residual=residual,
        before=before,
        after=after,
        buffers=buffers,
        source_planes=source_planes,
        planes=planes,
        run=run,
        grids=grids,
    )


def padded_copy(problem: ConvProblem, source: str, fill: int = 0) -> tuple[Step, Buffer]:
    """The step that fills the buffer ``padded`` with x and the padding around it."""
    nbytes = problem.N * problem.C * prod(a.padded for a in problem.axes) * problem.x.dtype.itemsize
    step = pad_step(source, "padded", problem.x.dtype, problem.N, problem.C, problem.axes, fill)
    return step, Buffer(name="padded", nbytes=nbytes)


def wants_rows(problem: ConvProblem) -> bool:
    """Few channels: a tap of one pixel is too short a run, a row of the filter is not."""
    last = problem.axes[-1]
    return (
        problem.groups == 1
        and problem.C < _SHORT_RUN
        and last.dilation == 1
        and last.filter > 1
        and not is_pointwise(problem)
    )


def rows_of(problem: ConvProblem) -> Gather:
    """The grid of a padded source whose taps are whole filter rows, adjacent in memory."""
    fill = 3 - problem.rank
    outer = problem.axes[:-1]
    offsets = product(*([r * a.dilation for r in range(a.filter)] for a in outer))
    return Gather(
        images=problem.N,
        source=(1,) * fill + tuple(a.padded for a in problem.axes),
        grid=(1,) * fill + problem.out,
        dest=(1,) * fill + problem.out,
        step=(1,) * fill + tuple(a.stride for a in problem.axes),
        taps=tuple(((0,) * fill + (*offset, 0), i) for i, offset in enumerate(offsets)),
    )
