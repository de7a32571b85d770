"""The commands, one file each.

What a command needs is imported inside it, so that ``convforge --help`` starts no compiler.
"""

from __future__ import annotations

import typer

from convforge.cli import algorithms, bench, demo, explain, info, verify

app = typer.Typer(
    help="Hand-written convolution and pooling kernels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for name, command in (
    ("info", info.info),
    ("explain", explain.explain),
    ("algorithms", algorithms.algorithms),
    ("bench", bench.bench),
    ("verify", verify.verify),
    ("demo", demo.demo),
):
    app.command(name)(command)
