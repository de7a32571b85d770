"""Convolution as a gather: grids of pixels, and the taps each of them sums over.

Fprop, dgrad and transposed convolution are one loop: for every pixel of a *grid*, sum over *taps*
of a source pixel times a slice of weights. They differ in tables alone. Fprop is one grid that
steps by the stride; dgrad with stride s is s phases per axis, each a unit-step grid with the taps
that reach it. One, two and three axes are the same with leading axes of extent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from convforge.kernels.cpu._inside import Outside, around
from convforge.problem import Axis, ConvProblem, Direction

Tap = tuple[tuple[int, ...], int]
Taps = tuple[Tap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """One grid: everything a kernel must know about space.

    Attributes:
        images: Images in the source and in the grid.
        source, grid, dest: Extents (D, H, W). step: Source pixels per grid step.
        jump, first: The grid's pixels in the destination: ``first + jump * i`` on each axis.
        around: What stands outside the source, on its last axes; none means zeros.
        taps: Offsets (d, h, w) of the source pixel, and the filter position it meets.
    """

    images: int
    source: tuple[int, ...]
    grid: tuple[int, ...]
    dest: tuple[int, ...]
    step: tuple[int, ...] = (1, 1, 1)
    jump: tuple[int, ...] = (1, 1, 1)
    first: tuple[int, ...] = (0, 0, 0)
    around: tuple[Outside, ...] = ()
    taps: Taps

    @property
    def pixels(self) -> int:
        """Pixels of the grid over all images."""
        return self.images * prod(self.grid)

    def lines(self) -> tuple[int, Taps]:
        """Taps on neighbouring pixels taken together: how many each time, and the first of each.

        Where every channel of a pixel is summed, their sources and their weights are one run.
        """
        starts: list[Tap] = []
        lengths: list[int] = []
        for tap in self.taps:
            if starts and tap == _beside(starts[-1], lengths[-1]):
                lengths[-1] += 1
            else:
                starts.append(tap)
                lengths.append(1)
        if len(set(lengths)) != 1:
            return 1, self.taps
        return lengths[0], tuple(starts)


def _beside(tap: Tap, count: int) -> Tap:
    """The tap ``count`` pixels and filter positions to the right."""
    (d, h, w), position = tap
    return (d, h, w + count), position + count


def _three(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Pad to three axes in front."""
    return (fill,) * (3 - len(values)) + tuple(values)


def is_pointwise(problem: ConvProblem) -> bool:
    """True for a 1x1 filter that meets every pixel once: then an image is one long row."""
    return all(
        a.filter == 1 and a.stride == 1 and not a.pad_lo and not a.pad_hi for a in problem.axes
    )


def gathers(problem: ConvProblem) -> tuple[Gather, ...]:
    """The grids of a problem, wgrad's being fprop's; they cover every output pixel once."""
    if is_pointwise(problem):
        row = (1, 1, prod(problem.size))
        taps = (((0, 0, 0), 0),)
        return (Gather(images=problem.N, source=row, grid=row, dest=row, taps=taps),)
    if problem.direction is not Direction.DGRAD:
        offsets = product(
            *([r * a.dilation - a.pad_lo for r in range(a.filter)] for a in problem.axes)
        )
        return (
            Gather(
                images=problem.N,
                source=_three(problem.size, 1),
                grid=_three(problem.out, 1),
                dest=_three(problem.out, 1),
                step=_three(tuple(a.stride for a in problem.axes), 1),
                around=around(problem),
                taps=tuple((_three(offset, 0), tap) for tap, offset in enumerate(offsets)),
            ),
        )
    phases = product(*(range(min(a.stride, a.size)) for a in problem.axes))
    return tuple(_phase(problem, phase) for phase in phases)


def _phase(problem: ConvProblem, phase: tuple[int, ...]) -> Gather:
    """The pixels of dx that have the same remainder by the stride, and the taps they meet."""
    reached = [_reached(axis, start) for axis, start in zip(problem.axes, phase, strict=True)]
    taps = []
    for choice in product(*reached):
        tap = 0
        for (position, _), axis in zip(choice, problem.axes, strict=True):
            tap = tap * axis.filter + position
        taps.append((_three(tuple(offset for _, offset in choice), 0), tap))
    grid = tuple(
        -(-(axis.size - start) // axis.stride)
        for axis, start in zip(problem.axes, phase, strict=True)
    )
    return Gather(
        images=problem.N,
        source=_three(problem.out, 1),
        grid=_three(grid, 1),
        dest=_three(problem.size, 1),
        jump=_three(tuple(a.stride for a in problem.axes), 1),
        first=_three(phase, 0),
        taps=tuple(taps),
    )


def _reached(axis: Axis, start: int) -> list[tuple[int, int]]:
    """Filter positions that meet a phase, each with the offset into y."""
    ways = ((r, start + axis.pad_lo - r * axis.dilation) for r in range(axis.filter))
    return [(r, shift // axis.stride) for r, shift in ways if shift % axis.stride == 0]
