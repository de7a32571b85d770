"""A program inside another one, which gives it other operands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from convforge.contract import Buffer, Program, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """What an inner program gets in the place of an operand.

    Attributes:
        operand: Its name. buffers: Where the other one lies, the first, and what making it takes.
        there: Make it of the operand. back: The operand of it.
    """

    operand: str
    buffers: tuple[Buffer, ...]
    there: tuple[Step, ...]
    back: tuple[Step, ...] = ()


def with_stand_ins(
    inner: Program, stand_ins: Iterable[StandIn], *, written: str = "", accumulates: bool = False
) -> Program:
    """The inner program between steps to its operands and those from what it has written.

    Args:
        written: The operand that the outer program writes; the others are made before.
        accumulates: It is read, too.
    """
    those = tuple(stand_ins)
    names = {s.operand: s.buffers[0].name for s in those}
    return Program(
        steps=(
            *(step for s in those if s.operand != written or accumulates for step in s.there),
            *renamed(inner.steps, names),
            *(step for s in those if s.operand == written for step in s.back),
        ),
        buffers=(*(buffer for s in those for buffer in s.buffers), *inner.buffers),
    )


def renamed(steps: Iterable[Step], names: Mapping[str, str]) -> tuple[Step, ...]:
    """The same steps on other operands; names that are not listed stay."""
    return tuple(
        replace(step, operands=tuple(names.get(name, name) for name in step.operands))
        for step in steps
    )


def used_by(program: Program) -> frozenset[str]:
    """Names of all operands."""
    return frozenset(name for step in program.steps for name in step.operands)
