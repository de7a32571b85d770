"""Borders put around arrays, and what arrived in them brought back.

An array is ``(images, d, h, w, run)``: at most three axes with borders, and adjacent elements that
move together. A target position on an axis lies below, inside or above the source, and in each
of these parts the source position is ``first + step * i``: a step of 0 repeats the last element,
-1 reflects, 1 goes round. A negative one is outside: a number stands there.

A task is a row of what is written, so that every element belongs to one worker.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load,
    load_first,
    load_scalar,
    scalar,
    store,
    store_first,
    store_scalar,
)
from convforge.kernels.cpu._wide import fill, load_run, store_run
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.tasks import EVERY, claimed, claimed_runs

_AXIS = Layout("BorderAxis", "source target begin end number low low_step inside high high_step")
_axis = _AXIS.view
_BORDERS = Layout("Borders", "images run")
_borders = _BORDERS.view
_D, _H, _W = (_BORDERS.nbytes + i * _AXIS.nbytes for i in range(3))
_POINTERS = Layout("BorderPointers", "small large value")
_pointers = _POINTERS.view
_FEW = 16
"""Rows that are too few for several threads to share evenly."""


def borders_program(
    dtype: str,
    *,
    back: bool,
    images: int,
    axes: tuple[tuple[int, int, int], ...],
    mode: str,
    run: int,
) -> Program:
    """From ``small`` to ``large``, which has borders; or back, where what they hold adds up.

    Args:
        images: Arrays one after another. axes: Of each, extent and low and high width of one to
            three axes; negative widths take away.
        mode: ``constant``, ``reflect``, ``replicate`` or ``circular``.
        run: Adjacent elements of each position.
    """
    function = take_borders if back else put_borders
    written = [n if back else n + lo + hi for n, lo, hi in axes]
    if images * prod(written[:-1]) < _FEW and len(axes) < 3:
        axes, written = (*axes, (1, 0, 0)), [*written, 1]
    spans = ((1, 0, 0),) * (3 - len(axes)) + axes
    size = 4 if dtype == "f32" else 8
    step = Step(
        name=function.__name__,
        kernel=KernelRef(function, Vector(dtype)),
        operands=("small", "large", "value"),
        constants=_BORDERS.pack(images=images, run=run)
        + b"".join(_pack(*span, mode) for span in spans),
        tasks=images * prod(written[:-1]),
        cost=Cost(bytes=2 * size * images * prod(written) * run),
    )
    return Program(steps=(step,))


def _pack(size: int, lo: int, hi: int, mode: str) -> bytes:
    """The struct ``BorderAxis``."""
    target, shift = size + lo + hi, -lo
    begin = min(max(lo, 0), target)
    end = max(min(lo + size, target), begin)
    low, low_step, high, high_step = -1, 0, -1, 0
    if mode == "replicate":
        low, high = 0, size - 1
    elif mode == "reflect":
        low, low_step, high, high_step = lo, -1, 2 * (size - 1) + lo, -1
    elif mode == "circular":
        # What negative widths leave is what goes round.
        begin, first, left = max(lo, 0), max(-lo, 0), size + min(lo, 0) + min(hi, 0)
        end, shift = begin + left, first - begin
        low, low_step, high, high_step = shift + left, 1, shift - left, 1
    return _AXIS.pack(
        source=size,
        target=target,
        begin=begin,
        end=end,
        number=mode == "constant",
        low=low,
        low_step=low_step,
        inside=shift,
        high=high,
        high_step=high_step,
    )


@inlined
def _source_of(axis, i):
    """Where a target position is copied from; negative if from nowhere."""
    if i < axis.begin:
        return axis.low + axis.low_step * i
    if i >= axis.end:
        return axis.high + axis.high_step * i
    return axis.inside + i


@inlined
def _targets_of(axis, position, part):
    """First target position of a part that is copied from a source position, and the end."""
    begin, end, first, step = axis.begin, axis.end, axis.inside, 1
    if part == 0:
        begin, end, first, step = 0, axis.begin, axis.low, axis.low_step
    elif part == 2:
        begin, end, first, step = axis.end, axis.target, axis.high, axis.high_step
    if step == 0:
        return begin, end if position == first else begin
    i = (position - first) * step  # the inverse: a step is its own
    return i, i + 1 if begin <= i < end else i


@inlined
def _copy(kind, source, target, count):
    """Copy adjacent elements."""
    size, width = itemsize(kind), lanes(kind)
    if count >= width:
        for i in range(0, count, width):
            at = min(i, count - width) * size
            store(target + at, load(kind, source + at))
    elif count > 0:
        store_first(target, load_first(kind, source, count), count)


@inlined
def _fill(kind, target, value, count):
    """Write a number, mostly a few times."""
    if count >= lanes(kind):
        fill(kind, target, value, count)
    else:
        for i in range(count):
            store_scalar(kind, target + i * itemsize(kind), value)


@inlined
def _add(kind, source, target, count):
    """Add adjacent elements to others."""
    size, width = itemsize(kind), lanes(kind)
    for i in range(0, count, width):
        here = load_run(kind, target + i * size, count - i)
        there = load_run(kind, source + i * size, count - i)
        store_run(kind, target + i * size, here + there, count - i)


@kernel
def put_borders(kind, constants, pointers, worker, work):
    """Copies, and a number where they come from nowhere; a task is a row of ``large``."""
    g, p, size = _borders(constants), _pointers(pointers), itemsize(kind)
    d_axis, h_axis, w_axis = _axis(constants + _D), _axis(constants + _H), _axis(constants + _W)
    value, run, pixel = load_scalar(kind, p.value), g.run, g.run * itemsize(kind)
    begin, end, beyond = w_axis.begin, w_axis.end, w_axis.target
    for first, last in claimed_runs(work, worker, EVERY):
        plane = first // h_axis.target
        i = first - plane * h_axis.target
        image = plane // d_axis.target
        d = _source_of(d_axis, plane - image * d_axis.target)
        for row in range(first, last):
            if i == h_axis.target:
                plane, i = plane + 1, 0
                image = plane // d_axis.target
                d = _source_of(d_axis, plane - image * d_axis.target)
            h = _source_of(h_axis, i)
            i += 1
            target = p.large + row * beyond * pixel
            if d < 0 or h < 0:
                fill(kind, target, value, beyond * run)
                continue
            at = (image * d_axis.source + d) * h_axis.source + h
            source = p.small + at * w_axis.source * pixel
            inside = source + (w_axis.inside + begin) * pixel
            _copy(kind, inside, target + begin * pixel, (end - begin) * run)
            if w_axis.number:
                _fill(kind, target, value, begin * run)
                _fill(kind, target + end * pixel, value, (beyond - end) * run)
            elif run == 1:
                for w in range(begin):
                    x = load_scalar(kind, source + (w_axis.low + w_axis.low_step * w) * size)
                    store_scalar(kind, target + w * size, x)
                for w in range(end, beyond):
                    x = load_scalar(kind, source + (w_axis.high + w_axis.high_step * w) * size)
                    store_scalar(kind, target + w * size, x)
            else:
                for w in range(begin):
                    x = source + (w_axis.low + w_axis.low_step * w) * pixel
                    _copy(kind, x, target + w * pixel, run)
                for w in range(end, beyond):
                    x = source + (w_axis.high + w_axis.high_step * w) * pixel
                    _copy(kind, x, target + w * pixel, run)


@kernel
def take_borders(kind, constants, pointers, worker, work):
    """Sums of what was copied from one place; a task is a row of ``small``."""
    g, p = _borders(constants), _pointers(pointers)
    d_axis, h_axis, w_axis = _axis(constants + _D), _axis(constants + _H), _axis(constants + _W)
    run, pixel = g.run, g.run * itemsize(kind)
    begin, end, beyond = w_axis.begin, w_axis.end, w_axis.target
    for row in claimed(work, worker):
        plane = row // h_axis.source
        image = plane // d_axis.source
        d, h = plane - image * d_axis.source, row - plane * h_axis.source
        target = p.small + row * w_axis.source * pixel
        inside, width = target + (w_axis.inside + begin) * pixel, (end - begin) * run
        fresh = True
        for part_d in range(3):
            first_d, end_d = _targets_of(d_axis, d, part_d)
            for i in range(first_d, end_d):
                for part_h in range(3):
                    first_h, end_h = _targets_of(h_axis, h, part_h)
                    for j in range(first_h, end_h):
                        at = (image * d_axis.target + i) * h_axis.target + j
                        dy = p.large + at * beyond * pixel
                        if fresh:
                            if end - begin < w_axis.source:
                                fill(kind, target, scalar(kind, 0), w_axis.source * run)
                            _copy(kind, dy + begin * pixel, inside, width)
                            fresh = False
                        else:
                            _add(kind, dy + begin * pixel, inside, width)
                        if not w_axis.number:
                            low, high = w_axis.low, w_axis.high
                            _take(kind, dy, target, 0, begin, low, w_axis.low_step, run)
                            _take(kind, dy, target, end, beyond, high, w_axis.high_step, run)
        if fresh:
            fill(kind, target, scalar(kind, 0), w_axis.source * run)


@inlined
def _take(kind, source, target, begin, end, first, step, run):
    """Add one side of a row to where it came from."""
    size = itemsize(kind)
    for i in range(begin, end):
        there, here = target + (first + step * i) * run * size, source + i * run * size
        if run == 1:
            store_scalar(kind, there, load_scalar(kind, there) + load_scalar(kind, here))
        else:
            _add(kind, here, there, run)
