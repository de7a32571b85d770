"""One axis of a depthwise convolution as arithmetic progressions, the same for fprop and dgrad.

Output i of an axis reads the source at ``first + i * step + k * tap_step`` with the tap
``tap_first + k * tap_apart`` of the filter, k from 0 to ``taps``, where that lies inside it.
Fprop is one such progression. Dgrad reads the filter backwards; with stride s its outputs fall
into s *phases*, each a progression of step 1 with its own taps.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from convforge.kernels.cpu._slide import collect, slide, touch
from convforge.kernels.cpu._strip import Strip, strip_load, strip_pixels, strip_step, strip_taps
from convforge.kernels.cpu._vector import fma, load, store
from convforge.problem import Axis, ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined

_AXIS = Layout(
    "DepthwiseAxis",
    "count size first step taps tap_step tap_first tap_apart filter phases phase",
)
axis_view = _AXIS.view
AXIS_BYTES = _AXIS.nbytes
_ABSENT = Axis(size=1, filter=1)


def three_axes(problem: ConvProblem) -> tuple[Axis, ...]:
    """The axes d, h and w; one and two axes are three with leading ones of extent 1."""
    return (_ABSENT,) * (3 - problem.rank) + problem.axes


def extents(problem: ConvProblem) -> dict[str, int]:
    """Fields for the extents of what is read and of what is written."""
    fields: dict[str, int] = {}
    forward = problem.direction is not Direction.DGRAD
    for name, axis in zip("dhw", three_axes(problem), strict=True):
        source, target = (axis.size, axis.out) if forward else (axis.out, axis.size)
        fields |= {f"from_{name}": source, f"to_{name}": target}
    return fields


def phases(problem: ConvProblem, axis: Axis) -> int:
    """Progressions that the outputs of an axis fall into."""
    return axis.stride if problem.direction is Direction.DGRAD else 1


def pack_axis(problem: ConvProblem, axis: Axis) -> bytes:
    """A struct ``DepthwiseAxis`` for each phase."""
    if problem.direction is not Direction.DGRAD:
        return _AXIS.pack(
            count=axis.out,
            size=axis.size,
            first=-axis.pad_lo,
            step=axis.stride,
            taps=axis.filter,
            tap_step=axis.dilation,
            tap_first=0,
            tap_apart=1,
            filter=axis.filter,
            phases=1,
            phase=0,
        )
    return b"".join(_pack_phase(axis, axis.out, phase) for phase in range(axis.stride))


def _pack_phase(axis: Axis, out: int, phase: int) -> bytes:
    """Pixels ``phase + i * stride`` of dx, which read dy with the taps of the filter reversed."""
    common = gcd(axis.stride, axis.dilation)
    apart, tap_step = axis.stride // common, axis.dilation // common
    # Taps r with (phase + pad - r * dilation) a multiple of the stride, from the last to the first.
    taps = [
        r
        for r in reversed(range(axis.filter))
        if (phase + axis.pad_lo - r * axis.dilation) % axis.stride == 0
    ]
    last = taps[0] if taps else 0
    return _AXIS.pack(
        count=max(0, -(-(axis.size - phase) // axis.stride)),
        size=out,
        first=(phase + axis.pad_lo - last * axis.dilation) // axis.stride,
        step=1,
        taps=len(taps),
        tap_step=tap_step,
        tap_first=axis.filter - 1 - last,
        tap_apart=apart,
        filter=axis.filter,
        phases=axis.stride,
        phase=phase,
    )


def pack_stuffed(problem: ConvProblem, axis: Axis) -> bytes:
    """As :func:`pack_axis`, but dgrad's source has ``stride - 1`` zeros between its elements."""
    if problem.direction is not Direction.DGRAD:
        return pack_axis(problem, axis)
    out = (axis.out - 1) * axis.stride + 1
    return _pack_phase(replace(axis, stride=1), out, 0)


