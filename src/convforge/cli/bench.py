"""``convforge bench``: side by side with other frameworks, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from convforge.cli.screen import console, fail

if TYPE_CHECKING:
    from convforge.bench.rows import Row, Runner
    from convforge.bench.timer import Method


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Suites or problem strings; 'foundation' if none. '?' lists suites."),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Numbers of threads, such as 2,1 (default: all, then 1).")
    ] = None,
    peers: Annotated[str, typer.Option(help="Whom to compare with.")] = "torch,onnxruntime",
    rows: Annotated[str, typer.Option(help="What to time.")] = "functional,warm,cold",
    algorithm: Annotated[str | None, typer.Option(help="A name or glob (suites only).")] = None,
    layout: Annotated[
        str | None, typer.Option(help="nhwc or nchw, instead of the problem's own (suites only).")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Also write a file, or a file in this folder.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer and shorter rounds: a first look.")] = False,
) -> None:
    """Time convforge next to its peers. Whoever disagrees with the reference gets no number."""
    from convforge.bench import peers as rivals
    from convforge.bench import suites
    from convforge.bench.rows import Row
    from convforge.bench.timer import QUICK, STANDARD

    names = what or [suites.FOUNDATION]
    screen = console()
    if names == ["?"]:
        screen.print("\n".join(suites.names()))
        return
    method = QUICK if quick else STANDARD
    try:
        counts = _counts(threads)
        wanted = [Row(row) for row in rows.split(",")]
        runners, missing = rivals.load(name for name in peers.split(",") if name)
        for sentence in missing:
            screen.print(sentence, style="yellow")
        if names == [suites.FOUNDATION]:
            record = _foundation(screen, runners, counts, wanted, method)
            name = suites.FOUNDATION
        else:
            record = _suites(screen, names, algorithm, layout, runners, counts, wanted, method)
            name = record["tables"][0]["name"]
    except ValueError as error:
        fail(error)
    if json is not None:
        from convforge.bench.record import write

        screen.print(f"written: {write(json, record, name)}")


def _counts(words: str | None) -> list[int]:
    from convforge.runtime import machine

    if words is None:
        return sorted({machine.cpu_count(), 1}, reverse=True)
    return [int(word) for word in words.split(",")]


def _suites(
    screen: Console,
    names: list[str],
    algorithm: str | None,
    layout: str | None,
    peers: list[Runner],
    counts: list[int],
    rows: list[Row],
    method: Method,
) -> dict[str, Any]:
    from convforge.bench import suites
    from convforge.bench.measure import tabulate
    from convforge.bench.ours import Convforge
    from convforge.bench.record import tables_record
    from convforge.bench.report import render
    from convforge.plan import Policy
    from convforge.problem import Order

    orders = {"nhwc": Order.CHANNELS_LAST, "nchw": Order.CHANNELS_FIRST}
    layers = suites.resolve(names)
    if layout is not None:
        if layout not in orders:
            raise ValueError(f"layout is {layout!r}; wanted nhwc or nchw")
        layers = suites.in_order(layers, orders[layout])
    name = "problems" if any(":" in word for word in names) else "_".join(names)
    tables = []
    for count in counts:
        with _progress(screen) as before_each:
            table = tabulate(
                name,
                name,
                layers,
                ours=Convforge(Policy(algorithm=algorithm)),
                peers=peers,
                rows=rows,
                threads=count,
                method=method,
                before_each=before_each,
            )
        screen.print(render(table))
        tables.append(table)
    return tables_record(tables, method)


def _foundation(
    screen: Console, peers: list[Runner], counts: list[int], rows: list[Row], method: Method
) -> dict[str, Any]:
    from convforge.bench import foundation, goals
    from convforge.bench.record import foundation_record
    from convforge.bench.report import render, render_calls, render_goals

    with _progress(screen) as before_each:
        found = foundation.run(
            peers=peers,
            threads=counts,
            rows=rows,
            method=method,
            before_each=before_each,
            finished=lambda table: screen.print(render(table)),
        )
    promised = goals.of(found)
    screen.print(render_calls(found.tiny))
    screen.print(render_goals(promised))
    for count, ratio in found.itself.items():
        plural = "s" * (count != 1)
        screen.print(f"identical code against itself, {count} thread{plural}: {ratio:.3f}")
    if not found.trustworthy:
        screen.print("[yellow]the machine is too busy: identical code should measure 1.00 ± 0.03")
    return foundation_record(found, promised, method)


@contextmanager
def _progress(screen: Console) -> Iterator[Callable[[str], None]]:
    """A line that says what is being measured, drawn by no thread of its own."""
    with Live(console=screen, auto_refresh=False, transient=True) as live:
        yield lambda label: live.update(Text(f"measuring {label} …", style="dim"), refresh=True)
