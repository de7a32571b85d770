"""``convforge explain``: which algorithm would run a problem, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from convforge.cli.info import binary_size
from convforge.cli.screen import console, fail

if TYPE_CHECKING:
    from convforge.plan import Explanation, Plan


def explain(
    problem: Annotated[
        str, typer.Argument(help="Such as fprop:f32:nhwc-krsc:n1c64h56w56_k64r3s3_p1x1")
    ],
    algorithm: Annotated[
        str | None, typer.Option(help="A name or glob; never silently replaced.")
    ] = None,
    accuracy: Annotated[
        str | None, typer.Option(help="'strict', 'fast', or the largest error in units.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of a call.")] = None,
    workspace_limit: Annotated[int, typer.Option(help="Bytes of scratch memory.")] = 1 << 30,
    strict_nan: Annotated[bool, typer.Option(help="NaN stays in its own window.")] = False,
    batch_invariant: Annotated[bool, typer.Option(help="Same bits for any batch.")] = False,
) -> None:
    """Show every algorithm for a problem: its predicted time or its refusal, and the choice."""
    from convforge.plan import Policy, plan

    try:
        policy = Policy(
            algorithm=algorithm,
            accuracy=_accuracy(accuracy),
            threads=threads,
            workspace_limit=workspace_limit,
            strict_nan=strict_nan,
            batch_invariant=batch_invariant,
        )
        found = plan(problem, policy)
    except ValueError as error:
        fail(error)
    screen = console()
    screen.print(Text(str(found.problem), style="bold"))
    screen.print(candidates(found.explain()))
    memory = binary_size(found.workspace_bytes)
    config = "" if found.config is None else f", {found.config}"
    screen.print(Text(f"{found.algorithm}, workspace {memory}{config}", style="bold"))
    screen.print(steps(found))


def _accuracy(word: str | None) -> str | float | None:
    try:
        return word if word is None else float(word)
    except ValueError:
        return word


def candidates(explanation: Explanation) -> Table:
    """Who could run it, who refused, who was chosen."""
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    view.add_column("")
    view.add_column("algorithm", no_wrap=True)
    view.add_column("predicted\nms", justify="right")
    view.add_column("why")
    for candidate in explanation.candidates:
        chosen = candidate.algorithm.name == explanation.chosen
        view.add_row(
            "▶" if chosen else "",
            candidate.algorithm.name,
            f"{candidate.time_ms:.3g}",
            candidate.why,
            style="bold green" if chosen else "",
        )
    for name, refusal in explanation.rejected:
        view.add_row("", name, "–", Text(f"refused: {refusal}"), style="dim")
    return view


def steps(plan: Plan) -> Table:
    """The launches of the chosen algorithm: first those that prepare its weights."""
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    view.add_column("step", no_wrap=True)
    view.add_column("kernel", no_wrap=True)
    for heading in ("tasks", "Mflop", "bytes"):
        view.add_column(heading, justify="right")
    launches = list(plan.program.steps)
    if plan.weight_format is not None:
        launches = [*plan.weight_format.pack.steps, *launches]
    for step in launches:
        view.add_row(
            step.name,
            step.kernel.name,
            f"{step.tasks}",
            f"{step.cost.flops / 1e6:.3g}",
            binary_size(step.cost.bytes),
        )
    return view
