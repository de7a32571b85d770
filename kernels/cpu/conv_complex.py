"""Complex convolution as a real one of twice the channels.

Computes: whatever the inner algorithm does, of complex64 by way of float32 and of complex128 by way
    of float64. Nothing is conjugated.
Layout: channels last in place, a channel's two parts being two channels; channels first through
    a blocked transpose. Weights as real blocks of two by two, in the inner algorithm's format.
Accumulates: in float32 or float64, both parts of a number apart.
Good at: what the inner algorithm is good at. Bad at: nothing else; four real products for a
    complex one are what it takes.

See docs/algorithms/conv_complex.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
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
from convforge.kernels.cpu import conv_direct, conv_im2col, conv_winograd3x3
from convforge.kernels.cpu._complex import REAL, combine_step, expand_step
from convforge.kernels.cpu._planes import is_channels_last, transpose_step
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION
from convforge.kernels.cpu._rename import renamed
from convforge.problem import ConvProblem, Direction, DType, Operand, Order, PostOp, Problem

_OUTPUT = {Direction.FPROP: "y", Direction.DGRAD: "x", Direction.WGRAD: "w"}


class ConvComplex:
    """An algorithm of reals as one of complex numbers: ``cpu.conv_complex.direct`` and so on."""

    revision = 1

    def __init__(self, inner: Algorithm) -> None:
        self.inner = inner
        self.name = inner.name.replace("cpu.conv_", "cpu.conv_complex.")
        self.tolerance = inner.tolerance
        self.traits = inner.traits

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Complex numbers whose real problem the inner algorithm takes."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        refusal = self.inner.supports(_real(problem), machine)
        if refusal is not None:
            return refusal
        types = {problem.x.dtype, problem.w.dtype, problem.y.dtype, problem.acc}
        if len(types) > 1 or problem.acc not in REAL:
            return Rejected(f"types {'/'.join(sorted(types))}: one of {'/'.join(REAL)} only")
        activations = [op for op in problem.post if not op.reads_operand]
        if activations:
            return Rejected(f"{'/'.join(activations)} of complex numbers has no meaning")
        return None

    def configs(self, problem: Problem, machine: Machine, workspace_limit: int) -> Iterable[Config]:
        """The inner algorithm's, within what rearranged operands leave of the limit."""
        assert isinstance(problem, ConvProblem)
        own = sum(prod(_shape(problem, name)) for name in ("x", "y", "residual"))
        own = 2 * own * problem.acc.itemsize + 1024
        own += 2 * prod(problem.w_shape) * problem.acc.itemsize
        return self.inner.configs(_real(problem), machine, max(0, workspace_limit - own))

    def weight_format(self, problem: Problem, config: Config) -> WeightFormat | None:
        """The inner algorithm's, packed from real blocks."""
        assert isinstance(problem, ConvProblem)
        real = _real(problem)
        form = self.inner.weight_format(real, config)
        if form is None:
            return None
        pack = Program(
            steps=(expand_step(problem, "blocks"), *renamed(form.pack.steps, {"w": "blocks"})),
            buffers=(_blocks(problem), *form.pack.buffers),
        )
        return replace(form, pack=pack)

    def program(self, problem: Problem, config: Config, machine: Machine) -> Program:
        """Bring channels last, run the inner program, and back."""
        assert isinstance(problem, ConvProblem)
        inner = self.inner.program(_real(problem), config, machine)
        output = _OUTPUT[problem.direction]
        before: list[Step] = []
        after: list[Step] = []
        buffers: list[Buffer] = []
        names: dict[str, str] = {}
        for name in ("x", "y", "residual"):
            order, channels, spatial = _images(problem, name)
            if not _is_used(problem, name) or is_channels_last(order, channels, spatial):
                continue
            names[name] = f"{name}_last"
            there, back, own = _moves(problem, name, channels, prod(spatial))
            buffers += own
            if name != output or problem.accumulate:
                before += there
            if name == output:
                after += back
        if any("w" in step.operands for step in inner.steps):
            names["w"] = "blocks"
            buffers.append(_blocks(problem))
            if output == "w":
                after.append(combine_step(problem, "blocks"))
            else:
                before.append(expand_step(problem, "blocks"))
        steps = renamed(inner.steps, names)
        return Program(steps=(*before, *steps, *after), buffers=(*buffers, *inner.buffers))


def _real(problem: ConvProblem) -> ConvProblem:
    """The problem with two real channels for each complex one, channels last."""
    dtype = REAL.get(problem.acc, problem.acc)
    operand = Operand(dtype=dtype, order=Order.CHANNELS_LAST)
    return replace(
        problem,
        C=2 * problem.C,
        K=2 * problem.K,
        x=operand,
        w=operand,
        y=operand,
        acc=dtype,
        accumulate=problem.accumulate and problem.direction is not Direction.WGRAD,
    )


def _blocks(problem: ConvProblem) -> Buffer:
    """Real filters, or their gradients."""
    return Buffer(name="blocks", nbytes=2 * prod(problem.w_shape) * problem.w.dtype.itemsize)


def _is_used(problem: ConvProblem, name: str) -> bool:
    return name != "residual" or PostOp.RESIDUAL in problem.post


def _images(problem: ConvProblem, name: str) -> tuple[Order, int, tuple[int, ...]]:
    """Order, channels and extents of an operand that is images."""
    if name == "residual":
        name = _OUTPUT[problem.direction]
    if name == "x":
        return problem.x.order, problem.C, problem.size
    return problem.y.order, problem.K, problem.out


def _shape(problem: ConvProblem, name: str) -> tuple[int, ...]:
    _, channels, spatial = _images(problem, name)
    return (problem.N * _is_used(problem, name), channels, *spatial)


def _moves(
    problem: ConvProblem, name: str, channels: int, pixels: int
) -> tuple[tuple[Step, ...], tuple[Step, ...], tuple[Buffer, ...]]:
    """Steps from channels first to the buffer of channels last, those back, and their buffers."""
    last, N = f"{name}_last", problem.N
    nbytes = N * channels * pixels * problem.acc.itemsize
    if problem.acc is DType.C64:
        # Moved as a whole, both parts are what a float64 is.
        there = transpose_step(name, last, DType.F64, N, channels, pixels)
        back = transpose_step(last, name, DType.F64, N, pixels, channels)
        return (there,), (back,), (Buffer(name=last, nbytes=nbytes),)
    # Channel, pixel and part to pixel, part and channel, and then a pixel's parts behind channels.
    mixed = f"{name}_mixed"
    return (
        (
            transpose_step(name, mixed, DType.F64, N, channels, 2 * pixels),
            transpose_step(mixed, last, DType.F64, N * pixels, 2, channels),
        ),
        (
            transpose_step(last, mixed, DType.F64, N * pixels, channels, 2),
            transpose_step(mixed, name, DType.F64, N, 2 * pixels, channels),
        ),
        (Buffer(name=last, nbytes=nbytes), Buffer(name=mixed, nbytes=nbytes)),
    )


_WINOGRAD = next(a for a in conv_winograd3x3.ALGORITHMS if a.name.endswith(".f4"))
ALGORITHMS = tuple(
    ConvComplex(inner) for inner in (*conv_direct.ALGORITHMS, *conv_im2col.ALGORITHMS, _WINOGRAD)
)
