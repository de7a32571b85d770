"""A picture of the scaling, for light and dark pages alike: no background, colours in between.

Needs the ``report`` extra.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from convforge.bench.scaling import THREADS

Record = Mapping[str, Any]

_GREY = "#7a7a7a"
"""As far from white as from black."""
_COLOURS = ("#1f8fd0", "#d9731a")
_STYLE = {
    "svg.fonttype": "none",  # letters stay letters, of the page's own font
    "svg.hashsalt": "convforge",
    "font.size": 9,
    "text.color": _GREY,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def draw(series: Sequence[Record], path: Path) -> None:
    """Write the series of a record as a picture; the ending of the path says which kind."""
    panels = [list(one) for _, one in itertools.groupby(series, key=lambda s: s["quantity"])]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(2.1 * len(panels), 2.6), layout="constrained")
        for i, members in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), i + 1)
            for one, colour in zip(members, _COLOURS, strict=False):
                _draw_series(axes, one, colour)
            axes.set_xlabel(members[0]["quantity"])
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        figure.savefig(path, transparent=True, metadata=_undated(path))


def _draw_series(axes: Axes, one: Record, colour: str) -> None:
    """Times; for threads how many times faster than one, so that both ought to be straight."""
    at = [point["at"] for point in one["points"]]
    measured, straight = (
        [point[key] for point in one["points"]] for key in ("median_ms", "expected_ms")
    )
    if one["quantity"] == THREADS:
        measured, straight = ([measured[0] / ms for ms in times] for times in (measured, straight))
    axes.set_ylabel("times faster than one" if one["quantity"] == THREADS else "ms")
    axes.plot(at, straight, "--", color=colour, linewidth=0.8)
    axes.plot(at, measured, "o", color=colour, markersize=4, clip_on=False, label=one["algorithm"])


def _undated(path: Path) -> dict[str, None] | None:
    """So that equal numbers are equal files."""
    return {"Date": None} if path.suffix == ".svg" else None
