"""Which buffers a kernel that wants channels last reads and writes, and the steps around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from convforge.contract import Buffer, Step
from convforge.kernels.cpu._gather import is_pointwise
from convforge.kernels.cpu._planes import (
    is_channels_last,
    pad_step,
    to_channels_first,
    to_channels_last,
)
from convforge.problem import ConvProblem, Direction, Operand, PostOp

FEW_CHANNELS = 16
"""Input channels below which a padded copy beats runs of so few: see conv_direct.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Names of the operands in channels-last order, and how they come to be.

    Attributes:
        source_planes: The source is read channels first, in place.
        planes: The output is written channels first, straight from the tile.
        few: The source has its padding around it and few channels, in either order.
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
    few: bool = False


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
        tapwise: The kernel adds tap by tap. Then a source that no tap leaves stays in its order:
            a pointwise one, and one of few channels, with padding around a copy of it.
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
    few = tapwise and has_few_channels(problem)
    in_order = few or (tapwise and is_pointwise(problem))
    source_planes = in_order and not is_channels_last(source_is[0].order, *source_is[1:])
    before: tuple[Step, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    if few and any(a.pad_lo or a.pad_hi for a in problem.axes):
        step, buffer = padded_copy(problem, source, fill, planes=source_planes)
        source, before, buffers = "padded", (step,), (buffer,)
    elif not in_order:
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
        few=few,
    )


def padded_copy(
    problem: ConvProblem, source: str, fill: int = 0, *, planes: bool = False
) -> tuple[Step, Buffer]:
    """The step that fills the buffer ``padded`` with x and the padding around it."""
    nbytes = problem.N * problem.C * prod(a.padded for a in problem.axes) * problem.x.dtype.itemsize
    images, channels = (problem.N * problem.C, 1) if planes else (problem.N, problem.C)
    step = pad_step(source, "padded", problem.x.dtype, images, channels, problem.axes, fill)
    return step, Buffer(name="padded", nbytes=nbytes)


def unpadded(problem: ConvProblem) -> ConvProblem:
    """The same problem of images that have their padding around them."""
    axes = (replace(a, size=a.padded, pad_lo=0, pad_hi=0) for a in problem.axes)
    return replace(problem, axes=tuple(axes))


def has_few_channels(problem: ConvProblem) -> bool:
    """Whether the channels under a tap are too short a run for the loop around it."""
    return (
        problem.direction is Direction.FPROP
        and problem.groups == 1
        and problem.C < FEW_CHANNELS
        and not is_pointwise(problem)
    )
