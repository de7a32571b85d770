"""Where a tile's rows point: the source pixel under each tap of a grid, the output pixel."""

from __future__ import annotations

from math import prod

from convforge.kernels.cpu._gather import Gather, Taps
from convforge.kernels.cpu._inside import fields_of
from convforge.kernels.cpu._rows import (
    both,
    every_row,
    for_all,
    for_any,
    load_rows,
    pick,
    plus,
    row_numbers,
    rows_bytes,
    times_plus,
    within,
)
from convforge.kernels.cpu._tile import Tile, zeros_count
from convforge.kernels.cpu._vector import store
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import device, inlined

GRID = Layout(
    "Grid",
    "pixels taps lines lines_at image_bytes plane_bytes row_bytes pixel_bytes "
    "source_d source_h source_w grid_d grid_h grid_w step_d step_h step_w "
    "low_d low_h low_w high_d high_h high_w "
    "dest_image dest_d dest_h dest_w jump_d jump_h jump_w first_d first_h first_w "
    "around sign_d before_d behind_d sign_h before_h behind_h sign_w before_w behind_w",
)
grid_view = GRID.view
GRID_BYTES = GRID.nbytes
TAP = Layout("Tap", "d h w source_bytes position")
tap_view = TAP.view
TAP_BYTES = TAP.nbytes


def pack_grid(
    gather: Gather,
    pixel_bytes: int,
    dest_image: int = 0,
    image_bytes: int = 0,
    lines: Taps = (),
) -> bytes:
    """The struct ``GRID``, after it the table of ``TAP``, and at ``lines_at`` in it another.

    Args:
        pixel_bytes: Bytes of a source pixel, all channels of all groups.
        dest_image: Destination rows of one image, if not its pixels.
        image_bytes: Bytes of a source image, if not those of its pixels.
        lines: Taps for the tiles that stay between the left and right edge, if not all of them.
    """
    row_bytes = gather.source[2] * pixel_bytes
    plane_bytes = gather.source[1] * row_bytes
    offsets = [offset for offset, _ in gather.taps] or [(0, 0, 0)]
    fields = {
        "pixels": gather.pixels,
        "taps": len(gather.taps),
        "lines": len(lines or gather.taps),
        "lines_at": len(gather.taps) * TAP_BYTES if lines else 0,
        "image_bytes": image_bytes or gather.source[0] * plane_bytes,
        "plane_bytes": plane_bytes,
        "row_bytes": row_bytes,
        "pixel_bytes": pixel_bytes,
        "dest_image": dest_image or prod(gather.dest),
        "around": bool(gather.around),
    }
    fields |= fields_of(gather.around)
    for i, axis in enumerate("dhw"):
        fields |= {
            f"source_{axis}": gather.source[i],
            f"grid_{axis}": gather.grid[i],
            f"step_{axis}": gather.step[i],
            f"low_{axis}": min(offset[i] for offset in offsets),
            f"high_{axis}": max(offset[i] for offset in offsets),
            f"dest_{axis}": gather.dest[i],
            f"jump_{axis}": gather.jump[i],
            f"first_{axis}": gather.first[i],
        }
    rows = [
        (d, h, w, d * plane_bytes + h * row_bytes + w * pixel_bytes, position)
        for (d, h, w), position in (*gather.taps, *lines)
    ]
    return GRID.pack(**fields) + pack_table(rows)


_COLUMNS = 6
"""Tables of a tile, each one int64 a row: pointer, clipped pointer, d, h, w, destination pixel."""


def table_bytes(tile: Tile) -> int:
    """Memory of the tables that :func:`locate` fills."""
    return _COLUMNS * 8 * tile.slots


@inlined
def clipped(tile, table):
    """Where the clipped pointers are."""
    return table + rows_bytes(tile)


@inlined
def destinations(tile, table):
    """Where the destination pixels are."""
    return table + 5 * rows_bytes(tile)


@inlined
def behind(tile, table):
    """The end of the tables."""
    return table + _COLUMNS * rows_bytes(tile)


