"""Which elements of an operand lie in which tile, and how they get there.

A tile covers ``size`` places of the problem's dense grid, in which neighbouring outputs of stride 1
are neighbours. Elements of an operand are ``spacing`` places apart on it: the dilation for filters,
the stride for dy, 1 for x. Tile number ``i`` of an axis begins at place ``i * step + first``;
``window`` places of it are filled, the others are zero. Elements that no result depends on are not
read: those in front of the first that is are ``skipped``, and counting begins behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

from convforge.kernels.cpu._block import block_load, block_transpose
from convforge.kernels.cpu._copy import clear_elements, copy_elements
from convforge.kernels.cpu._fft_tile import row_bytes
from convforge.kernels.cpu._vector import (
    itemsize,
    lanes,
    load,
    load_first,
    load_scalar,
    scalar,
    store,
    store_scalar,
    vector_bytes,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import device
from convforge.runtime.rawmem import clear_bytes

_WINDOW = Layout("Window", "tiles step first window skipped size spacing flip stride")
window_view = _WINDOW.view
WINDOW_BYTES = _WINDOW.nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One axis of an operand as its tiles see it.

    Attributes:
        tiles: Tiles along the axis. step: Places from one to the next. first: Place of the first.
        window: Places of a tile that are filled. skipped: Elements in front of those that are
            read. size: How many are read.
        spacing: Places from an element to the next. flip: Last element first.
        stride: Bytes from an element to the next.
    """

    tiles: int = 1
    step: int = 0
    first: int = 0
    window: int = 1
    skipped: int = 0
    size: int = 1
    spacing: int = 1
    flip: bool = False
    stride: int = 0

    def pack(self) -> bytes:
        """The struct."""
        return _WINDOW.pack(**{name: int(getattr(self, name)) for name in _WINDOW.fields})


@device
def span(w, number):
    """(first element in a tile, how many, place of the first): of tile ``number``."""
    begin = number * w.step + w.first
    low = max(0, (begin + w.spacing - 1) // w.spacing)
    high = min(w.size, (begin + w.window + w.spacing - 1) // w.spacing)
    return w.skipped + low, max(0, high - low), low * w.spacing - begin


@device
def _load_row(kind, target, target_step, source, source_step, lane_bytes, count, width):
    """``count`` elements of a row, ``width`` lanes each."""
    size = itemsize(kind)
    if lane_bytes == size:
        if width >= lanes(kind):
            for i in range(count):
                store(target + i * target_step, load(kind, source + i * source_step))
        else:
            for i in range(count):
                value = load_first(kind, source + i * source_step, width)
                store(target + i * target_step, value)
    elif source_step == size:
        for i in range(0, count, lanes(kind)):
            left = min(lanes(kind), count - i)
            block = block_load(kind, source + i * size, lane_bytes, width, left)
            block = block_transpose(kind, block)
            for j in range(left):
                store(target + (i + j) * target_step, block[j])
    else:
        for i in range(count):
            for lane in range(width):
                value = load_scalar(kind, source + i * source_step + lane * lane_bytes)
                store_scalar(kind, target + i * target_step + lane * size, value)
            for lane in range(width, lanes(kind)):
                store_scalar(kind, target + i * target_step + lane * size, scalar(kind, 0))


@device
def load_tile(kind, t, d, h, w, number, tile, source, lane_bytes, width):
    """Fill a tile; the rows that may hold anything but zeros are those from and to the result.

    Args:
        t: View of the tile's sizes. d, h, w: Windows of the axes. number: Which tile.
        source: Address of the first lane's first element. width: Lanes there are.

    Returns:
        First and last (exclusive) plane, first and last row of a plane that is not zero.
    """
    across = w.tiles * h.tiles
    low_d, count_d, place_d = span(d, number // across)
    low_h, count_h, place_h = span(h, number // w.tiles % h.tiles)
    low_w, count_w, place_w = span(w, number % w.tiles)
    row = row_bytes(kind, t)
    if count_d < t.D or count_h < t.H or count_w < t.W:
        clear_bytes(tile, t.D * t.H * row)
    if count_d == 0 or count_h == 0 or count_w == 0:
        return 0, 0, 0, 0
    step = w.spacing * vector_bytes(kind)
    if w.flip:
        place_w += (count_w - 1) * w.spacing
        step = -step
    source += low_d * d.stride + low_h * h.stride + low_w * w.stride
    for i in range(count_d):
        at_d = place_d + (count_d - 1 - i if d.flip else i) * d.spacing
        for j in range(count_h):
            at_h = place_h + (count_h - 1 - j if h.flip else j) * h.spacing
            target = tile + (at_d * t.H + at_h) * row + place_w * vector_bytes(kind)
            origin = source + i * d.stride + j * h.stride
            _load_row(kind, target, step, origin, w.stride, lane_bytes, count_w, width)
    last_d = place_d + (count_d - 1) * d.spacing + 1
    last_h = place_h + (count_h - 1) * h.spacing + 1
    return place_d, last_d, place_h, last_h


@device
def _load_lines(kind, w, first, width, target, source, staging):
    """Row of as many neighbouring tiles as there are lanes; ``source`` is element 0."""
    size = itemsize(kind)
    begin, end = first * w.step + w.first, (first + width - 1) * w.step + w.first + w.window
    lines, line_bytes = source + (w.skipped + begin) * w.stride, w.step * w.stride
    if begin < 0 or end > w.size or w.stride != size:
        lines, line_bytes = staging, w.window * size
        for lane in range(width):
            low, count, place = span(w, first + lane)
            line, origin = staging + lane * line_bytes, source + low * w.stride
            clear_elements(kind, line, w.window)
            if w.stride == size:
                copy_elements(kind, origin, line + place * size, count)
            else:
                for i in range(count):
                    value = load_scalar(kind, origin + i * w.stride)
                    store_scalar(kind, line + (place + i) * size, value)
    _load_row(kind, target, vector_bytes(kind), lines, size, line_bytes, w.window, width)


@device
def load_tiles(kind, t, d, h, w, tile_d, tile_h, first, width, tile, source, staging):
    """Fill a tile whose lanes are ``width`` neighbours along the last axis, from ``first`` on.

    Their elements must lie one place apart on the last axis. Staging has room for a row.

    Returns:
        As :func:`load_tile`.
    """
    low_d, count_d, place_d = span(d, tile_d)
    low_h, count_h, place_h = span(h, tile_h)
    row = row_bytes(kind, t)
    if count_d < t.D or count_h < t.H:
        clear_bytes(tile, t.D * t.H * row)
    for i in range(count_d):
        for j in range(count_h):
            target = tile + ((place_d + i * d.spacing) * t.H + place_h + j * h.spacing) * row
            origin = source + (low_d + i) * d.stride + (low_h + j) * h.stride
            _load_lines(kind, w, first, width, target, origin, staging)
    last_d = place_d + (count_d - 1) * d.spacing + 1
    last_h = place_h + (count_h - 1) * h.spacing + 1
    return place_d, last_d, place_h, last_h
