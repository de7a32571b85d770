"""Borders that reflect, repeat or go round, through an algorithm that knows zeros only.

Computes: fprop, dgrad and wgrad with every pad mode, whatever the inner algorithm takes of it with
    zeros around the image; then fringes along the border as small convolutions of their own.
Layout: the inner algorithm's. Fringes are cut out with what stands outside the image.
Accumulates: as the inner algorithm; a gradient adds the sums of at most six fringes to its own.
Good at: large images, of which nothing but the border is copied. Bad at: small ones, which are
    all border.

See docs/algorithms/conv_bordered.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from convforge.contract import (
    Algorithm,
    Buffer,
    Config,
    Machine,
    Program,
    Rejected,
    Step,
    WeightFormat,
)
from convforge.kernels.cpu import conv_depthwise, conv_direct, conv_fft, conv_grouped
from convforge.kernels.cpu import conv_winograd3x3 as winograd
from convforge.kernels.cpu._adapter import Adapter
from convforge.kernels.cpu._fringes import ADD, CUT, PUT, Span, fringe_step
from convforge.kernels.cpu._stand_in import renamed
from convforge.problem import Axis, ConvProblem, Direction, PadMode, PostOp, Problem


@dataclass(frozen=True, slots=True)
class BorderedConfig:
    """Configurations of the inner algorithm: for the image, and for each axis' fringes."""

    image: Config
    fringes: tuple[Config, ...]


@dataclass(frozen=True, slots=True)
class Fringes:
    """The outputs at both ends of an axis that see its padding, as a problem of their own.

    Attributes:
        problem: Of the fringes; those at the high end are more images.
        x, y: Where they lie in the images and in the results. sides: One end, or both.
    """

    problem: ConvProblem
    x: tuple[Span, ...]
    y: tuple[Span, ...]
    sides: int


class ConvBordered(Adapter):
    """An algorithm of zeros as one of other pad modes: ``cpu.conv_bordered.direct`` and so on."""

    stem = "conv_bordered"

    def refuses(self, problem: ConvProblem, machine: Machine) -> Rejected | None:
        """Zeros around the image, and fringes that the inner algorithm does not take."""
        if not _bordered(problem):
            return Rejected("zeros around the image: the inner algorithm needs no help")
        if problem.post and problem.direction is Direction.DGRAD:
            return Rejected(f"dgrad with {'+'.join(problem.post)}: borders are added after the sum")
        refusals = (self.inner.supports(each.problem, machine) for each in fringes(problem))
        return next(filter(None, refusals), None)

    def inside(self, problem: ConvProblem) -> ConvProblem:
        """The whole image with zeros around it: right but for the border."""
        return replace(problem, axes=tuple(map(_zeros, problem.axes)))

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterator[BorderedConfig]:
        """The inner algorithm's for the image, and for fringes what reads the same weights."""
        assert isinstance(problem, ConvProblem)
        for image in self.inner.configs(self.inside(problem), machine, workspace_limit):
            wanted = self.inner.weight_format(self.inside(problem), image)
            config = BorderedConfig(
                image,
                tuple(
                    self._fringe_config(each.problem, image, wanted, machine, workspace_limit)
                    for each in fringes(problem)
                ),
            )
            program = self.program(problem, config, machine)
            if program.workspace_bytes(machine.threads) <= workspace_limit:
                yield config

    def _fringe_config(
        self,
        problem: ConvProblem,
        image: Config,
        wanted: WeightFormat | None,
        machine: Machine,
        workspace_limit: int,
    ) -> Config:
        own = next(iter(self.inner.configs(problem, machine, workspace_limit)), image)
        return own if self.inner.weight_format(problem, own) == wanted else image

    def weight_format(self, problem: Problem, config: BorderedConfig) -> WeightFormat | None:
        """The inner algorithm's."""
        assert isinstance(problem, ConvProblem)
        return self.inner.weight_format(self.inside(problem), config.image)

    def program(self, problem: Problem, config: BorderedConfig, machine: Machine) -> Program:
        """Cut fringes out of what is read, run the image, then every axis' fringes."""
        assert isinstance(problem, ConvProblem)
        before: list[Step] = []
        after: list[Step] = []
        buffers: list[Buffer] = []
        image = self.inner.program(self.inside(problem), config.image, machine)
        programs = [image]
        for i, (each, own) in enumerate(zip(fringes(problem), config.fringes, strict=True)):
            program = self.inner.program(each.problem, own, machine)
            programs.append(program)
            names, cut, back = _stand_ins(problem, each, i)
            before += cut
            after += (*renamed(program.steps, names), *back)
            sizes = _nbytes(each.problem)
            buffers += (Buffer(name=name, nbytes=sizes[what]) for what, name in names.items())
        return Program(
            steps=(*before, *image.steps, *after),
            buffers=(*buffers, *_shared(programs)),
        )


