"""Windows of the source to the transform domain: a block of tiles, all of a group's channels."""

from __future__ import annotations

from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    store,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._winograd_transform import TAPS, outputs, transform_input
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

INPUT = Layout(
    "WinogradInput",
    "source_h source_w pad_h pad_w tiles_h tiles_w channels pixel_bytes row_bytes image_bytes "
    "tile_bytes plane_bytes",
)
input_view = INPUT.view
INPUT_BYTES = INPUT.nbytes


def pack_input(problem: ConvProblem, m: int, tile_bytes: int, plane_bytes: int) -> bytes:
    """The struct ``INPUT``; dgrad reads dy and pads it by what the filter reaches beyond."""
    fprop = problem.direction is Direction.FPROP
    extents = problem.size if fprop else problem.out
    pads = [a.pad_lo if fprop else TAPS - 1 - a.pad_lo for a in problem.axes]
    channels = problem.group_C if fprop else problem.group_K
    pixel_bytes = channels * problem.groups * problem.x.dtype.itemsize
    tiles = tiles_of(problem, m)
    return INPUT.pack(
        source_h=extents[0],
        source_w=extents[1],
        pad_h=pads[0],
        pad_w=pads[1],
        tiles_h=tiles[0],
        tiles_w=tiles[1],
        channels=channels,
        pixel_bytes=pixel_bytes,
        row_bytes=extents[1] * pixel_bytes,
        image_bytes=extents[0] * extents[1] * pixel_bytes,
        tile_bytes=tile_bytes,
        plane_bytes=plane_bytes,
    )


def tiles_of(problem: ConvProblem, m: int) -> tuple[int, int]:
    """Tiles of an image's output, down and across."""
    extents = problem.out if problem.direction is Direction.FPROP else problem.size
    return -(-extents[0] // m), -(-extents[1] // m)


@device
def transform_tiles(kind, g, source, first, count, target, window):
    """``B^T d B`` of ``count`` tiles from number ``first`` on.

    Args:
        source: Address of the group's first channel in pixel 0.
        target: Planes of tiles of channels.
        window: Scratch for a window of vectors, for what lies across a border.
    """
    m = outputs(kind)
    side = m + TAPS - 1
    image, rest = first // (g.tiles_h * g.tiles_w), first % (g.tiles_h * g.tiles_w)
    tile_h, tile_w = rest // g.tiles_w, rest % g.tiles_w
    for i in range(count):
        h, w = tile_h * m - g.pad_h, tile_w * m - g.pad_w
        inside = (h >= 0) & (h + side <= g.source_h) & (w >= 0) & (w + side <= g.source_w)
        pixel = source + image * g.image_bytes + h * g.row_bytes + w * g.pixel_bytes
        place = target + i * g.tile_bytes
        if not inside:
            for at in range(0, side * side * vector_bytes(kind), vector_bytes(kind)):
                store(window + at, zeros(kind))
        for channel in range(0, g.channels, lanes(kind)):
            left, at = g.channels - channel, channel * itemsize(kind)
            corner, row_bytes, pixel_bytes = pixel + at, g.row_bytes, g.pixel_bytes
            if not inside or left < lanes(kind):
                _copy_inside(kind, g, corner, h, w, left, window)
                corner, pixel_bytes = window, vector_bytes(kind)
                row_bytes = side * pixel_bytes
            transform_input(kind, corner, row_bytes, pixel_bytes, place + at, g.plane_bytes)
        tile_w += 1
        if tile_w == g.tiles_w:
            tile_w = 0
            tile_h += 1
            if tile_h == g.tiles_h:
                tile_h = 0
                image += 1


@device
def _copy_inside(kind, g, corner, h, w, left, window):
    """A vector of channels of the pixels that exist, to where they belong in a window."""
    side = outputs(kind) + TAPS - 1
    for i in range(max(0, -h), min(side, g.source_h - h)):
        for j in range(max(0, -w), min(side, g.source_w - w)):
            place = corner + i * g.row_bytes + j * g.pixel_bytes
            to = window + (i * side + j) * vector_bytes(kind)
            if left >= lanes(kind):
                store(to, load(kind, place))
            else:
                store(to, load_first(kind, place, left))
