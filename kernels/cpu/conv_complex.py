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
    WeightFormat,
)
from convforge.kernels.cpu import conv_direct, conv_im2col, conv_winograd3x3
from convforge.kernels.cpu._around import StandIn, around, used_by
from convforge.kernels.cpu._complex import REAL, combine_step, expand_step
from convforge.kernels.cpu._planes import is_channels_last, transpose_step
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION
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
        form = self.inner.weight_format(_real(problem), config)
        if form is None:
            return None
        pack = around(form.pack, [_blocks(problem)])
        return replace(form, pack=pack)

    def program(self, problem: Problem, config: Config, machine: Machine) -> Program:
        """Bring channels last, run the inner program, and back."""
        assert isinstance(problem, ConvProblem)
        real = _real(problem)
        inner = self.inner.program(real, config, machine)
        moved = [_moved(problem, name) for name in _not_in_place(problem)]
        if "w" in used_by(inner):
            moved.append(_blocks(problem))
        written = _OUTPUT[problem.direction]
        return around(inner, moved, written=written, accumulates=real.accumulate)


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


def _blocks(problem: ConvProblem) -> StandIn:
    """Real filters, or their gradients."""
    nbytes = 2 * prod(problem.w_shape) * problem.w.dtype.itemsize
    return StandIn(
        operand="w",
        buffers=(Buffer(name="blocks", nbytes=nbytes),),
        there=(expand_step(problem, "blocks"),),
        back=(combine_step(problem, "blocks"),) if problem.direction is Direction.WGRAD else (),
    )


def _not_in_place(problem: ConvProblem) -> Iterable[str]:
    """Operands whose channels must be brought last."""
    for name in ("x", "y", "residual"):
        if _is_used(problem, name) and not is_channels_last(*_images(problem, name)):
            yield name


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


def _moved(problem: ConvProblem, name: str) -> StandIn:
    """An operand of channels first, channels last."""
    _, channels, spatial = _images(problem, name)
    last, N, pixels = f"{name}_last", problem.N, prod(spatial)
    nbytes = N * channels * pixels * problem.acc.itemsize
    if problem.acc is DType.C64:
        # Moved as a whole, both parts are what a float64 is.
        return StandIn(
            operand=name,
            buffers=(Buffer(name=last, nbytes=nbytes),),
            there=(transpose_step(name, last, DType.F64, N, channels, pixels),),
            back=(transpose_step(last, name, DType.F64, N, pixels, channels),),
        )
    # Channel, pixel and part to pixel, part and channel, and then a pixel's parts behind channels.
    mixed = f"{name}_mixed"
    return StandIn(
        operand=name,
        buffers=(Buffer(name=last, nbytes=nbytes), Buffer(name=mixed, nbytes=nbytes)),
        there=(
            transpose_step(name, mixed, DType.F64, N, channels, 2 * pixels),
            transpose_step(mixed, last, DType.F64, N * pixels, 2, channels),
        ),
        back=(
            transpose_step(last, mixed, DType.F64, N * pixels, channels, 2),
            transpose_step(mixed, name, DType.F64, N, 2 * pixels, channels),
        ),
    )


_WINOGRAD = next(a for a in conv_winograd3x3.ALGORITHMS if a.name.endswith(".f4"))
ALGORITHMS = tuple(
    ConvComplex(inner) for inner in (*conv_direct.ALGORITHMS, *conv_im2col.ALGORITHMS, _WINOGRAD)
)
