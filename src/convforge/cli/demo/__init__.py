"""``convforge demo``: a photograph, a network that learns to read, and a choice of algorithms."""

from __future__ import annotations

import importlib
import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from convforge.cli.screen import console, fail

_NEEDED = {"matplotlib": "matplotlib", "skimage": "scikit-image", "sklearn": "scikit-learn"}


class Part(StrEnum):
    """One file of this folder each."""

    FILTERS = "filters"
    DIGITS = "digits"
    ALGORITHMS = "algorithms"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo-output"),
    part: Annotated[list[Part] | None, typer.Option(help="Only this part; repeatable.")] = None,
) -> None:
    """Filter a photograph, train a network on handwritten digits, compare algorithms."""
    absent = [name for module, name in _NEEDED.items() if not importlib.util.find_spec(module)]
    if absent:
        fail(f"the demo needs {', '.join(absent)}: pip install 'convforge[demo]'")
    out.mkdir(parents=True, exist_ok=True)
    screen = console()
    pictures: list[Path] = []
    for name in part or list(Part):
        try:
            pictures += importlib.import_module(f"convforge.cli.demo.{name}").run(screen, out)
        except RuntimeError as error:
            fail(error)
    if pictures:
        screen.rule("[bold]pictures", align="left")
        for picture in pictures:
            screen.print(str(picture.resolve()), soft_wrap=True)
