"""Narrow types through an algorithm of a wide one: widen what is read, narrow what is written.

Computes: whatever the inner algorithm does, of float16 and bfloat16 by way of float32, of int8,
    uint8, int16 and int32 by way of the type that the problem keeps its sums in.
Layout: the inner algorithm's; operands are widened in their own order, into the workspace.
Accumulates: float32, int32 or int64. Floats are rounded once, at the end; integers wrap.
Good at: layers for which the inner algorithm needs few operations. Bad at: layers bound by memory,
    which it moves twice more.

See docs/algorithms/conv_widened.md.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from convforge.contract import Buffer, Machine, Program, Rejected
from convforge.kernels.cpu import (
    conv_bordered,
    conv_depthwise,
    conv_direct,
    conv_grouped,
    conv_im2col,
    conv_winograd3x3,
)
from convforge.kernels.cpu._adapter import OUTPUT, Adapter
from convforge.kernels.cpu._convert import narrow_step, widen_step
from convforge.kernels.cpu._stand_in import StandIn, used_by, with_stand_ins
from convforge.problem import ConvProblem, Direction, DType, PostOp

_WIDE = {
    # The type of sums: what may be stored.
    DType.F32: (DType.F16, DType.BF16, DType.F32),
    DType.I32: (DType.I8, DType.U8, DType.I16, DType.I32),
    DType.I64: (DType.I8, DType.U8, DType.I16, DType.I32, DType.I64),
}


class ConvWidened(Adapter):
    """An algorithm of wide types as one of narrow types: ``cpu.conv_widened.direct`` and so on."""

    stem = "conv_widened"

    def refuses(self, problem: ConvProblem, machine: Machine) -> Rejected | None:
        """Types that are not narrow."""
        stored = {problem.x.dtype, problem.w.dtype, problem.y.dtype}
        if stored == {problem.acc}:
            return Rejected(f"type {problem.acc}: nothing to widen")
        if not stored.issubset(_WIDE.get(problem.acc, ())):
            return Rejected(
                f"types {'/'.join(sorted(stored))} summed in {problem.acc}: half types in f32 and "
                "integers in i32 or i64 only"
            )
        if DType.F16 in stored and machine.isa == "plain":
            return Rejected("f16: this target has no instruction to convert it")
        return None

    def inside(self, problem: ConvProblem) -> ConvProblem:
        """The same problem with all operands in the type of its sums."""
        x, w, y = (replace(o, dtype=problem.acc) for o in (problem.x, problem.w, problem.y))
        return replace(problem, x=x, w=w, y=y)

    def own_bytes(self, problem: ConvProblem) -> int:
        """Of the widened operands."""
        return sum(_nbytes(problem, name) for name in ("x", "w", "y", "residual"))

    def wrapped(self, problem: ConvProblem, inner: Program) -> Program:
        """Each narrow operand that the program names in a buffer of its own."""
        narrow = (
            name
            for name in ("x", "w", "y", "bias", "residual")
            if name in used_by(inner) and _stored(problem, name) is not problem.acc
        )
        return with_stand_ins(
            inner,
            [_wide(problem, name) for name in narrow],
            written=OUTPUT[problem.direction],
            accumulates=problem.accumulate,
        )


def _wide(problem: ConvProblem, name: str) -> StandIn:
    """An operand in the type of the sums."""
    stored, count, wide = _stored(problem, name), _elements(problem, name), f"wide_{name}"
    return StandIn(
        operand=name,
        buffers=(Buffer(name=wide, nbytes=count * problem.acc.itemsize),),
        there=(widen_step(name, wide, stored, problem.acc, count),),
        back=(narrow_step(wide, name, problem.acc, stored, count),),
    )


def _stored(problem: ConvProblem, name: str) -> DType:
    """Type of an operand in memory; bias and residual are of the output's."""
    if name in ("bias", "residual"):
        name = OUTPUT[problem.direction]
    return getattr(problem, name).dtype


def _elements(problem: ConvProblem, name: str) -> int:
    """Elements of an operand."""
    if name == "bias":
        return problem.C if problem.direction is Direction.DGRAD else problem.K
    if name == "residual":
        name = OUTPUT[problem.direction]
    return prod(getattr(problem, f"{name}_shape"))


def _nbytes(problem: ConvProblem, name: str) -> int:
    """Workspace that widening an operand takes, at most."""
    if name == "residual" and PostOp.RESIDUAL not in problem.post:
        return 0
    narrow = _stored(problem, name) is not problem.acc
    return narrow * (_elements(problem, name) + 64) * problem.acc.itemsize


_WINOGRAD = next(a for a in conv_winograd3x3.ALGORITHMS if a.name.endswith(".f4"))
"""The one whose error a half type hides."""
_BORDERED = next(a for a in conv_bordered.ALGORITHMS if a.name.endswith(".direct"))
ALGORITHMS = tuple(
    ConvWidened(inner)
    for inner in (
        *conv_depthwise.ALGORITHMS,
        *conv_direct.ALGORITHMS,
        *conv_grouped.ALGORITHMS,
        *conv_im2col.ALGORITHMS,
        _BORDERED,
        _WINOGRAD,
    )
)
