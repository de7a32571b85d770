"""``convforge bench``: side by side with other frameworks, in one process."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from convforge.cli.screen import console, fail, progress

if TYPE_CHECKING:
    from convforge.bench.groups import Group
    from convforge.bench.rows import Row, Runner
    from convforge.bench.timer import Method

_USUAL = "torch,onnxruntime"
_EVERYBODY = "torch,onnxruntime,openvino,ncnn,mnn"


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="A group, or suites and problem strings; 'foundation' if none. '?' lists them; "
            "'report' writes the page of what was measured."
        ),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Numbers of threads, such as 2,1 (default: all, then 1).")
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(help="Whom to compare with (default: torch,onnxruntime; groups: everybody)."),
    ] = None,
    rows: Annotated[str, typer.Option(help="What to time.")] = "functional,warm,cold",
    algorithm: Annotated[str | None, typer.Option(help="A name or glob (suites only).")] = None,
    layout: Annotated[
        str | None, typer.Option(help="nhwc or nchw, instead of the problem's own (suites only).")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Also write a file, or a file in this folder; groups go into one file, side by "
            "side. 'report' reads it (default: bench/results)."
        ),
    ] = None,
    page: Annotated[Path, typer.Option(help="Where 'report' writes.")] = Path(
        "docs/performance.md"
    ),
    minutes: Annotated[
        float | None, typer.Option(help="Begin nothing after this long (groups only).")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer and shorter rounds: a first look.")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            help="Measure this GPU, such as cuda, instead of the CPU: a list of layers, or suites "
            "and problem strings, next to PyTorch with cuDNN and to CuPy."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images of the list's layers (GPU only).")] = 32,
) -> None:
    """Time convforge next to its peers. Whoever disagrees with the reference gets no number."""
    if device is not None:
        from convforge.cli import bench_device

        given = {"device": device, "batch": batch, "minutes": minutes, "json": json}
        command = _command(shlex.join(what or []), quick=quick, **given)
        bench_device.run(
            device, what, batch=batch, minutes=minutes, quick=quick, json=json, command=command
        )
        return
    from convforge.bench import models, results, scaling, suites
    from convforge.bench import peers as rivals
    from convforge.bench.catalogue import GROUPS
    from convforge.bench.rows import Row
    from convforge.bench.timer import BRIEF, QUICK, STANDARD

    names = what or [suites.FOUNDATION]
    screen = console()
    if names == ["?"]:
        screen.print("\n".join([*GROUPS, scaling.GROUP, models.GROUP, *suites.names()]))
        return
    try:
        if names == ["report"]:
            _report(screen, json or Path("bench/results"), page)
            return
        counts = _counts(threads)
        wanted = [Row(row) for row in rows.split(",")]
        group = GROUPS.get(names[0]) if len(names) == 1 else None
        kept = group is not None or names in (
            [suites.FOUNDATION],
            [scaling.GROUP],
            [models.GROUP],
        )
        if json is not None and kept:
            results.read(json)  # refuses another kind of file before ten minutes are spent
        command = _command(
            names[0], threads=threads, peers=peers, minutes=minutes, quick=quick, json=json
        )
        if group is not None:
            _start_again(command, group.environment)
        usual = _USUAL if group is None else _EVERYBODY
        libraries = [name for name in (usual if peers is None else peers).split(",") if name]
        runners, missing = rivals.load(libraries)
        for sentence in missing:
            screen.print(sentence, style="yellow")
        method = QUICK if quick else STANDARD if group is None else BRIEF
        if group is not None:
            record = _group(screen, group, libraries, counts, method, minutes, command)
        elif names == [scaling.GROUP]:
            record = _scaling(screen, max(counts), method, command)
        elif names == [models.GROUP]:
            record = _models(screen, max(counts), QUICK if quick else BRIEF, minutes, command)
        elif kept:
            record = _foundation(screen, runners, counts, wanted, method, command)
        else:
            record = _suites(screen, names, algorithm, layout, runners, counts, wanted, method)
    except ValueError as error:
        fail(error)
    if json is not None:
        screen.print(f"written: {_write(json, names[0] if kept else None, record)}")


def _command(name: str, *, quick: bool, **options: object) -> str:
    """What to type to measure the same again."""
    words = ["convforge", "bench", *shlex.split(name), *(["--quick"] if quick else [])]
    for option, value in options.items():
        words += [] if value is None else [f"--{option}", str(value)]
    return shlex.join(words)


def _start_again(command: str, environment: Mapping[str, str]) -> None:
    """Run the command in this process's place with these variables, if some are missing."""
    if environment.items() <= os.environ.items():
        return
    from convforge.runtime import machine

    if machine.isa() not in ("avx2", "avx512"):
        raise ValueError(f"this machine has {machine.isa()}, and not AVX2")
    words = [sys.executable, "-m", "convforge.cli", *shlex.split(command)[1:]]
    os.execve(sys.executable, words, os.environ | environment)


