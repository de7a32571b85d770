"""convforge as a runner of benchmarks: plans, and the functional call."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from convforge import functional
from convforge.autograd import no_grad
from convforge.bench.rows import (
    Array,
    Call,
    Row,
    Unable,
    copies_past_cache,
    taking_turns,
)
from convforge.contract import UnsupportedProblem
from convforge.plan import Plan, Policy, plan
from convforge.problem import (
    ConvProblem,
    Direction,
    Order,
    PadMode,
    PoolKind,
    PoolProblem,
    Problem,
)
from convforge.runtime import threads
from convforge.testing.data import Operands


class Convforge:
    """Runs plans, and the functional call, under one policy."""

    name = "convforge"

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()

    def set_threads(self, count: int) -> None:
        """Limit the threads of what is called from now on."""
        threads.set_num_threads(count)

    def quiet(self) -> AbstractContextManager[Any]:
        """Record nothing for a backward pass."""
        return no_grad()

    def plan(self, problem: Problem) -> Plan:
        """The plan that the prepared rows run.

        Raises:
            Unable: No algorithm fits; says why each refused.
        """
        try:
            return plan(problem, replace(self.policy, prepared=True))
        except UnsupportedProblem as error:
            raise Unable(str(error)) from error

    def plain_plan(self, problem: Problem) -> Plan:
        """The plan that is given plain weights every time, as in training."""
        return plan(problem, replace(self.policy, prepared=False))

    def plans(self, problem: Problem) -> tuple[Plan, ...]:
        """The one plan of a call."""
        return (self.plan(problem),)

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Ready-made calls, less those that there are not.

        Problems without weights have no cold row; gradients, and padding with anything but
        zeros, have no function.
        """
        makers = {
            Row.FUNCTIONAL: self._functional,
            Row.PLAIN: self._plain,
            Row.WARM: self._warm,
            Row.COLD: self._cold,
        }
        made = {row: makers[row](problem, data) for row in rows}
        return {row: call for row, call in made.items() if call is not None}

    def _plain(self, problem: Problem, data: Operands) -> Call:
        run = self.plain_plan(problem)
        return Call(partial(run, *data.arrays, **data.epilogue), _values)

    def _warm(self, problem: Problem, data: Operands) -> Call:
        run = self.plan(problem)
        inputs: tuple[Any, ...] = data.arrays
        if _reads_weights(problem):
            inputs = (inputs[0], run.prepare(inputs[1]))
        return Call(partial(run, *inputs, **data.epilogue), _values)

    def _cold(self, problem: Problem, data: Operands) -> Call | None:
        if not _reads_weights(problem):
            return None
        run = self.plan(problem)
        first, w = data.arrays
        copies = [run.prepare(w) for _ in range(copies_past_cache(run.prepare(w).nbytes))]
        calls = [partial(run, first, prepared, **data.epilogue) for prepared in copies]
        return Call(taking_turns(calls), _values)

    def _functional(self, problem: Problem, data: Operands) -> Call | None:
        zeros = all(axis.pad_mode is PadMode.ZEROS for axis in problem.axes)
        if problem.direction is not Direction.FPROP or not zeros:
            return None
        if isinstance(problem, PoolProblem):
            return _functional_pool(problem, data.arrays[0])
        x, w = data.arrays
        residual = data.epilogue.get("residual")
        convolve = getattr(functional, f"conv{problem.rank}d")
        options = {
            "bias": data.epilogue.get("bias"),
            **_geometry(problem),
            "groups": problem.groups if problem.groups > 1 else None,
            "activation": next((str(op) for op in problem.post if not op.reads_operand), None),
            "residual": None if residual is None else channels_first(residual, problem.y.order),
            "policy": None if self.policy == Policy() else self.policy,
        }
        run = partial(
            convolve,
            channels_first(x, problem.x.order),
            channels_first(w, problem.w.order),
            # As a user would write it: without what is the default anyway.
            **{name: value for name, value in options.items() if value is not None},
        )
        return Call(run, partial(_in_order, order=problem.y.order))


def able(problem: Problem) -> list[str]:
    """Names of the algorithms that can run a problem, the one expected to be fastest first."""
    explained = plan(problem, Policy(prepared=True)).explain()
    return [candidate.algorithm.name for candidate in explained.candidates]


def channels_first(array: Array, order: Order) -> Array:
    """A view of an array in memory order as ``(N, C, H, W)``."""
    return array if order is Order.CHANNELS_FIRST else np.moveaxis(array, -1, 1)


def _in_order(result: Any, order: Order) -> Array:
    values = _values(result)
    return values if order is Order.CHANNELS_FIRST else np.moveaxis(values, 1, -1)


def _values(result: Any) -> Array:
    """The values, where a pooling returns its indices too."""
    values: Array = result[0] if isinstance(result, tuple) else result
    return values


def _reads_weights(problem: Problem) -> bool:
    return isinstance(problem, ConvProblem) and problem.direction is not Direction.WGRAD


def _geometry(problem: ConvProblem) -> dict[str, Any]:
    symmetric = all(axis.pad_lo == axis.pad_hi for axis in problem.axes)
    per_axis: dict[str, list[Any]] = {
        "stride": [axis.stride for axis in problem.axes],
        "dilation": [axis.dilation for axis in problem.axes],
        "padding": [
            axis.pad_lo if symmetric else (axis.pad_lo, axis.pad_hi) for axis in problem.axes
        ],
    }
    defaults = {"stride": 1, "dilation": 1, "padding": 0}
    return {
        name: tuple(values)
        for name, values in per_axis.items()
        if any(value != defaults[name] for value in values)
    }


def _functional_pool(problem: PoolProblem, x: Array) -> Call | None:
    if any(axis.pad_lo != axis.pad_hi for axis in problem.axes):
        return None
    options: dict[str, Any] = {
        "kernel_size": problem.filter,
        "stride": tuple(axis.stride for axis in problem.axes),
        "padding": tuple(axis.pad_lo for axis in problem.axes),
        "ceil_mode": problem.ceil_mode,
    }
    if problem.kind is PoolKind.MAX:
        options["dilation"] = tuple(axis.dilation for axis in problem.axes)
        options["return_indices"] = problem.indices
    else:
        options["count_include_pad"] = problem.count_include_pad
        if problem.divisor is not None:
            options["divisor_override"] = problem.divisor
    pool = getattr(functional, f"{problem.kind}_pool{problem.rank}d")
    run = partial(pool, channels_first(x, problem.x.order), **options)
    return Call(run, partial(_in_order, order=problem.x.order))
