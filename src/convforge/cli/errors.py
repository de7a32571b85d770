"""``convforge algorithms --errors``: measured errors, for people and for the documentation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from convforge.cli.screen import console, progress

if TYPE_CHECKING:
    from convforge.contract import Algorithm
    from convforge.testing.errors import Measured

_HEADINGS = ("algorithm", "type", "error", "promised", "where it was largest")
_INTRODUCTION = """# Measured errors

The largest error of each algorithm in each type that rounds, on random numbers and a few layers:
dense, strided, grouped, with long sums, large filters and volumes, in all directions that it takes.
In units of `eps * conv(|x|, |w|)`, see the {doc}`../glossary`; *by plane* divides by the plane's
largest unit instead of the element's own. Written by
`convforge algorithms --errors --page docs/algorithms/errors.md`.
"""


def show(algorithms: Sequence[Algorithm], page: Path | None) -> None:
    """Measure, print, and write the page if there is to be one."""
    from convforge.testing.errors import measure

    screen = console()
    with progress(screen) as before_each:
        found = list(measure(algorithms, before_each))
    view = Table(*_HEADINGS, box=box.SIMPLE_HEAD, pad_edge=False)
    for one in found:
        view.add_row(*_cells(one))
    screen.print(view)
    if page is not None:
        page.write_text(markdown(found), encoding="utf-8")
        screen.print(f"written: {page}")


def markdown(found: Iterable[Measured]) -> str:
    """A table for each page of an algorithm, between comments by which that page includes it."""
    parts = [_INTRODUCTION]
    for stem, members in itertools.groupby(found, key=lambda one: one.algorithm.split(".")[1]):
        rows = [_HEADINGS, ["---"] * len(_HEADINGS)]
        rows += [(f"`{name}`", *rest, f"`{where}`") for name, *rest, where in map(_cells, members)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"## {stem}\n\n<!-- {stem} -->\n{table}\n<!-- end of {stem} -->\n")
    return "\n".join(parts)


def _cells(one: Measured) -> tuple[str, ...]:
    by_plane = " by plane" * one.planewise
    name = one.algorithm.partition(".")[2]
    return name, str(one.dtype), f"{one.units:.2g}", f"{one.promised:g}{by_plane}", one.problem
