"""A number only for a kernel that has just agreed with the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convforge.bench.ours import Convforge
from convforge.bench.rows import Row
from convforge.plan import Policy
from convforge.problem import Problem
from convforge.runtime import machine, threads
from convforge.testing import oracle
from convforge.testing.data import operands

Measure = Callable[..., None]


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Check, then time, one algorithm on one problem with prepared weights."""

    def run(problem: Problem, algorithm: str, row: Row = Row.WARM) -> None:
        runner, data = Convforge(Policy(algorithm=algorithm)), operands(problem)
        call, plan = runner.calls(problem, data, [row])[row], runner.plan(problem)
        oracle.assert_within(problem, call.read(call.run()), data, plan.tolerance)
        benchmark(call.run)
        if benchmark.stats is None:  # --benchmark-disable
            return
        gflops = problem.flops / benchmark.stats.stats.median / 1e9
        benchmark.extra_info |= {
            "problem": str(problem),
            "algorithm": plan.algorithm,
            "threads": threads.get_num_threads(),
            "gflops": round(gflops, 1),
            "of_peak": round(gflops / machine.peak_gflops(str(problem.x.dtype)), 3),
            "workspace_bytes": plan.workspace_bytes,
        }

    return run
