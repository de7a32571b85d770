"""``convforge bench --device cuda``: side by side with others on one GPU, in one run."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from convforge.cli.screen import console, fail, progress

if TYPE_CHECKING:
    from convforge.bench.device.measure import Rival
    from convforge.bench.device.timing import Laboratory

MINUTES = 7.0
BATCH = 32
RESULTS = Path("bench/results")


def run(
    device: str,
    words: list[str] | None,
    *,
    batch: int,
    minutes: float | None,
    quick: bool,
    json: Path | None,
    command: str,
) -> None:
    """Measure the GPU's ceilings, the cost of a launch, and layers as long as there is time."""
    begin = time.monotonic()
    from convforge.arrays import device_named
    from convforge.runtime.cuda.compiler import CudaUnavailableError

    screen = console()
    try:
        found = device_named(device)
    except (ValueError, CudaUnavailableError) as error:
        fail(f"no GPU to measure: {error}")
    if found is None:
        fail(f"device is {device!r}; wanted a GPU, such as 'cuda'")
    from convforge.bench.device import rivals
    from convforge.bench.device.laboratory import CupyLaboratory

    others, missing = rivals.load()
    for sentence in missing:
        screen.print(sentence, style="yellow")
    measure(
        CupyLaboratory(found),
        others,
        words,
        batch=batch,
        seconds=60 * (MINUTES if minutes is None else minutes),
        quick=quick,
        json=json if json is not None or not RESULTS.is_dir() else RESULTS,
        command=command,
        begin=begin,
        more=rivals.versions(others),
    )


def measure(
    laboratory: Laboratory,
    others: list[Rival],
    words: list[str] | None,
    *,
    batch: int,
    seconds: float,
    quick: bool,
    json: Path | None,
    command: str,
    begin: float,
    more: dict[str, Any],
    probes: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Everything but finding the GPU; prints tables last, and returns the record."""
    from convforge.bench import suites
    from convforge.bench.device import layers, report, timing
    from convforge.bench.device.measure import overheads, run_all
    from convforge.bench.device.probes import ceilings
    from convforge.bench.device.record import circumstances

    screen = console()
    method = timing.QUICK if quick else timing.STANDARD
    try:
        every = suites.resolve(words) if words else tuple(layers.layers(batch))
    except ValueError as error:
        fail(error)
    with progress(screen) as before_each:
        before_each("ceilings")
        highest = ceilings(laboratory, method, **(probes or {}))
        before_each("launches")
        launches = list(overheads(laboratory))
        measured = list(
            run_all(
                laboratory,
                every,
                others,
                highest,
                method,
                seconds=seconds,
                before_each=before_each,
                begin=begin,
            )
        )
    facts = circumstances(laboratory.device, command)
    facts["versions"] |= more
    record = {
        **facts,
        "seconds": time.monotonic() - begin,
        "left_out": len(every) - len(measured),
        "batch": batch,
        "tf32": False,
        "cudnn_benchmark": True,
        "method": asdict(method),
        **report.record(measured, launches, highest),
    }
    if json is not None:
        screen.print(f"written: {report.write(json, record)}")
    for note in report.notes(measured):
        screen.print(Text(note, style="yellow"))
    screen.print(report.ceilings_line(highest))
    screen.print(report.overheads_table(launches))
    screen.print(report.layers_table(measured, str(facts["device"]["name"])))
    screen.print(
        f"{len(measured)} layers in {record['seconds']:.0f} s, {record['left_out']} left out"
    )
    return record
