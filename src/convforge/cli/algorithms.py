"""``convforge algorithms``: every registered algorithm."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from convforge.cli.screen import console, fail
from convforge.problem import Direction, DType, Order, Problem, parse

if TYPE_CHECKING:
    from convforge.contract import Algorithm, Machine

_PROBES = {
    "conv": "fprop:f32:n1c32h16w16_k32r3s3_p1x1",
    "max pool": "fprop:max:f32:n1c32h16w16_r2s2_st2x2",
    "avg pool": "fprop:avg:f32:n1c32h16w16_r2s2_st2x2",
}
"""Plain problems that an algorithm for that operator should take in some type and order."""


def algorithms(
    device: Annotated[
        str | None, typer.Option(help="Only those of one device: cpu or cuda.")
    ] = None,
    errors: Annotated[
        bool,
        typer.Option(
            "--errors",
            help="Measure what each of the CPU errs by instead: a few layers in all types.",
        ),
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="With --errors: also write them there, in Markdown.")
    ] = None,
) -> None:
    """List every registered algorithm: what it computes, for what, and how exactly."""
    from convforge import registry
    from convforge.runtime import machine

    try:
        found = registry.algorithms("cpu" if errors else device)
    except ValueError as error:
        fail(error)
    if errors:
        from convforge.cli import errors as measured

        measured.show([one for one in found if documented(one)], page)
        return
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("algorithm", "computes", "directions", "types", "error", "docs"):
        view.add_column(heading, no_wrap=heading in ("algorithm", "docs"))
    for algorithm in found:
        view.add_row(
            algorithm.name,
            summary(algorithm),
            *abilities(algorithm, machine.cpu()),
            tolerance(algorithm),
            f"docs/algorithms/{stem(algorithm)}.md" if documented(algorithm) else "–",
        )
    console().print(view)


def summary(algorithm: Algorithm) -> str:
    """The first sentence of its file."""
    text = inspect.getdoc(sys.modules[type(algorithm).__module__]) or ""
    return " ".join(text.partition("\n\n")[0].split())


def abilities(algorithm: Algorithm, machine: Machine) -> tuple[str, str]:
    """Directions and element types, found by asking it about plain problems."""
    directions: dict[str, list[str]] = {}
    types: list[str] = []
    for operator, spelling in _PROBES.items():
        for direction in Direction:
            taken = [
                dtype
                for dtype in DType
                if any(
                    algorithm.supports(problem, machine) is None
                    for problem in _variants(parse(spelling), direction, dtype)
                )
            ]
            if taken:
                directions.setdefault(operator, []).append(str(direction))
                types += [str(dtype) for dtype in taken if str(dtype) not in types]
    words = (f"{operator}: {' '.join(names)}" for operator, names in directions.items())
    return "\n".join(words), " ".join(dtype for dtype in map(str, DType) if dtype in types)


def _variants(problem: Problem, direction: Direction, dtype: DType) -> Iterable[Problem]:
    """The problem in another direction and type, in both memory orders."""
    for order in Order:
        operands = {
            name: replace(getattr(problem, name), dtype=dtype, order=order)
            for name in ("x", "w", "y")
            if hasattr(problem, name)
        }
        if "w" in operands:
            operands["acc"] = dtype.accumulator
        try:
            yield replace(problem, direction=direction, **operands)
        except ValueError:  # pooling has no wgrad
            return


def tolerance(algorithm: Algorithm) -> str:
    """Its promise, in units of ``eps * conv(|x|, |w|)``."""
    promise = algorithm.tolerance
    words = f"≤ {promise.growth:g} units" + (" a plane" if promise.planewise else "")
    return words + (", exact on integers" if promise.exact else "")


def documented(algorithm: Algorithm) -> bool:
    """Whether it has a page: the reference is its own documentation."""
    return type(algorithm).__module__.startswith("convforge.kernels.")


def stem(algorithm: Algorithm) -> str:
    """Its file, without the variant."""
    return algorithm.name.split(".")[1]
