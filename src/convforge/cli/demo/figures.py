"""How the demo's pictures look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREY = "#2a6f97", "#e07a3f", "#6b7280"
SIGNED = "RdBu_r"
"""Colours for numbers around zero: white is 0, red above, blue below."""
_STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def picture(path: Path, width: float, height: float, title: str) -> Iterator[Figure]:
    """A figure of this many inches, saved as PNG at the end."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(title, fontsize=14, fontweight="bold")
        yield figure
        figure.savefig(path)


def show(axes: Axes, image: NDArray[Any], **options: Any) -> None:
    """Show an image without a frame; ``(H, W)``, or ``(H, W, 3)`` for colours in [0, 1]."""
    axes.imshow(image, interpolation="nearest", **options)
    axes.set_axis_off()


def show_signed(axes: Axes, image: NDArray[Any], largest: float | None = None) -> None:
    """Show numbers around zero; ``largest`` is the magnitude that gets the full colour."""
    limit = float(np.abs(image).max()) if largest is None else largest
    show(axes, image, cmap=SIGNED, vmin=-limit, vmax=limit)
