"""What limits a layer: its operations and bytes at the rates that this machine was measured at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from convforge.plan import Plan
from convforge.problem import ConvProblem
from convforge.runtime import machine


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time of some plans, run one after another.

    Attributes:
        seconds: Sum over the plans; NaN where no rate was measured, as for integers.
        by: What takes most of it: ``flops``, or the level whose bytes do: ``L2``, ``L3``,
            ``memory``.
    """

    seconds: float
    by: str


NONE = Bound(float("nan"), "")


def bound(plans: Sequence[Plan], threads: int) -> Bound:
    """Of plans, with prepared weights where they can be and no policy says otherwise.

    Each takes at least as long as the additions and multiplications of its own steps at the
    rate of independent multiply-adds, and as its operands, each touched once, at the rate of a
    copy within the level that holds them all. Pure reads may be faster than a copy.
    """
    if any(plan.problem.x.dtype not in ("f32", "f64") for plan in plans):
        return NONE
    times: defaultdict[str, float] = defaultdict(float)
    for seconds, by in (_of_one(plan, threads) for plan in plans):
        times[by] += seconds
    return Bound(sum(times.values()), max(times, key=times.__getitem__))


def _of_one(plan: Plan, threads: int) -> tuple[float, str]:
    flops = sum(step.cost.flops for step in plan.program.steps)
    nbytes = _operand_bytes(plan)
    level = _level(nbytes, threads)
    return max(
        (flops / machine.peak_gflops(str(plan.problem.x.dtype), threads) / 1e9, "flops"),
        (nbytes / machine.copy_gbytes(level, threads) / 1e9, level),
    )


def _operand_bytes(plan: Plan) -> int:
    """As :attr:`ConvProblem.bytes`; where weights are prepared, as they are then."""
    problem, plain = plan.problem, plan.policy.prepared is False
    if not isinstance(problem, ConvProblem) or plan.weight_format is None or plain:
        return problem.bytes
    w_bytes = prod(problem.w_shape) * problem.w.dtype.itemsize
    return problem.bytes - w_bytes + plan.weight_format.nbytes


def _level(nbytes: int, threads: int) -> str:
    """The smallest whose rate is measured that holds this much."""
    facts = machine.cpu()
    if nbytes <= facts.l2_bytes * threads:
        return "L2"
    return "L3" if nbytes <= facts.l3_bytes else "memory"
