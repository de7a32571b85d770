"""Four layers of ResNet-50 on every algorithm: speed, memory, error, and the choice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from convforge import registry
from convforge.bench.ours import Convforge, able
from convforge.bench.rows import Row
from convforge.bench.timer import STANDARD, Timing, race
from convforge.cli.info import binary_size
from convforge.plan import Policy, plan
from convforge.problem import Problem, parse
from convforge.runtime import machine
from convforge.runtime.threads import get_num_threads
from convforge.testing import oracle
from convforge.testing.data import operands

LAYERS = {
    "conv1, 7x7 stride 2": "fprop:f32:nhwc-krsc:n1c3h224w224_k64r7s7_st2x2_p3x3",
    "conv2, 3x3": "fprop:f32:nhwc-krsc:n1c64h56w56_k64r3s3_p1x1",
    "conv4, 1x1": "fprop:f32:nhwc-krsc:n1c1024h14w14_k256r1s1",
    "conv5, 3x3": "fprop:f32:nhwc-krsc:n1c512h7w7_k512r3s3_p1x1",
}
"""He, Zhang, Ren, Sun 2016, Deep Residual Learning, arXiv:1512.03385."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One algorithm on one problem, weights prepared."""

    timing: Timing
    workspace_bytes: int
    error_units: float


def run(screen: Console, out: Path) -> list[Path]:
    """Print one table a layer; saves no picture."""
    screen.rule("[bold]four layers, every algorithm", align="left")
    threads = get_num_threads()
    peak = machine.peak_gflops("f32", threads)
    screen.print(
        f"{machine.cpu_name()}, {threads} threads, measured peak {peak:.0f} GFLOP/s. Error is in "
        "units of eps * conv(|x|, |w|), against float64."
    )
    # No thread of its own: on two cores a redraw would be measured.
    with Progress(console=screen, transient=True, auto_refresh=False) as progress:
        for name, spelling in progress.track(LAYERS.items(), description="measuring"):
            progress.refresh()
            problem = parse(spelling)
            measured = compare(problem)
            progress.console.print(Text(f"{name}: {problem}", style="bold"))
            progress.console.print(table(problem, measured, peak))
    return []


def compare(problem: Problem) -> dict[str, Measured]:
    """Every algorithm that can run the problem, raced against each other."""
    data = operands(problem)
    runners = {name: Convforge(Policy(algorithm=name)) for name in able(problem)}
    calls = {
        name: runner.calls(problem, data, [Row.WARM])[Row.WARM] for name, runner in runners.items()
    }
    timings = race({name: call.run for name, call in calls.items()}, STANDARD)
    return {
        name: Measured(
            timing=timings[name],
            workspace_bytes=runners[name].plan(problem).workspace_bytes,
            error_units=oracle.worst(problem, call.read(call.run()), data).units,
        )
        for name, call in calls.items()
    }


def table(problem: Problem, measured: dict[str, Measured], peak: float) -> Table:
    """Every registered algorithm: what was measured, or why it refused; the choice, and why."""
    explanation = plan(problem).explain()
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    view.add_column("algorithm", no_wrap=True)
    for heading in ("ms", "GFLOP/s", "of peak", "workspace", "error"):
        view.add_column(heading, justify="right", no_wrap=True)
    view.add_column("chosen, because")
    best = explanation.candidates[0]
    for algorithm in registry.algorithms("cpu"):
        one = measured.get(algorithm.name)
        if one is None:
            refusal = dict(explanation.rejected)[algorithm.name]
            view.add_row(algorithm.name, *["–"] * 5, f"refused: {refusal}", style="dim")
            continue
        gflops = problem.flops / one.timing.median_s / 1e9
        chosen = algorithm.name == explanation.chosen
        view.add_row(
            algorithm.name,
            f"{one.timing.median_s * 1e3:.3g}",
            f"{gflops:.3g}",
            f"{gflops / peak:.0%}",
            binary_size(one.workspace_bytes),
            f"{one.error_units:.2f}",
            f"predicted {best.time_ms:.3g} ms, {best.why}" if chosen else "",
            style="bold green" if chosen else "",
        )
    return view
