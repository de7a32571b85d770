"""im2col: the source elements that each pixel of a grid meets, side by side in one row."""

from __future__ import annotations

from convforge.kernels.cpu._copy import clear_elements, copy_elements
from convforge.kernels.cpu._gather import TAP_BYTES, tap_view
from convforge.kernels.cpu._vector import itemsize
from convforge.problem import ConvProblem, PadMode
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

_MODES = (PadMode.ZEROS, PadMode.REFLECT, PadMode.REPLICATE, PadMode.CIRCULAR)
_REFLECT, _REPLICATE, _CIRCULAR = 1, 2, 3
PADDING = Layout("Padding", "d h w")
padding_view = PADDING.view
PADDING_BYTES = PADDING.nbytes


def pack_padding(problem: ConvProblem) -> bytes:
    """The struct ``PADDING``: the pad mode of each axis."""
    modes = [0] * (3 - problem.rank) + [_MODES.index(a.pad_mode) for a in problem.axes]
    return PADDING.pack(**dict(zip("dhw", modes, strict=True)))


@device
def _inside(index, size, mode):
    """The source index that stands at ``index``, -1 for a zero of the padding."""
    if 0 <= index < size:
        return index
    if mode == _REFLECT:
        return -index if index < 0 else 2 * (size - 1) - index
    if mode == _REPLICATE:
        return 0 if index < 0 else size - 1
    if mode == _CIRCULAR:
        return index + size if index < 0 else index - size
    return -1


@device
def lower(kind, g, modes, taps, source, pixel, count, run, first, last, target, row_bytes):
    """Columns ``first`` to ``last`` of the im2col matrix for ``count`` pixels.

    Column ``tap * run + c`` is channel c under that tap. Rows of the target are ``row_bytes``
    apart; columns beyond ``last`` are left alone.
    """
    size = itemsize(kind)
    w = pixel % g.grid_w
    rest = pixel // g.grid_w
    h = rest % g.grid_h
    rest //= g.grid_h
    d = rest % g.grid_d
    n = rest // g.grid_d
    for i in range(count):
        image = source + n * g.image_bytes
        row = target + i * row_bytes
        column = first
        while column < last:
            at = column // run
            skip = column - at * run
            length = min(run - skip, last - column)
            tap = tap_view(taps + at * TAP_BYTES)
            in_d = _inside(d * g.step_d + tap.d, g.source_d, modes.d)
            in_h = _inside(h * g.step_h + tap.h, g.source_h, modes.h)
            in_w = _inside(w * g.step_w + tap.w, g.source_w, modes.w)
            place = row + (column - first) * size
            if in_d < 0 or in_h < 0 or in_w < 0:
                clear_elements(kind, place, length)
            else:
                at = in_d * g.plane_bytes + in_h * g.row_bytes + in_w * g.pixel_bytes
                copy_elements(kind, image + at + skip * size, place, length)
            column += length
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
