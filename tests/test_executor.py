"""Programs become tables of launches."""

from dataclasses import replace

import pytest

from convforge.contract import Cost, KernelRef, Step
from convforge.executor import shared_workers
from convforge.runtime import machine

SMALL = Step(name="small", kernel=KernelRef(print), operands=(), tasks=8, cost=Cost(flops=1))
LARGE = replace(SMALL, name="large", cost=Cost(flops=10**9))


@pytest.mark.parametrize(
    ("steps", "workers"),
    [
        ([SMALL, LARGE], [1, 4]),
        ([SMALL, replace(LARGE, joins=True)], [4, 4]),
        ([LARGE, replace(SMALL, joins=True), SMALL], [4, 4, 1]),
        ([SMALL, SMALL, replace(SMALL, joins=True), replace(LARGE, joins=True)], [1, 4, 4, 4]),
        ([], []),
    ],
)
def test_steps_that_join_have_the_same_workers(steps, workers):
    assert shared_workers(steps, replace(machine.cpu(), threads=4)) == workers
