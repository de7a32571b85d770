"""The pixels that wgrad adds up, as a grid of fprop, and the run of dw that a tap holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from convforge.kernels.cpu._gather import Gather, gathers, is_pointwise
from convforge.kernels.cpu._images import FEW_CHANNELS
from convforge.problem import ConvProblem


def wants_rows(problem: ConvProblem) -> bool:
    """Few channels: a tap of one pixel is too short a run, a row of the filter is not."""
    last = problem.axes[-1]
    return (
        problem.groups == 1
        and problem.C < FEW_CHANNELS
        and last.dilation == 1
        and last.filter > 1
        and not is_pointwise(problem)
    )


def _rows_of(problem: ConvProblem) -> Gather:
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


def grid_of(problem: ConvProblem) -> tuple[Gather, int]:
    """The grid of fprop, and the run of channels that a tap spans in its source."""
    if wants_rows(problem):
        return _rows_of(problem), problem.C * problem.axes[-1].filter
    grid = gathers(problem)[0]
    if is_pointwise(problem):
        # Neighbouring images are one row, too.
        row = (1, 1, grid.pixels)
        grid = replace(grid, images=1, source=row, grid=row, dest=row)
    return grid, problem.group_C


def run_of(problem: ConvProblem) -> int:
    """Adjacent elements of dw's rows that one tap holds: what the tile's rows must fit."""
    return grid_of(problem)[1]
