"""An algorithm that runs another one on the problem in another form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from convforge.contract import Algorithm, Config, Machine, Program, Rejected, WeightFormat
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION
from convforge.problem import ConvProblem, Direction, Problem

OUTPUT = {Direction.FPROP: "y", Direction.DGRAD: "x", Direction.WGRAD: "w"}
"""The operand that is written."""


class Adapter:
    """What such algorithms have in common; each says what the other one gets, and what is around.

    Those that run the other one more than once make configurations and programs themselves.

    Attributes:
        stem: Name, before that of the inner algorithm.
    """

    stem: str
    revision = 1

    def __init__(self, inner: Algorithm) -> None:
        self.inner = inner
        self.name = inner.name.replace("cpu.conv_", f"cpu.{self.stem}.")
        self.tolerance = inner.tolerance
        self.traits = inner.traits

    def refuses(self, problem: ConvProblem, machine: Machine) -> Rejected | None:
        """Why this is nothing for it, though the inner algorithm would take it."""
        raise NotImplementedError

    def inside(self, problem: ConvProblem) -> ConvProblem:
        """The problem of the inner algorithm."""
        raise NotImplementedError

    def own_bytes(self, problem: ConvProblem) -> int:
        """Workspace beside the inner algorithm's, at most."""
        raise NotImplementedError

    def wrapped(self, problem: ConvProblem, inner: Program) -> Program:
        """The inner algorithm's program, or that which packs its weights, on other operands."""
        raise NotImplementedError

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """What the inner algorithm takes, and it does not refuse itself."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        refusal = self.inner.supports(self.inside(problem), machine)
        return refusal or self.refuses(problem, machine)

    def configs(self, problem: Problem, machine: Machine, workspace_limit: int) -> Iterable[Config]:
        """The inner algorithm's, within what is left of the limit."""
        assert isinstance(problem, ConvProblem)
        left = max(0, workspace_limit - self.own_bytes(problem))
        return self.inner.configs(self.inside(problem), machine, left)

    def weight_format(self, problem: Problem, config: Config) -> WeightFormat | None:
        """The inner algorithm's, packed from other weights."""
        assert isinstance(problem, ConvProblem)
        form = self.inner.weight_format(self.inside(problem), config)
        return form and replace(form, pack=self.wrapped(problem, form.pack))

    def program(self, problem: Problem, config: Config, machine: Machine) -> Program:
        """The inner algorithm's, with what is around it."""
        assert isinstance(problem, ConvProblem)
        return self.wrapped(problem, self.inner.program(self.inside(problem), config, machine))
