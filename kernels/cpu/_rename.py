"""Steps of one program in another, whose operands have other names there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from convforge.contract import Step


def renamed(steps: Iterable[Step], names: Mapping[str, str]) -> tuple[Step, ...]:
    """The same steps on other operands; names that are not listed stay."""
    return tuple(
        replace(step, operands=tuple(names.get(name, name) for name in step.operands))
        for step in steps
    )
