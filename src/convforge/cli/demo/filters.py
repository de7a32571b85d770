"""Hand-written filters on a photograph: one convolution, five feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import convforge
from convforge.cli.demo.figures import picture, show, show_signed

Array = NDArray[Any]

_SOBEL = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]) / 4
_BINOMIAL = np.array([1, 6, 15, 20, 15, 6, 1]) / 64
FILTERS = {
    "horizontal edges": _SOBEL,
    "vertical edges": _SOBEL.T,
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "blur": np.outer(_BINOMIAL, _BINOMIAL),
    "emboss": np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
}
"""Their sum is 0 where they look for edges, and 1 where they keep the image's brightness."""
_SIZE = 7


def run(screen: Console, out: Path) -> list[Path]:
    """Filter the photograph and save all maps as one picture."""
    from skimage import data

    screen.rule("[bold]five filters on a photograph", align="left")
    photograph = data.astronaut().astype(np.float32) / 255
    maps = feature_maps(photograph)
    path = out / "filters.png"
    with picture(path, 11, 8, "Five filters, one convolution") as figure:
        grid = figure.subplots(2, 3).flat
        show(next(grid), photograph)
        figure.axes[0].set_title("photograph")
        tasks = track(FILTERS.items(), "drawing", console=screen, transient=True)
        for axes, (name, weights), feature in zip(grid, tasks, maps, strict=True):
            axes.set_title(name)
            _show_map(axes, weights, feature)
            _show_filter(axes, weights)
    height, width, _ = photograph.shape
    screen.print(
        f"conv2d of {width}x{height} pixels in three colours with {len(FILTERS)} filters of "
        f"{_SIZE}x{_SIZE}: the maps are in {path}"
    )
    return [path]


def feature_maps(photograph: Array) -> Array:
    """Filter each colour of a photograph.

    Args:
        photograph: Shape ``(H, W, 3)``.

    Returns:
        One image a filter, shape ``(filters, H, W, 3)``.
    """
    edge = _SIZE // 2
    mirrored = np.pad(photograph, ((edge, edge), (edge, edge), (0, 0)), mode="reflect")
    colours = np.ascontiguousarray(mirrored.transpose(2, 0, 1)[:, np.newaxis])
    bank = np.stack([_centred(weights) for weights in FILTERS.values()])[:, np.newaxis]
    maps = convforge.conv2d(colours, bank.astype(np.float32))  # (3, filters, H, W)
    return np.asarray(maps).transpose(1, 2, 3, 0)


def _centred(weights: Array) -> Array:
    """The filter in the middle of a larger one of zeros."""
    margin = (_SIZE - weights.shape[0]) // 2
    return np.pad(weights, margin)


def _show_map(axes: Axes, weights: Array, feature: Array) -> None:
    if abs(weights.sum()) < 1e-6:
        show_signed(axes, feature.mean(axis=-1), largest=0.5)
    else:
        show(axes, feature.clip(0, 1))


def _show_filter(axes: Axes, weights: Array) -> None:
    """The filter itself, small, in the corner of its map."""
    corner = axes.inset_axes((0.74, 0.02, 0.24, 0.24))
    show_signed(corner, _centred(weights))
    corner.set_axis_on()
    corner.set_xticks([])
    corner.set_yticks([])
    corner.grid(False)
    corner.spines[:].set_visible(True)
    corner.spines[:].set_color("#9ca3af")
