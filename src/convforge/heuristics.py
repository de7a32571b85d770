"""Rank the algorithms that can run a problem, by readable rules over their own cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convforge.contract import (
    Algorithm,
    Config,
    Machine,
    Program,
    Rejected,
    TakesPlainWeights,
)
from convforge.policy import Policy
from convforge.problem import ConvProblem, Problem
from convforge.runtime.machine import NOMINAL

LAUNCH_MS = 0.0015
"""A parallel launch; `pytest bench/test_overhead.py` prints it."""
PACKING_SHARE = 0.25
"""Of the time to pack weights, what a call is charged with where nobody said whether it packs, and
where it uses them from the L2 right after; unless they do not stay in the L3."""
REFERENCE_SLOWDOWN = 50.0
"""NumPy in a wide type against a compiled kernel: it is chosen only where nothing else runs."""

UNHIDDEN = 0.5
"""Of a step's shorter part, be it flops or bytes, what does not pass behind the longer one."""

INEXACT_MS = 0.005
"""What must be saved at least before small integers stop giving exact results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An algorithm that can run the problem, with what the model expects of it."""

    algorithm: Algorithm
    config: Config
    program: Program
    time_ms: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a plan runs what it runs; ``str()`` is a table.

    Attributes:
        problem: The problem. chosen: Full name of the algorithm that runs.
        candidates: Every algorithm that can run it, best first.
        rejected: Names and reasons of the others.
        workspace_bytes: Scratch memory of a call with prepared weights.
    """

    problem: Problem
    chosen: str
    candidates: tuple[Candidate, ...]
    rejected: tuple[tuple[str, Rejected], ...]
    workspace_bytes: int

    def __str__(self) -> str:
        width = max(len(n) for n in [*(c.algorithm.name for c in self.candidates), "algorithm"])
        width = max([width, *(len(name) for name, _ in self.rejected)])
        lines = [f"{self.problem}", f"  {'algorithm':<{width}}  predicted_ms  why"]
        for candidate in self.candidates:
            mark = "*" if candidate.algorithm.name == self.chosen else " "
            lines.append(
                f"{mark} {candidate.algorithm.name:<{width}}  {candidate.time_ms:12.4f}  "
                f"{candidate.why}"
            )
        for name, reason in self.rejected:
            lines.append(f"  {name:<{width}}  {'refused':>12}  {reason}")
        lines.append(f"workspace {self.workspace_bytes} bytes; * runs")
        return "\n".join(lines)


def predict_ms(program: Program, machine: Machine) -> tuple[float, str]:
    """Expected time of a program and the part that dominates it.

    Every step is bound by its flops or by its bytes, whichever takes longer, and half of the other
    shows: weights that stream through a transform's multiplication wait for memory in between.
    """
    total, parts = 0.0, []
    for step in program.steps:
        workers = min(machine.threads, max(step.tasks, 1))
        compute = step.cost.flops / (NOMINAL.gflops(machine) * workers) / 1e6
        memory = step.cost.bytes / NOMINAL.gbytes(machine, workers) / 1e6
        total += max(compute, memory) + UNHIDDEN * min(compute, memory) + LAUNCH_MS
        bound = "flops" if compute >= memory else "bytes"
        parts.append((max(compute, memory), f"{step.name} bound by {bound}"))
    return total, max(parts)[1] if parts else "nothing to do"


def _packing_share(algorithm: Algorithm, nbytes: int, machine: Machine, policy: Policy) -> float:
    """How much of the time to pack so many bytes of weights a call is charged with."""
    if policy.prepared:
        return 0.0
    if policy.prepared is False and not isinstance(algorithm, TakesPlainWeights):
        return 1.0
    return PACKING_SHARE if 2 * nbytes <= machine.l3_bytes else 1.0


def rank(
    problem: Problem,
    candidates: Iterable[tuple[Algorithm, Config]],
    machine: Machine,
    policy: Policy,
) -> list[Candidate]:
    """Candidates, best first."""
    ranked = []
    for algorithm, config in candidates:
        program = algorithm.program(problem, config, machine)
        time_ms, why = predict_ms(program, machine)
        weights = algorithm.weight_format(problem, config)
        if weights is not None and isinstance(problem, ConvProblem):
            share = _packing_share(algorithm, weights.nbytes, machine, policy)
            time_ms += share * predict_ms(weights.pack, machine)[0]
        if not algorithm.tolerance.exact:
            time_ms += INEXACT_MS
        if algorithm.name.endswith(".reference"):
            time_ms, why = time_ms * REFERENCE_SLOWDOWN + 0.1, "NumPy in a wide type"
        ranked.append(
            Candidate(algorithm=algorithm, config=config, program=program, time_ms=time_ms, why=why)
        )
    return sorted(ranked, key=lambda candidate: candidate.time_ms)
