"""What a call costs beyond its work, part by part."""

from __future__ import annotations

import pytest

from convforge.bench import suites
from convforge.bench.rows import Row
from convforge.contract import KernelRef
from convforge.plan import plan
from convforge.problem import parse
from convforge.runtime import threads
from convforge.runtime.jit import address_of, kernel
from convforge.runtime.launch import launch

PROBLEM = suites.tiny()
pytestmark = pytest.mark.benchmark(max_time=0.2, warmup=True)


@kernel
def nothing(config, constants, pointers, worker, work):
    pass


@pytest.mark.parametrize("workers", sorted({1, threads.get_num_threads()}))
def test_launch(benchmark, workers):
    address = address_of(KernelRef(nothing))
    benchmark(launch, address, 0, (), workers)


def test_find_a_plan_again(benchmark):
    assert benchmark(plan, PROBLEM) is plan(PROBLEM)


def test_read_a_problem(benchmark):
    assert benchmark(parse, str(PROBLEM)) == PROBLEM


@pytest.mark.parametrize("row", [Row.WARM, Row.FUNCTIONAL])
def test_call(measure, row):
    measure(PROBLEM, plan(PROBLEM).algorithm, row)
