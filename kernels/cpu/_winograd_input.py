"""Windows of the source to the transform domain: a block of tiles, all of a group's channels."""

from __future__ import annotations

from convforge.contract import Machine
from convforge.kernels.cpu._convert import vectors_of
from convforge.kernels.cpu._inside import fields_of, inside
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    store,
    vector_bytes,
    zeros,
)
from convforge.kernels.cpu._winograd_transform import reach, transform_input, window_side
from convforge.kernels.cpu._winograd_windows import WINDOWS_AHEAD, Windows, is_far
from convforge.runtime.args import Layout
from convforge.runtime.jit import device
from convforge.runtime.rawmem import prefetch

INPUT = Layout(
    "WinogradInput",
    "source_h source_w pad_h pad_w step_h step_w stride grid_h grid_w run_h run_w channels "
    "pixel_bytes row_bytes image_bytes tile_bytes plane_bytes ahead "
    "sign_d before_d behind_d sign_h before_h behind_h sign_w before_w behind_w",
)
input_view = INPUT.view
INPUT_BYTES = INPUT.nbytes


def pack_input(
    windows: Windows,
    stride: int,
    pixel_bytes: int,
    tile_bytes: int,
    plane_bytes: int,
    machine: Machine,
) -> bytes:
    """The struct ``INPUT``; ``pixel_bytes`` are those of all groups."""
    height, width = windows.source
    image_bytes = windows.depths * height * width * pixel_bytes
    return INPUT.pack(
        source_h=height,
        source_w=width,
        pad_h=windows.pad[0],
        pad_w=windows.pad[1],
        step_h=windows.step[0],
        step_w=windows.step[1],
        stride=stride,
        grid_h=windows.grid[0],
        grid_w=windows.grid[1],
        run_h=windows.run[0],
        run_w=windows.run[1],
        channels=windows.inputs,
        pixel_bytes=pixel_bytes,
        row_bytes=width * pixel_bytes,
        image_bytes=image_bytes,
        tile_bytes=tile_bytes,
        plane_bytes=plane_bytes,
        ahead=is_far(windows.images * image_bytes, machine),
        **fields_of(windows.around[-2:]),
    )


@device
def transform_tiles(kind, g, source, first, count, target, window):
    """``B^T d B`` of ``count`` tiles from number ``first`` on.

    Args:
        source: Address of the group's first channel in pixel 0 of the depth.
        target: Planes of tiles of channels.
        window: Scratch for a window of vectors, for what lies across a border.
    """
    square = window_side(kind) * window_side(kind) * vector_bytes(kind)
    last_h, last_w = (window_side(kind) - 1) * g.step_h, (window_side(kind) - 1) * g.step_w
    window_h, window_w = reach(kind) * g.step_h, reach(kind) * g.step_w
    image, rest = first // (g.grid_h * g.grid_w), first % (g.grid_h * g.grid_w)
    tile_h, tile_w = rest // g.grid_w, rest % g.grid_w
    for i in range(count):
        phase_h, phase_w = tile_h // g.run_h, tile_w // g.run_w
        h = phase_h * g.stride + (tile_h - phase_h * g.run_h) * window_h - g.pad_h
        w = phase_w * g.stride + (tile_w - phase_w * g.run_w) * window_w - g.pad_w
        whole = (h >= 0) & (h + last_h < g.source_h) & (w >= 0) & (w + last_w < g.source_w)
        pixel = source + image * g.image_bytes + h * g.row_bytes + w * g.pixel_bytes
        place = target + i * g.tile_bytes
        if not whole:
            for at in range(0, square, vector_bytes(kind)):
                store(window + at, zeros(kind))
        for channel in range(0, g.channels, lanes(kind)):
            left, at = g.channels - channel, channel * itemsize(kind)
            corner = pixel + at
            row_bytes, pixel_bytes = g.step_h * g.row_bytes, g.step_w * g.pixel_bytes
            if not whole or left < lanes(kind):
                _copy_inside(vectors_of(kind), g, corner, h, w, left, window_side(kind), window)
                corner, pixel_bytes = window, vector_bytes(kind)
                row_bytes = window_side(kind) * pixel_bytes
            if g.ahead:
                _expect_window(kind, g, pixel + at + WINDOWS_AHEAD * window_w * g.pixel_bytes)
            transform_input(kind, corner, row_bytes, pixel_bytes, place + at, g.plane_bytes)
        tile_w += 1
        if tile_w == g.grid_w:
            tile_w = 0
            tile_h += 1
            if tile_h == g.grid_h:
                tile_h = 0
                image += 1


@device
def _expect_window(kind, g, corner):
    """Ask for a vector of the pixels that the window before does not have.

    A window reads from as many places at once as it has pixels: no prefetcher follows.
    """
    side = window_side(kind)
    for i in range(side):
        for j in range(side - reach(kind), side):
            prefetch(corner + i * g.step_h * g.row_bytes + j * g.step_w * g.pixel_bytes)


@device
def _copy_inside(kind, g, corner, h, w, left, side, window):
    """A vector of channels of the pixels that are not zeros, to where they stand in a window."""
    for i in range(side):
        at_h = inside(h + i * g.step_h, g.source_h, g.sign_h, g.before_h, g.behind_h)
        if at_h < 0:
            continue
        for j in range(side):
            at_w = inside(w + j * g.step_w, g.source_w, g.sign_w, g.before_w, g.behind_w)
            if at_w < 0:
                continue
            place = corner + (at_h - h) * g.row_bytes + (at_w - w) * g.pixel_bytes
            to = window + (i * side + j) * vector_bytes(kind)
            if left >= lanes(kind):
                store(to, load(kind, place))
            else:
                store(to, load_first(kind, place, left))
