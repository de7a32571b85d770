"""Which source rows a row of the target meets, and as which runs of memory they are read."""

from __future__ import annotations

from typing import NamedTuple

from convforge.kernels.cpu._vector import itemsize
from convforge.kernels.cpu._wide import ask
from convforge.kernels.cpu._windows import AXIS_BYTES, axis_view, meets
from convforge.runtime.jit import inlined

STORES_AHEAD = 1 << 11
"""Bytes between what is stored and what is asked for."""


class Rows(NamedTuple):
    """Source rows that a row of the target meets.

    Attributes:
        image: The image. d, h: Place of the target's row in it.
        first: First source row, counted over all images. depths, heights: How many there are.
        d_step, h_step: Rows from one to the next.
    """

    image: int
    d: int
    h: int
    first: int
    depths: int
    heights: int
    d_step: int
    h_step: int


class Box(NamedTuple):
    """Runs of adjacent elements, equally spaced: how many on three axes, and how many apart."""

    d: int
    h: int
    w: int
    d_step: int
    h_step: int
    w_step: int
    run_bytes: int


@inlined
def ask_behind(kind, g, source, rows, part, target, nbytes):
    """Ask for a part of the rows behind these, and for some bytes to be written later on.

    The next row of the target reads some of those rows. A store that misses the caches holds up
    all behind it.
    """
    if g.ahead_bytes:
        row = (rows.first + rows.heights) * g.from_w * g.channels
        ask(source + row * itemsize(kind) + part * g.ahead_bytes, g.ahead_bytes)
        ask(target + STORES_AHEAD, nbytes)


@inlined
def rows_met(g, axes, row):
    """:class:`Rows` of a row of the target, rows counted over all images."""
    rest = row // g.to_h
    image = rest // g.to_d
    return rows_at(g, axes, image, rest - image * g.to_d, row - rest * g.to_h)


@inlined
def rows_behind(g, axes, rows):
    """:class:`Rows` of the next row, without a division."""
    image, d, h = rows.image, rows.d, rows.h + 1
    if h == g.to_h:
        d, h = d + 1, 0
        if d == g.to_d:
            image, d = image + 1, 0
    return rows_at(g, axes, image, d, h)


@inlined
def rows_at(g, axes, image, d, h):
    """:class:`Rows` of one row of an image."""
    d_axis, h_axis = axis_view(axes), axis_view(axes + AXIS_BYTES)
    first_d, depths = meets(d_axis, d, g.backward)
    first_h, heights = meets(h_axis, h, g.backward)
    first = (image * g.from_d + first_d) * g.from_h + first_h
    return Rows(image, d, h, first, depths, heights, d_axis.step * g.from_h, h_axis.step)


@inlined
def box_of_pixels(kind, g, rows, columns, w_step):
    """The pixels, channels last, that a pixel meets: a run is the channels of one."""
    run_bytes = g.run * itemsize(kind)
    d_step, h_step = rows.d_step * g.from_w, rows.h_step * g.from_w
    return Box(rows.depths, rows.heights, columns, d_step, h_step, w_step, run_bytes)


@inlined
def box_of_rows(kind, g, rows):
    """The rows, channels first, that a row meets: a run is one row."""
    return Box(rows.depths, rows.heights, 1, rows.d_step, rows.h_step, 0, g.run * itemsize(kind))