@device
def locate(tile, g, source, pixel, count, table):
    """Fill the tables of a tile at ``pixel``.

    Returns whether no tap leaves the source to the left or right, and whether none leaves it.

    Rows from ``count`` on repeat the last pixel, so that they read valid memory; nobody stores
    them. All rows at once: one by one they take as long as a tenth of a small layer's products.
    """
    number = row_numbers(tile)
    w = pick(within(number, 0, count), number, every_row(tile, count - 1))
    w = plus(w, pixel % g.grid_w)
    line = pixel // g.grid_w
    h = every_row(tile, line % g.grid_h)
    plane = line // g.grid_h
    d = every_row(tile, plane % g.grid_d)
    n = every_row(tile, plane // g.grid_d)
    while not for_all(within(w, 0, g.grid_w)):
        w, h = _carry(w, h, g.grid_w)
        h, d = _carry(h, d, g.grid_h)
        d, n = _carry(d, n, g.grid_d)

    column = rows_bytes(tile)
    dest = times_plus(n, g.dest_image, every_row(tile, g.first_w))
    dest = times_plus(w, g.jump_w, dest)
    dest = times_plus(h, g.jump_h * g.dest_w, plus(dest, g.first_h * g.dest_w))
    plane = g.dest_h * g.dest_w
    dest = times_plus(d, g.jump_d * plane, plus(dest, g.first_d * plane))
    store(table + 5 * column, dest)

    zero = every_row(tile, 0)
    d, h, w = (
        times_plus(d, g.step_d, zero),
        times_plus(h, g.step_h, zero),
        times_plus(w, g.step_w, zero),
    )
    address = times_plus(n, g.image_bytes, every_row(tile, source))
    address = times_plus(w, g.pixel_bytes, address)
    address = times_plus(h, g.row_bytes, times_plus(d, g.plane_bytes, address))
    store(table, address)
    store(table + 2 * column, d)
    store(table + 3 * column, h)
    store(table + 4 * column, w)
    across = both(within(w, g.low_w, g.source_w), within(w, g.high_w, g.source_w))
    h_inside = both(within(h, g.low_h, g.source_h), within(h, g.high_h, g.source_h))
    d_inside = both(within(d, g.low_d, g.source_d), within(d, g.high_d, g.source_d))
    return for_all(across), for_all(both(across, both(h_inside, d_inside)))


@inlined
def _carry(low, high, extent):
    """One step of a carry from an axis to the next."""
    fits = within(low, 0, extent)
    return pick(fits, low, plus(low, -extent)), pick(fits, high, plus(high, 1))


@inlined
def clip(tile, g, tap, table, zeros):
    """Fill the clipped pointers of a tile for one tap: ``zeros`` where it leaves the source.

    Where something else than zeros stands outside, it is pointed at.

    Returns whether it stays inside for any row, or products with ``zeros`` count as well.
    """
    column = rows_bytes(tile)
    if g.around:
        _point_around(tile, g, tap, table, zeros)
        return True
    d = within(load_rows(tile, table + 2 * column), tap.d, g.source_d)
    h = within(load_rows(tile, table + 3 * column), tap.h, g.source_h)
    w = within(load_rows(tile, table + 4 * column), tap.w, g.source_w)
    inside = both(both(d, h), w)
    address = plus(load_rows(tile, table), tap.source_bytes)
    store(table + column, pick(inside, address, every_row(tile, zeros)))
    return zeros_count(tile) or for_any(inside)


@device
def _point_around(tile, g, tap, table, zeros):
    """Fill the clipped pointers of a tile for one tap with what stands outside the source."""
    column = rows_bytes(tile)
    d = plus(load_rows(tile, table + 2 * column), tap.d)
    h = plus(load_rows(tile, table + 3 * column), tap.h)
    w = plus(load_rows(tile, table + 4 * column), tap.w)
    at_d = _stands_at(tile, d, g.source_d, g.sign_d, g.before_d, g.behind_d)
    at_h = _stands_at(tile, h, g.source_h, g.sign_h, g.before_h, g.behind_h)
    at_w = _stands_at(tile, w, g.source_w, g.sign_w, g.before_w, g.behind_w)
    address = plus(load_rows(tile, table), tap.source_bytes)
    address = times_plus(times_plus(d, -1, at_d), g.plane_bytes, address)
    address = times_plus(times_plus(h, -1, at_h), g.row_bytes, address)
    address = times_plus(times_plus(w, -1, at_w), g.pixel_bytes, address)
    inside = both(within(at_d, 0, g.source_d), within(at_h, 0, g.source_h))
    inside = both(inside, within(at_w, 0, g.source_w))
    store(table + column, pick(inside, address, every_row(tile, zeros)))


@inlined
def _stands_at(tile, at, size, sign, before, behind):
    """The index inside that stands at each row's, or one that is outside again."""
    beyond = pick(within(at, 0, 1 << 62), every_row(tile, behind), every_row(tile, before))
    return pick(within(at, 0, size), at, times_plus(at, sign, beyond))
