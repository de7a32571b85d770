"""Where commands print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

_PIPE_WIDTH = 150
"""Columns where the output is no terminal: tables must not be cut in a log."""


def console() -> Console:
    """Standard output."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def fail(problem: Exception | str) -> NoReturn:
    """Say what is wrong on standard error, and end with status 2."""
    Console(stderr=True, highlight=False).print(f"[red]error:[/] {escape(str(problem))}")
    raise typer.Exit(2)


@contextmanager
def progress(screen: Console) -> Iterator[Callable[[str], None]]:
    """A line that says what is being measured, drawn by no thread of its own."""
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        yield lambda label: live.update(Text(f"measuring {label} …", style="dim"), refresh=True)
