"""A training step of one layer: fprop, then dgrad and wgrad, with weights that just changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from convforge.bench.check import Judge
from convforge.bench.measure import PEERS_TOLERANCE, agree
from convforge.bench.ours import Convforge
from convforge.bench.rows import Call, Row, Runner
from convforge.bench.suites import Layer
from convforge.contract import Tolerance
from convforge.plan import Plan
from convforge.problem import ConvProblem, Direction, Problem
from convforge.testing.data import Operands, operands

_IMAGE_CHANNELS = 4


def layers(forward: Iterable[Layer]) -> tuple[Layer, ...]:
    """The same layers, counted as steps."""
    return tuple(replace(layer, passes=len(directions(layer.problem))) for layer in forward)


def directions(problem: Problem) -> tuple[Direction, ...]:
    """What a step computes of a layer; nobody wants the gradient of photographs."""
    if problem.C <= _IMAGE_CHANNELS:
        return (Direction.FPROP, Direction.WGRAD)
    return (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)


class Step:
    """Steps of a peer's own calls; each direction is checked before there is one."""

    row = Row.WARM

    def __init__(self, runner: Runner) -> None:
        self.name = runner.name
        self._runner = runner

    def set_threads(self, count: int) -> None:
        """Limit the threads of what is called from now on."""
        self._runner.set_threads(count)

    def quiet(self) -> AbstractContextManager[Any]:
        """That of the runner."""
        return self._runner.quiet()

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """One row, with plain weights. What it reads is the result of fprop."""
        assert isinstance(problem, ConvProblem)
        forward = self._runner.calls(problem, data, (self.row,))[self.row]
        runs = [forward.run]
        for direction in directions(problem)[1:]:
            one = replace(problem, direction=direction)
            given = operands(one)
            call = self._runner.calls(one, given, (self.row,))[self.row]
            agree(f"{self.name} {direction}", Judge(one, given), call, self.tolerance(one))
            runs.append(call.run)
        return {self.row: Call(_in_turn(runs), lambda results: forward.read(results[0]))}

    def tolerance(self, problem: Problem) -> Tolerance:
        """That of all peers."""
        return PEERS_TOLERANCE


class OurStep(Step):
    """Steps of convforge's plans, which prepare the weights every time."""

    row = Row.PLAIN

    def __init__(self, runner: Convforge) -> None:
        super().__init__(runner)
        self._ours = runner

    def plans(self, problem: Problem) -> tuple[Plan, ...]:
        """Those of all directions, fprop first."""
        assert isinstance(problem, ConvProblem)
        return tuple(
            self._ours.plain_plan(replace(problem, direction=direction))
            for direction in directions(problem)
        )

    def tolerance(self, problem: Problem) -> Tolerance:
        """What the algorithm of this direction promises."""
        return self._ours.plan(problem).tolerance


def _in_turn(runs: Sequence[Callable[[], Any]]) -> Callable[[], list[Any]]:
    return lambda: [run() for run in runs]
