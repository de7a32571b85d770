"""``convforge verify``: does this machine's GPU compute what it should?"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from convforge.cli.screen import console, fail, progress

if TYPE_CHECKING:
    from convforge.runtime.cuda.device import Device
    from convforge.testing.verify import Summary, Verdict

_SHOWN = 20
"""Complaints that are printed; the file has them all."""


def verify(
    minutes: Annotated[float, typer.Option(help="Begin no case after this long.")] = 7.0,
    device: Annotated[str, typer.Option(help="Which GPU.")] = "cuda",
    algorithm: Annotated[str | None, typer.Option(help="A name or glob; else all.")] = None,
    cases: Annotated[int | None, typer.Option(help="At most so many cases.")] = None,
    seed: Annotated[int, typer.Option(help="Of the numbers.")] = 0,
    emulated: Annotated[
        bool, typer.Option("--emulated", help="Judge the emulated device, where no GPU is.")
    ] = False,
    emulator: Annotated[
        bool, typer.Option(help="Run the emulator beside the GPU, with the same numbers.")
    ] = True,
    json: Annotated[
        Path | None,
        typer.Option(help="Also write every verdict to this file, or to a file in this folder."),
    ] = None,
) -> None:
    """Run every GPU algorithm's cases on the GPU, against the reference and the emulator.

    What is most worth knowing comes first. Ends with status 1 if anything disagrees.
    """
    from convforge import registry
    from convforge.bench.device.record import circumstances
    from convforge.bench.device.report import write
    from convforge.testing import verify as judge

    screen = console()
    begin = time.monotonic()
    with ExitStack() as stack:
        try:
            chosen = registry.find(algorithm or "*", "cuda")
            judged, beside = _devices(stack, device, emulated, emulator)
        except (ValueError, RuntimeError) as error:
            fail(error)
        every = judge.planned(judged, chosen, judge.problems(larger=not emulated))
        verdicts: list[Verdict] = []
        with progress(screen) as before_each:
            verdicts += judge.run(
                judged,
                every[:cases],
                emulator=beside,
                seconds=60 * minutes,
                seed=seed,
                before_each=before_each,
            )
            trained = _trained(judged, before_each) if algorithm is None else None
        found = judge.summaries(verdicts, every)
        words = ["convforge", "verify", f"--seed={seed}", f"--minutes={minutes:g}"]
        words += ["--emulated"] if emulated else [f"--device={device}"]
        words += [] if emulator else ["--no-emulator"]
        words += [f"--algorithm={algorithm}"] if algorithm else []
        words += [] if cases is None else [f"--cases={cases}"]
        record = {
            **circumstances(judged, shlex.join(words)),
            "seconds": round(time.monotonic() - begin, 1),
            "training": trained,
            "summaries": [asdict(one) for one in found],
            "verdicts": [asdict(one) for one in verdicts],
        }
    if json is not None:
        screen.print(f"written: {write(json, record, 'verify')}")
    for text in complaints(verdicts):
        screen.print(text)
    screen.print(summary_table(found, str(record["device"]["name"])))
    wrong = sum(one.wrong for one in found)
    if trained is not None:
        wrong += trained["wrong"]
        screen.print(trained["said"], style="red" if trained["wrong"] else "")
    done, left = sum(one.cases for one in found), sum(one.left_out for one in found)
    screen.print(
        f"{done} cases in {record['seconds']:.0f} s, {left} left out, {wrong or 'nothing'} wrong",
        style="red" if wrong or not done else "green",
    )
    if wrong or not done:
        raise typer.Exit(1)


def _trained(device: Device, before_each: Callable[[str], None]) -> dict[str, Any]:
    """Whether layers and optimisers do there what they do on the host."""
    from convforge.cli import training

    before_each("two steps of training")
    try:
        apart, name = training.difference(device.name)
        said = f"two steps of training: parameters differ from the host's by {apart:.1e} ({name})"
    except Exception as error:  # whatever CuPy comes up with
        apart, said = math.inf, f"two steps of training: {type(error).__name__}: {error}"
    return {"apart": apart, "said": said, "wrong": not apart <= training.MOST}


def _devices(
    stack: ExitStack, name: str, emulated: bool, emulator: bool
) -> tuple[Device, Device | None]:
    """What is judged, and the emulator beside it if there is one.

    Raises:
        ValueError, RuntimeError: There is no such device; says why, and what to do.
    """
    from convforge.arrays import device_named
    from convforge.runtime.cuda.compiler import CudaUnavailableError

    lacking = None
    if emulated or emulator:
        try:
            from convforge.testing.device import emulated_device, missing

            lacking = missing()
        except ImportError as error:
            lacking = str(error)
    if emulated:
        if lacking:
            raise ValueError(f"there is no emulated device: {lacking}")
        return stack.enter_context(emulated_device()), None
    try:
        judged = device_named(name)
    except CudaUnavailableError as error:
        raise ValueError(
            f"no GPU to verify: {error}. --emulated runs the same on the emulator"
        ) from None
    if judged is None:
        raise ValueError(f"device is {name!r}; wanted a GPU, such as 'cuda'")
    if not emulator:
        return judged, None
    if lacking:
        console().print(f"without the emulator: {lacking}", style="yellow")
        return judged, None
    return judged, stack.enter_context(emulated_device())


def complaints(verdicts: Iterable[Verdict]) -> list[Text]:
    """What was wrong, case by case."""
    wrong = [one for one in verdicts if one.wrong]
    lines = [
        Text(f"{one.algorithm} {one.problem}: {one.wrong}", style="red") for one in wrong[:_SHOWN]
    ]
    if len(wrong) > _SHOWN:
        lines.append(Text(f"and {len(wrong) - _SHOWN} more", style="red"))
    return lines


def summary_table(found: Sequence[Summary], title: str) -> Table:
    """A line an algorithm."""
    view = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "algorithm",
        "cases",
        "left out",
        "worst error",
        "promised",
        "exact on\nintegers",
        "bits of the\nemulator",
        "apart",
        "wrong",
    ):
        view.add_column(heading, justify="left" if heading == "algorithm" else "right")
    for one in found:
        view.add_row(
            one.algorithm,
            f"{one.cases}",
            f"{one.left_out}",
            f"{one.units:.2g}",
            f"{one.promised:g}",
            f"{one.exact}/{one.exact + one.not_exact}",
            f"{one.same_bits}/{one.emulated}" if one.emulated else "–",
            f"{one.apart:.2g}" if one.emulated else "–",
            f"{one.wrong}",
            style="red" if one.wrong else "",
        )
    return view
