"""Where a tile's rows point: pixels of a grid, and the source pixel under each tap.

Fprop, dgrad and transposed convolution are one loop: for every pixel of a *grid*, sum over *taps*
of a source pixel times a slice of weights. They differ in tables alone. Fprop is one grid that
steps by the stride; dgrad with stride s is s phases per axis, each a unit-step grid with the taps
that reach it. One, two and three axes are the same with leading axes of extent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import at, broadcast, constant
from convforge.kernels.cpu._tile import tile_rows
from convforge.problem import Axis, ConvProblem, Direction
from convforge.runtime.args import Layout, pack_table
from convforge.runtime.jit import device
from convforge.runtime.rawmem import store_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """One grid: everything a kernel must know about space.

    Attributes:
        images: Images in the source and in the grid.
        source, grid, dest: Extents (D, H, W). step: Source pixels per grid step.
        jump, first: The grid's pixels in the destination: ``first + jump * i`` on each axis.
        taps: Offsets (d, h, w) of the source pixel, and the filter position it meets.
    """

    images: int
    source: tuple[int, ...]
    grid: tuple[int, ...]
    dest: tuple[int, ...]
    step: tuple[int, ...] = (1, 1, 1)
    jump: tuple[int, ...] = (1, 1, 1)
    first: tuple[int, ...] = (0, 0, 0)
    taps: tuple[tuple[tuple[int, ...], int], ...]

    @property
    def pixels(self) -> int:
        """Pixels of the grid over all images."""
        return self.images * prod(self.grid)


def _three(values: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Pad to three axes in front."""
    return (fill,) * (3 - len(values)) + tuple(values)


def is_pointwise(problem: ConvProblem) -> bool:
    """True for a 1x1 filter that meets every pixel once: then an image is one long row."""
    return all(
        a.filter == 1 and a.stride == 1 and not a.pad_lo and not a.pad_hi for a in problem.axes
    )


def gathers(problem: ConvProblem) -> tuple[Gather, ...]:
    """The grids of a problem, wgrad's being fprop's; they cover every output pixel once."""
    if is_pointwise(problem):
        row = (1, 1, prod(problem.size))
        taps = (((0, 0, 0), 0),)
        return (Gather(images=problem.N, source=row, grid=row, dest=row, taps=taps),)
    if problem.direction is not Direction.DGRAD:
        offsets = product(
            *([r * a.dilation - a.pad_lo for r in range(a.filter)] for a in problem.axes)
        )
        return (
            Gather(
                images=problem.N,
                source=_three(problem.size, 1),
                grid=_three(problem.out, 1),
                dest=_three(problem.out, 1),
                step=_three(tuple(a.stride for a in problem.axes), 1),
                taps=tuple((_three(offset, 0), tap) for tap, offset in enumerate(offsets)),
            ),
        )
    phases = product(*(range(min(a.stride, a.size)) for a in problem.axes))
    return tuple(_phase(problem, phase) for phase in phases)


def _phase(problem: ConvProblem, phase: tuple[int, ...]) -> Gather:
    """The pixels of dx that have the same remainder by the stride, and the taps they meet."""
    reached = [_reached(axis, start) for axis, start in zip(problem.axes, phase, strict=True)]
    taps = []
    for choice in product(*reached):
        tap = 0
        for (position, _), axis in zip(choice, problem.axes, strict=True):
            tap = tap * axis.filter + position
        taps.append((_three(tuple(offset for _, offset in choice), 0), tap))
    grid = tuple(
        -(-(axis.size - start) // axis.stride)
        for axis, start in zip(problem.axes, phase, strict=True)
    )
    return Gather(
        images=problem.N,
        source=_three(problem.out, 1),
        grid=_three(grid, 1),
        dest=_three(problem.size, 1),
        jump=_three(tuple(a.stride for a in problem.axes), 1),
        first=_three(phase, 0),
        taps=tuple(taps),
    )


def _reached(axis: Axis, start: int) -> list[tuple[int, int]]:
    """Filter positions that meet a phase, each with the offset into y."""
    ways = ((r, start + axis.pad_lo - r * axis.dilation) for r in range(axis.filter))
    return [(r, shift // axis.stride) for r, shift in ways if shift % axis.stride == 0]


GRID = Layout(
    "Grid",
    "pixels taps image_bytes plane_bytes row_bytes pixel_bytes "
    "source_d source_h source_w grid_d grid_h grid_w step_d step_h step_w "
    "low_d low_h low_w high_d high_h high_w "
    "dest_image dest_d dest_h dest_w jump_d jump_h jump_w first_d first_h first_w",
)
grid_view = GRID.view
GRID_BYTES = GRID.nbytes
TAP = Layout("Tap", "d h w source_bytes position")
tap_view = TAP.view
TAP_BYTES = TAP.nbytes


def pack_grid(gather: Gather, pixel_bytes: int, dest_image: int = 0, image_bytes: int = 0) -> bytes:
    """The struct ``GRID`` and after it the table of ``TAP``.

    Args:
        pixel_bytes: Bytes of a source pixel, all channels of all groups.
        dest_image: Destination rows of one image, if not its pixels.
        image_bytes: Bytes of a source image, if not those of its pixels.
    """
    row_bytes = gather.source[2] * pixel_bytes
    plane_bytes = gather.source[1] * row_bytes
    offsets = [offset for offset, _ in gather.taps] or [(0, 0, 0)]
    fields = {
        "pixels": gather.pixels,
        "taps": len(gather.taps),
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
        for (d, h, w), position in gather.taps
    ]
    return GRID.pack(**fields) + pack_table(rows)


COLUMNS = 6
"""Tables of a tile, each one int64 a row: pointer, clipped pointer, d, h, w, destination pixel."""


@device
def locate(tile, g, source, pixel, count, table):
    """Fill the tables of a tile at ``pixel``; true if no tap of it leaves the source.

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
    inside = True
    for i in range(rows):
        source_d, source_h, source_w = d * g.step_d, h * g.step_h, w * g.step_w
        inside &= (
            (source_w + g.low_w >= 0)
            & (source_w + g.high_w < g.source_w)
            & (source_h + g.low_h >= 0)
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
    return inside


@intrinsic
def clip(context, tile, grid, tap, table, zeros):
    """Fill the clipped pointers of a tile for one tap: ``zeros`` where it leaves the source.

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
        return context.get_dummy_value()

    return types.void(tile, grid, tap, types.int64, types.int64), codegen
