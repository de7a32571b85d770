"""im2col: the source elements that each pixel of a grid meets, side by side in one row."""

from __future__ import annotations

from convforge.kernels.cpu._convert import vectors_of
from convforge.kernels.cpu._copy import clear_elements, copy_elements
from convforge.kernels.cpu._gather import is_pointwise
from convforge.kernels.cpu._locate import TAP_BYTES, tap_view
from convforge.kernels.cpu._vector import itemsize
from convforge.problem import ConvProblem, Direction, PadMode
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

_MODES = (PadMode.ZEROS, PadMode.REFLECT, PadMode.REPLICATE, PadMode.CIRCULAR)
_REFLECT, _REPLICATE, _CIRCULAR = 1, 2, 3
LOWERING = Layout("Lowering", "mode_d mode_h mode_w run row_taps")
lowering_view = LOWERING.view
LOWERING_BYTES = LOWERING.nbytes


def pack_lowering(problem: ConvProblem, run: int) -> bytes:
    """The struct ``LOWERING`` for taps of ``run`` channels."""
    modes = [0] * (3 - problem.rank) + [_MODES.index(a.pad_mode) for a in problem.axes]
    fields = {f"mode_{axis}": mode for axis, mode in zip("dhw", modes, strict=True)}
    return LOWERING.pack(**fields, run=run, row_taps=_adjacent_taps(problem))


def _adjacent_taps(problem: ConvProblem) -> int:
    """Taps in a row whose source elements lie side by side, one where they do not."""
    last = problem.axes[-1]
    forward = problem.direction is not Direction.DGRAD and not is_pointwise(problem)
    return last.filter if forward and problem.groups == 1 and last.dilation == 1 else 1


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
def lower(kind, g, how, taps, source, pixel, count, first, last, target, row_bytes):
    """Columns ``first`` to ``last`` of the im2col matrix for ``count`` pixels.

    Column ``tap * run + c`` is channel c under that tap. ``row_taps`` taps in a row are adjacent
    in the source, and are copied at once where none of them leaves it. Rows of the target are
    ``row_bytes`` apart; columns beyond ``last`` are left alone.
    """
    _lower(vectors_of(kind), g, how, taps, source, pixel, count, first, last, target, row_bytes)


@device
def _lower(kind, g, how, taps, source, pixel, count, first, last, target, row_bytes):
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
            at = column // how.run
            skip = column - at * how.run
            tap = tap_view(taps + at * TAP_BYTES)
            left = how.row_taps - at % how.row_taps
            start_w = w * g.step_w + tap.w
            if start_w < 0 or start_w + left > g.source_w:
                left = 1
            length = min(left * how.run - skip, last - column)
            in_d = _inside(d * g.step_d + tap.d, g.source_d, how.mode_d)
            in_h = _inside(h * g.step_h + tap.h, g.source_h, how.mode_h)
            in_w = _inside(w * g.step_w + tap.w, g.source_w, how.mode_w)
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