def _write(path: Path, group: str | None, record: dict[str, Any]) -> Path:
    from convforge.bench import results
    from convforge.bench.record import write

    if group is None:
        return write(path, record, record["tables"][0]["name"])
    return results.merge(path, group, record)


def _report(screen: Console, folder: Path, page: Path) -> None:
    from convforge.bench import results

    try:
        from convforge.bench.page import plots, render
        from convforge.bench.plot import draw
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the page needs {error.name}, which is not installed: pip install 'convforge[report]'"
        ) from error
    measured = results.read(folder)
    if not measured["machines"]:
        raise ValueError(f"nothing was measured yet: no {folder}")
    page.write_text(render(measured), encoding="utf-8")
    screen.print(f"written: {page}")
    for name, series in plots(measured).items():
        draw(series, page.parent / name)
        screen.print(f"written: {page.parent / name}")


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
        with progress(screen) as before_each:
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


def _group(
    screen: Console,
    group: Group,
    libraries: list[str],
    counts: list[int],
    method: Method,
    minutes: float | None,
    command: str,
) -> dict[str, Any]:
    from convforge.bench import goals, groups
    from convforge.bench.record import group_record
    from convforge.bench.report import render, render_goals

    with progress(screen) as before_each:
        found = groups.run(
            group,
            peers=libraries,
            threads=counts,
            method=method,
            before_each=before_each,
            finished=lambda table: screen.print(render(table)),
            minutes=groups.MINUTES if minutes is None else minutes,
        )
    promised = list(goals.of_group(found.tables))
    screen.print(render_goals(promised))
    _print_trust(screen, found.itself)
    screen.print(f"{group.title}: {found.seconds / 60:.1f} minutes")
    return group_record(group, found, promised, method, command)


def _foundation(
    screen: Console,
    peers: list[Runner],
    counts: list[int],
    rows: list[Row],
    method: Method,
    command: str,
) -> dict[str, Any]:
    from convforge.bench import foundation, goals
    from convforge.bench.record import foundation_record
    from convforge.bench.report import render, render_calls, render_goals

    with progress(screen) as before_each:
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
    _print_trust(screen, found.itself)
    return foundation_record(found, promised, method, command)


def _scaling(screen: Console, threads: int, method: Method, command: str) -> dict[str, Any]:
    from convforge.bench import goals, scaling
    from convforge.bench.record import scaling_record
    from convforge.bench.report import render_goals, render_series

    with progress(screen) as before_each:
        found = scaling.run(threads=threads, method=method, before_each=before_each)
    promised = list(goals.of_scaling(found))
    screen.print(render_series(found.series))
    screen.print(render_goals(promised))
    return scaling_record(found, promised, method, command)


def _models(
    screen: Console, threads: int, method: Method, minutes: float | None, command: str
) -> dict[str, Any]:
    from convforge.bench import goals, models
    from convforge.bench.groups import MINUTES
    from convforge.bench.record import models_record
    from convforge.bench.report import render_goals, render_models

    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError("whole networks are PyTorch's, which is not installed") from None
    with progress(screen) as before_each:
        found = models.run(
            threads=threads,
            method=method,
            before_each=before_each,
            finished=lambda one: screen.print(render_models([one])),
            minutes=MINUTES if minutes is None else minutes,
        )
    promised = list(goals.of_models(found))
    screen.print(render_models(found))
    screen.print(render_goals(promised))
    return models_record(found, promised, method, command)


def _print_trust(screen: Console, itself: dict[int, float]) -> None:
    from convforge.bench.foundation import trusted

    for count, ratio in itself.items():
        plural = "s" * (count != 1)
        screen.print(f"identical code against itself, {count} thread{plural}: {ratio:.3f}")
    if not trusted(itself):
        screen.print("[yellow]the machine is too busy: identical code should measure 1.00 ± 0.03")