def _stand_ins(
    problem: ConvProblem, each: Fringes, number: int
) -> tuple[dict[str, str], list[Step], list[Step]]:
    """Names of the fringes' operands, the launches that cut them out, and those that put back."""
    forward = problem.direction is Direction.FPROP
    names = {"x": f"x_{number}", "y": f"y_{number}"}
    if PostOp.RESIDUAL in problem.post:
        names["residual"] = f"residual_{number}"

    def step(what: int, name: str) -> Step:
        spans, operand, channels = each.y, problem.y, problem.K
        if name == "x":
            spans, operand, channels = each.x, problem.x, problem.C
        return fringe_step(
            what, name, names[name], operand.dtype, operand.order, problem.N, channels, spans,
            each.sides,
        )  # fmt: skip

    read = {
        Direction.FPROP: ("x", *(("y",) if problem.accumulate else ())),
        Direction.DGRAD: ("y",),
        Direction.WGRAD: ("x", "y"),
    }[problem.direction]
    cut = [step(CUT, name) for name in (*read, *(n for n in names if n == "residual"))]
    if problem.direction is Direction.WGRAD:
        return names, cut, []
    return names, cut, [step(PUT, "y") if forward else step(ADD, "x")]


def _bordered(problem: ConvProblem) -> tuple[int, ...]:
    """Axes around which something else than zeros stands."""
    return tuple(i for i, axis in enumerate(problem.axes) if axis.pad_mode is not PadMode.ZEROS)


def _zeros(axis: Axis) -> Axis:
    return replace(axis, pad_mode=PadMode.ZEROS)


@lru_cache(maxsize=1024)
def fringes(problem: ConvProblem) -> tuple[Fringes, ...]:
    """The fringes of each axis, in the order in which they run.

    Fprop computes them whole, so that a post op sees complete sums, and corners twice. Gradients
    add what the image's own launch left out: fringes hold the frame around the image and nothing
    of the image itself, and each corner belongs to the first of its axes.
    """
    fprop = problem.direction is Direction.FPROP
    found = []
    bordered = _bordered(problem)
    for i in bordered:
        axis = problem.axes[i]
        count, starts = _ends(axis)
        if not count:
            continue
        axes, x, y = [], [], []
        for j, other in enumerate(problem.axes):
            if j == i:
                own = replace(
                    _zeros(axis), size=(count - 1) * axis.stride + axis.extent, pad_lo=0, pad_hi=0
                )
                apart = starts[-1] - starts[0]
                first = starts[0] * axis.stride - axis.pad_lo
                axes.append(own)
                x.append(
                    Span(axis.size, first, own.size, axis.pad_mode, apart * axis.stride, not fprop)
                )
                y.append(Span(axis.out, starts[0], count, apart=apart))
                continue
            y.append(Span(other.out, 0, other.out))
            if j in bordered and (fprop or j > i):
                axes.append(replace(_zeros(other), size=other.padded, pad_lo=0, pad_hi=0))
                x.append(Span(other.size, -other.pad_lo, other.padded, other.pad_mode))
            else:
                axes.append(_zeros(other))
                x.append(Span(other.size, 0, other.size))
        own_problem = replace(
            problem,
            N=len(starts) * problem.N,
            axes=tuple(axes),
            accumulate=problem.accumulate if fprop else problem.direction is Direction.WGRAD,
        )
        found.append(Fringes(own_problem, tuple(x), tuple(y), len(starts)))
    return tuple(found)


def _ends(axis: Axis) -> tuple[int, tuple[int, ...]]:
    """How many outputs of an end see padding, and where those of each such end begin."""
    low = min(-(-axis.pad_lo // axis.stride), axis.out)
    high = max(axis.out - 1 - (axis.size + axis.pad_lo - axis.extent) // axis.stride, 0)
    high = min(high, axis.out)
    count = max(low, high)
    if low and high:
        return (count, (0, axis.out - count)) if 2 * count <= axis.out else (axis.out, (0,))
    return count, (0,) if low else (axis.out - count,)


def _nbytes(problem: ConvProblem) -> dict[str, int]:
    """Of the fringes that a problem reads and writes."""
    y = prod(problem.y_shape) * problem.y.dtype.itemsize
    return {"x": prod(problem.x_shape) * problem.x.dtype.itemsize, "y": y, "residual": y}


def _shared(programs: list[Program]) -> tuple[Buffer, ...]:
    """Buffers of programs that run one after another, each as large as the largest needs it."""
    found: dict[tuple[str, str], Buffer] = {}
    for buffer in (buffer for program in programs for buffer in program.buffers):
        key = buffer.name, buffer.scope
        if key not in found or found[key].nbytes < buffer.nbytes:
            found[key] = buffer
    return tuple(found.values())


_INNER: tuple[Algorithm, ...] = (
    *conv_depthwise.ALGORITHMS,
    *conv_direct.ALGORITHMS,
    *conv_fft.ALGORITHMS,
    *conv_grouped.ALGORITHMS,
    *(a for a in winograd.ALGORITHMS if a.name.endswith((".f2", ".f4"))),
)
ALGORITHMS = tuple(map(ConvBordered, _INNER))
