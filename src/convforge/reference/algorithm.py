"""The oracle as the last algorithm of the CPU: any type, any padding, no compilation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from convforge.contract import (
    Cost,
    KernelRef,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.problem import ConvProblem, Direction, PoolKind, Problem
from convforge.reference import compute


class Reference:
    """NumPy in a wide type, rounded once at the end."""

    name = "cpu.reference"
    revision = 1
    tolerance = Tolerance(growth=4.0)
    traits = Traits(batch_invariant=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Everything."""
        return None

    def configs(self, problem: Problem, machine: Machine, workspace_limit: int) -> Iterable[None]:
        """Nothing to configure."""
        return (None,)

    def weight_format(self, problem: Problem, config: None) -> WeightFormat | None:
        """Reads plain weights."""
        return None

    def program(self, problem: Problem, config: None, machine: Machine) -> Program:
        """One step on arrays."""
        step = Step(
            name="reference",
            kernel=KernelRef(_run),
            operands=operands(problem),
            cost=Cost(flops=problem.flops, bytes=problem.bytes),
        )
        return Program(steps=(step,))


def operands(problem: Problem) -> tuple[str, ...]:
    """Names of the arrays of a problem: inputs, then outputs."""
    if isinstance(problem, ConvProblem):
        return {
            Direction.FPROP: ("x", "w", "bias", "residual", "y"),
            Direction.DGRAD: ("y", "w", "bias", "residual", "x"),
            Direction.WGRAD: ("x", "y", "w"),
        }[problem.direction]
    if problem.direction is Direction.FPROP:
        return ("x", "y", "indices") if problem.indices else ("x", "y")
    return ("y", "indices", "x") if problem.kind is PoolKind.MAX else ("y", "x")


def _run(problem: Problem, arrays: dict[str, np.ndarray]) -> None:
    """Compute from the inputs among ``arrays`` and write to its outputs."""
    names = operands(problem)
    extra: dict[str, Any] = {n: arrays.get(n) for n in ("bias", "residual") if n in names}
    if isinstance(problem, ConvProblem):
        outputs = names[-1:]
    else:
        outputs = ("y", "indices") if "indices" in names[1:] and names[0] == "x" else names[-1:]
    inputs = [arrays[n] for n in names if n not in extra and n not in outputs]
    computed = compute(problem, *inputs, **extra)
    results = computed if isinstance(computed, tuple) else (computed,)
    for name, result in zip(outputs, results, strict=True):
        out = arrays[name]
        if isinstance(problem, ConvProblem) and problem.accumulate:
            result = out.astype(result.dtype) + result
        out[...] = result.astype(out.dtype)
