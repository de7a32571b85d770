"""im2col: the source elements that each pixel of a grid meets, side by side in one row."""

from __future__ import annotations

from convforge.kernels.cpu._convert import vectors_of
from convforge.kernels.cpu._copy import clear_elements, copy_elements
from convforge.kernels.cpu._gather import is_pointwise
from convforge.kernels.cpu._inside import fields_of, inside, outside
from convforge.kernels.cpu._locate import TAP_BYTES, tap_view
from convforge.kernels.cpu._vector import itemsize
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

LOWERING = Layout(
    "Lowering",
    "run row_taps sign_d before_d behind_d sign_h before_h behind_h sign_w before_w behind_w",
)
lowering_view = LOWERING.view
LOWERING_BYTES = LOWERING.nbytes


def pack_lowering(problem: ConvProblem, run: int) -> bytes:
    """The struct ``LOWERING`` for taps of ``run`` channels."""
    fields = fields_of(tuple(outside(axis.pad_mode, axis.size) for axis in problem.axes))
    return LOWERING.pack(**fields, run=run, row_taps=_adjacent_taps(problem))


def _adjacent_taps(problem: ConvProblem) -> int:
    """Taps in a row whose source elements lie side by side, one where they do not."""
    last = problem.axes[-1]
    forward = problem.direction is not Direction.DGRAD and not is_pointwise(problem)
    return last.filter if forward and problem.groups == 1 and last.dilation == 1 else 1


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
            at_d, at_h = d * g.step_d + tap.d, h * g.step_h + tap.h
            in_d = inside(at_d, g.source_d, how.sign_d, how.before_d, how.behind_d)
            in_h = inside(at_h, g.source_h, how.sign_h, how.before_h, how.behind_h)
            in_w = inside(start_w, g.source_w, how.sign_w, how.before_w, how.behind_w)
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
