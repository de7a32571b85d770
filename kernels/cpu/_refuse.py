"""What no kernel of the register tile computes, in words."""

from __future__ import annotations

from math import prod

from convforge.contract import Rejected
from convforge.kernels.cpu._store import ACTIVATIONS
from convforge.problem import ConvProblem, DType, PadMode, PostOp

NOT_A_CONVOLUTION = Rejected("a convolution algorithm; this is a pooling")


_FLOATS = (DType.F32, DType.F64)
_WHOLE = (DType.I32, DType.I64)


def refuse_common(problem: ConvProblem, *, integers: bool = False) -> Rejected | None:
    """Refusals that the algorithms of the register tile share; some take integers as well."""
    dtypes = {problem.x.dtype, problem.w.dtype, problem.y.dtype, problem.acc}
    taken = (*_FLOATS, *_WHOLE) if integers else _FLOATS
    if len(dtypes) > 1 or dtypes.isdisjoint(taken):
        return Rejected(f"types {'/'.join(sorted(dtypes))}: {' or '.join(taken)} throughout only")
    return refuse_activations(problem) or refuse_post(problem)


def refuse_activations(problem: ConvProblem) -> Rejected | None:
    """Refusal of activations that integers do not have."""
    smooth = {PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH}.intersection(problem.post)
    if smooth and problem.acc in _WHOLE:
        return Rejected(f"{'/'.join(sorted(smooth))} of integers has no meaning")
    return None


def refuse_post(problem: ConvProblem) -> Rejected | None:
    """Refusal of nothing to do, and of post ops that the store routine does not know."""
    if 0 in (prod(problem.x_shape), prod(problem.w_shape), prod(problem.y_shape)):
        return Rejected("nothing to multiply: an extent is zero")
    order = [PostOp.BIAS, PostOp.RESIDUAL, *ACTIVATIONS]
    places = [order.index(op) for op in problem.post]
    activations = [op for op in problem.post if not op.reads_operand]
    if places != sorted(places) or len(activations) > 1:
        return Rejected(
            f"post ops {'+'.join(problem.post)}: only bias, residual, one activation, in this order"
        )
    return None


def refuse_pad_modes(problem: ConvProblem) -> Rejected | None:
    """Refusal of anything but zeros around the image."""
    modes = {axis.pad_mode for axis in problem.axes} - {PadMode.ZEROS}
    return Rejected(f"pad mode {'/'.join(sorted(modes))}: zeros only") if modes else None
