"""Pooling of narrow types through a wide one: widen what is read, pool, narrow what is written.

Computes: whatever ``pool_window`` does, of float16 and bfloat16 by way of float32; of int8, uint8
    and int16 the maximum, forward, by way of float32, and of int32 by way of float64.
Layout: both; operands are widened in their own order, into the workspace.
Accumulates: float32 or float64. Floats are rounded once, at the end; integers stay as they are.
Good at: any pooling of these types. Bad at: images beyond the caches, which it moves twice more.

See docs/algorithms/pool_widened.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod

from convforge.contract import Buffer, Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels.cpu._convert import narrow_step, widen_step
from convforge.kernels.cpu._stand_in import StandIn, with_stand_ins
from convforge.kernels.cpu.pool_window import PoolWindow, WindowConfig
from convforge.problem import Direction, DType, PoolKind, PoolProblem, Problem

_WIDE = {
    DType.F16: DType.F32,
    DType.BF16: DType.F32,
    DType.I8: DType.F32,
    DType.U8: DType.F32,
    DType.I16: DType.F32,
    DType.I32: DType.F64,
}
_INNER = PoolWindow()


class PoolWidened:
    """The algorithm ``cpu.pool_widened``."""

    name = "cpu.pool_widened"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits()

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Half types; of integers up to 32 bits the maximum, forward."""
        if not isinstance(problem, PoolProblem):
            return Rejected("a pooling algorithm; this is a convolution")
        dtype = problem.x.dtype
        if dtype not in _WIDE:
            return Rejected(f"type {dtype}: {', '.join(_WIDE)} only")
        forward = problem.direction is Direction.FPROP
        if not dtype.eps and not (forward and problem.kind is PoolKind.MAX):
            return Rejected(f"type {dtype}: of integers the maximum, forward, only")
        if dtype is DType.F16 and machine.isa == "plain":
            return Rejected("f16: this target has no instruction to convert it")
        return _INNER.supports(_widened(problem), machine)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[WindowConfig]:
        """Those of ``pool_window``, within what the widened operands leave of the limit."""
        assert isinstance(problem, PoolProblem)
        own = sum(buffer.nbytes + 64 for buffer in _stand_ins(problem, Program(steps=())).buffers)
        return _INNER.configs(_widened(problem), machine, max(0, workspace_limit - own))

    def weight_format(self, problem: Problem, config: WindowConfig) -> WeightFormat | None:
        """None: pooling has no weights."""
        return None

    def program(self, problem: Problem, config: WindowConfig, machine: Machine) -> Program:
        """Widen what is read, pool, narrow what comes out."""
        assert isinstance(problem, PoolProblem)
        return _stand_ins(problem, _INNER.program(_widened(problem), config, machine))


def _widened(problem: PoolProblem) -> PoolProblem:
    """The same problem in the wide type."""
    return replace(problem, x=replace(problem.x, dtype=_WIDE[problem.x.dtype]))


def _stand_ins(problem: PoolProblem, inner: Program) -> Program:
    """A program of wide x and y, both of them in buffers."""
    written = "y" if problem.direction is Direction.FPROP else "x"
    return with_stand_ins(inner, [_wide(problem, name) for name in ("x", "y")], written=written)


def _wide(problem: PoolProblem, name: str) -> StandIn:
    stored, count = problem.x.dtype, prod(getattr(problem, f"{name}_shape"))
    wide, other = _WIDE[stored], f"wide_{name}"
    return StandIn(
        operand=name,
        buffers=(Buffer(name=other, nbytes=count * wide.itemsize),),
        there=(widen_step(name, other, stored, wide, count),),
        back=(narrow_step(other, name, wide, stored, count),),
    )


ALGORITHMS = (PoolWidened(),)
