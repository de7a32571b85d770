"""Where a tile's rows point: the source pixel under each tap of a grid, the output pixel."""

from __future__ import annotations

from math import prod

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._gather import Gather, Taps
from convforge.kernels.cpu._ir import at, broadcast, constant
from convforge.kernels.cpu._tile import tile_rows
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import device
from convforge.runtime.rawmem import store_word

GRID = Layout(
    "Grid",
    "pixels taps lines lines_at image_bytes plane_bytes row_bytes pixel_bytes "
    "source_d source_h source_w grid_d grid_h grid_w step_d step_h step_w "
    "low_d low_h low_w high_d high_h high_w "
    "dest_image dest_d dest_h dest_w jump_d jump_h jump_w first_d first_h first_w",
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
    }
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


COLUMNS = 6
"""Tables of a tile, each one int64 a row: pointer, clipped pointer, d, h, w, destination pixel."""


@device
def locate(tile, g, source, pixel, count, table):
    """Fill the tables of a tile at ``pixel``.

    Returns whether no tap leaves the source to the left or right, and whether none leaves it.

    Rows from ``count`` on repeat the last pixel, so that they read valid memory; nobody stores
    them.
    """
    rows = tile_rows(tile)
    w = pixel % g.grid_w
    rest = pixel // g.grid_w
    h = rest % g.grid_h
    rest //= g.grid_h
    d = rest % g.grid_d
    n = rest // g.grid_d
    across, inside = True, True
    for i in range(rows):
        source_d, source_h, source_w = d * g.step_d, h * g.step_h, w * g.step_w
        across &= (source_w + g.low_w >= 0) & (source_w + g.high_w < g.source_w)
        inside &= (
            (source_h + g.low_h >= 0)
            & (source_h + g.high_h < g.source_h)
            & (source_d + g.low_d >= 0)
            & (source_d + g.high_d < g.source_d)
        )
        place = table + 8 * i
        store_word(
            place,
            source
            + n * g.image_bytes
            + source_d * g.plane_bytes
            + source_h * g.row_bytes
            + source_w * g.pixel_bytes,
        )
        store_word(place + 16 * rows, source_d)
        store_word(place + 24 * rows, source_h)
        store_word(place + 32 * rows, source_w)
        height = (g.first_d + d * g.jump_d) * g.dest_h + g.first_h + h * g.jump_h
        dest = height * g.dest_w + g.first_w + w * g.jump_w
        store_word(place + 40 * rows, n * g.dest_image + dest)
        if i + 1 < count:
            w += 1
            if w == g.grid_w:
                w = 0
                h += 1
                if h == g.grid_h:
                    h = 0
                    d += 1
                    if d == g.grid_d:
                        d = 0
                        n += 1
    return across, across & inside


@intrinsic
def clip(context, tile, grid, tap, table, zeros):
    """Fill the clipped pointers of a tile for one tap: ``zeros`` where it leaves the source.

    Returns whether it stays inside for any row.

    All rows at once, in vectors of int64: half the tiles of a padded image touch its border.
    """

    def codegen(context, builder, signature, args):
        _, grid_address, tap_address, table, zeros = args
        word = ir.IntType(64)
        words = ir.VectorType(word, tile.rows)

        def field(layout, address, name):
            place = builder.add(address, constant(8 * layout.fields.index(name)))
            return broadcast(builder, builder.load(at(builder, place, word)), words)

        def column(number):
            place = builder.add(table, constant(8 * tile.rows * number))
            value = builder.load(at(builder, place, words))
            value.align = 8
            return value

        inside = None
        for number, axis in ((2, "d"), (3, "h"), (4, "w")):
            index = builder.add(column(number), field(TAP, tap_address, axis))
            # Unsigned, a negative index is larger than any extent.
            within = builder.icmp_unsigned("<", index, field(GRID, grid_address, f"source_{axis}"))
            inside = within if inside is None else builder.and_(inside, within)
        moved = builder.add(column(0), field(TAP, tap_address, "source_bytes"))
        pointers = builder.select(inside, moved, broadcast(builder, zeros, words))
        target = builder.add(table, constant(8 * tile.rows))
        builder.store(pointers, at(builder, target, words)).align = 8
        bits = ir.IntType(tile.rows)
        return builder.icmp_unsigned("!=", builder.bitcast(inside, bits), ir.Constant(bits, 0))

    return types.boolean(tile, grid, tap, types.int64, types.int64), codegen
