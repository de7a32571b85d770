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

from convforge.contract import Buffer, Machine, Program, Rejected
from convforge.kernels.cpu import conv_direct, conv_im2col, conv_winograd3x3
from convforge.kernels.cpu._adapter import OUTPUT, Adapter
from convforge.kernels.cpu._complex import REAL, combine_step, expand_step
from convforge.kernels.cpu._planes import is_channels_last, transpose_step
from convforge.kernels.cpu._stand_in import StandIn, used_by, with_stand_ins
from convforge.problem import ConvProblem, Direction, DType, Operand, Order, PostOp


class ConvComplex(Adapter):
    """An algorithm of reals as one of complex numbers: ``cpu.conv_complex.direct`` and so on."""

    stem = "conv_complex"

    def refuses(self, problem: ConvProblem, machine: Machine) -> Rejected | None:
        """Reals, mixed types, and activations."""
        types = {problem.x.dtype, problem.w.dtype, problem.y.dtype, problem.acc}
        if len(types) > 1 or problem.acc not in REAL:
            return Rejected(f"types {'/'.join(sorted(types))}: one of {'/'.join(REAL)} only")
        activations = [op for op in problem.post if not op.reads_operand]
        if activations:
            return Rejected(f"{'/'.join(activations)} of complex numbers has no meaning")
        return None

    def inside(self, problem: ConvProblem) -> ConvProblem:
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

    def own_bytes(self, problem: ConvProblem) -> int:
        """Of what is rearranged."""
        images = sum(prod(_shape(problem, name)) for name in ("x", "y", "residual"))
        return (2 * images + 2 * prod(problem.w_shape)) * problem.acc.itemsize + 1024

    def wrapped(self, problem: ConvProblem, inner: Program) -> Program:
        """Channels brought last, weights as real blocks, and back."""
        used = used_by(inner)
        moved = [_moved(problem, name) for name in _not_in_place(problem) if name in used]
        if "w" in used:
            moved.append(_blocks(problem))
        accumulates = problem.accumulate and problem.direction is not Direction.WGRAD
        return with_stand_ins(
            inner, moved, written=OUTPUT[problem.direction], accumulates=accumulates
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
        name = OUTPUT[problem.direction]
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