def sweeps(problem: ConvProblem, strip: Strip, axis: int) -> bool:
    """Whether :mod:`convforge.kernels.cpu._sweep` runs the problem along this axis.

    A 3x3 filter whose first output reaches no further than two elements before the image.
    """
    d, h, w = three_axes(problem)
    along = (d, h, w)[axis]
    forward = problem.direction is not Direction.DGRAD
    before = along.pad_lo if forward else along.extent - 1 - along.pad_lo
    stride = along.stride == strip.step if forward else h.stride * w.stride == 1
    alone = d.padded == d.size and d.filter == d.stride == 1
    return alone and h.filter == w.filter == 3 and along.dilation == 1 and stride and before <= 2


@device
def ceil_div(a, b):
    """``a / b`` rounded up, b positive, without a division where b is as strides mostly are."""
    if b == 1:
        return a
    if b == 2:
        return (a + 1) >> 1
    return -(-a // b)


@device
def taps_inside(axis, i):
    """First tap of output i that lies inside the source, and the one behind the last."""
    base = axis.first + i * axis.step
    low = max(ceil_div(-base, axis.tap_step), 0)
    return low, min(ceil_div(axis.size - base, axis.tap_step), axis.taps)


@inlined
def along(strip, sums, axis, x, x_step, begin, count, w, w_step, first, last):
    """Add all taps of an axis to a strip of ``count`` outputs from ``begin`` on.

    Args:
        x: Address of element 0 of the source. w: Of the first tap. x_step, w_step: Bytes apart.
        first, last: Lanes inside the source, for a masked strip.
    """
    base, chunk = axis.first + begin * axis.step, strip_taps(strip)
    reach = (count - 1) * axis.step
    k = 0
    if axis.tap_step == 1 and axis.step == strip_step(strip):
        while k + chunk <= axis.taps:
            at = base + k
            low, high = -at, min(axis.size - at, reach + chunk)
            if low < high and high > 0:
                place, taps = x + at * x_step, w + k * w_step
                sums = slide(strip, sums, place, x_step, low, high, taps, w_step, first, last)
            k += chunk
    step = axis.step * x_step
    while k < axis.taps:
        at = base + k * axis.tap_step
        low, high = ceil_div(-at, axis.step), min(ceil_div(axis.size - at, axis.step), count)
        if low < high and high > 0:
            sums = touch(strip, sums, x + at * x_step, step, low, high, w + k * w_step, first, last)
        k += 1
    return sums


@inlined
def collect_along(strip, axis, x, x_step, dy, dy_step, begin, count, sums, sums_step, first, last):
    """Add what ``count`` elements of dy from ``begin`` on give to the sums of all taps, in memory.

    Args:
        x, dy: Address of element 0. sums: Of the first tap's vector.
        first, last: Lanes that are inside both, for a masked strip.
    """
    base, chunk = axis.first + begin * axis.step, strip_taps(strip)
    dy += begin * dy_step
    k = 0
    if axis.tap_step == 1 and axis.step == strip_step(strip) and count == strip_pixels(strip):
        while k + chunk <= axis.taps:
            at = base + k
            low, high = -at, axis.size - at
            if low < (count - 1) * axis.step + chunk and high > 0:
                place, totals = x + at * x_step, sums + k * sums_step
                collect(
                    strip, place, x_step, low, high, dy, dy_step, totals, sums_step, first, last
                )
            k += chunk
    step = axis.step * x_step
    while k < axis.taps:
        at = base + k * axis.tap_step
        low = max(ceil_div(-at, axis.step), 0)
        total = load(strip, sums + k * sums_step)
        for t in range(low, min(ceil_div(axis.size - at, axis.step), count)):
            element = strip_load(strip, x + at * x_step + t * step, first, last)
            total = fma(strip_load(strip, dy + t * dy_step, first, last), element, total)
        store(sums + k * sums_step, total)
        k += 1
