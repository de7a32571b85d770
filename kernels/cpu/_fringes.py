"""Fringes of an image's border, cut out with what stands outside the image, and put back.

A fringe is a box of pixels in an image that has no end: beyond its last pixel an axis repeats,
reflects or goes round, or holds zeros. One or two boxes of equal size, at the low and the high
end of one axis, are images of one dense array: all images of the first, then all of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._copy import clear_elements, copy_elements
from convforge.kernels.cpu._inside import inside, outside
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load,
    load_first,
    store,
    store_first,
)
from convforge.problem import DType, Order, PadMode
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.tasks import claimed

_FRINGES = Layout("Fringes", "what images channels block sides frame_d frame_h frame_w")
_fringes = _FRINGES.view
_AXIS = Layout("FringeAxis", "size start apart count sign before behind")
_axis = _AXIS.view
_D, _H, _W = (_FRINGES.nbytes + i * _AXIS.nbytes for i in range(3))
_POINTERS = Layout("FringesPointers", "image fringe")
_pointers = _POINTERS.view
CUT, PUT, ADD = 0, 1, 2
_BLOCK_BYTES = 256
"""Channels of a task, in bytes: a few lines of each pixel, and tasks for every thread."""


@dataclass(frozen=True, slots=True)
class Span:
    """An axis of a fringe.

    Attributes:
        size: Of the image. mode: What stands outside of it.
        start: First position of the first box, which may lie outside. count: Positions of a box.
        apart: From the first box to the second, 0 on all axes but one.
        frame: Leave out positions inside the image: a fringe holds zeros there, and gives nothing.
    """

    size: int
    start: int
    count: int
    mode: PadMode = PadMode.ZEROS
    apart: int = 0
    frame: bool = False


def fringe_step(
    what: int,
    image: str,
    fringe: str,
    dtype: DType,
    order: Order,
    images: int,
    channels: int,
    spans: tuple[Span, ...],
    sides: int,
) -> Step:
    """The launch that cuts fringes out of images, puts them into these or adds them to these.

    Args:
        what: ``CUT``, ``PUT`` or ``ADD``. Positions outside are written by none of them, and what
            is added to them arrives where they are copied from.
        image, fringe: Names of the operands.
        spans: Of one to three axes. sides: One box, or two.
    """
    nbytes = 2 * dtype.itemsize * images * channels * sides * prod(span.count for span in spans)
    if order is Order.CHANNELS_FIRST:
        images, channels = images * channels, 1
    block = min(channels, _BLOCK_BYTES // dtype.itemsize)
    three = (Span(1, 0, 1),) * (3 - len(spans)) + spans
    fields = {f"frame_{name}": span.frame for name, span in zip("dhw", three, strict=True)}
    return Step(
        name=("cut", "put", "add")[what],
        kernel=KernelRef(move_fringes, Vector(dtype.value)),
        operands=(image, fringe),
        constants=_FRINGES.pack(
            what=what, images=images, channels=channels, block=block, sides=sides, **fields
        )
        + b"".join(map(_pack, three)),
        tasks=images * -(-channels // block),
        cost=Cost(bytes=nbytes),
    )


def _pack(span: Span) -> bytes:
    """The struct ``FringeAxis``."""
    sign, before, behind = outside(span.mode, span.size)
    return _AXIS.pack(
        size=span.size,
        start=span.start,
        apart=span.apart,
        count=span.count,
        sign=sign,
        before=before,
        behind=behind,
    )


@inlined
def _source(axis, frame, at):
    """The image's position that stands at a fringe's, or -1 for none."""
    if frame and 0 <= at < axis.size:
        return -1
    return inside(at, axis.size, axis.sign, axis.before, axis.behind)


@device
def _move(kind, what, image, fringe, count):
    """Adjacent elements; those of a fringe that stand nowhere in the image have no address."""
    size = itemsize(kind)
    if what == CUT:
        copy_elements(kind, image, fringe, count)
    elif what == PUT:
        copy_elements(kind, fringe, image, count)
    else:
        for i in range(0, count, lanes(kind)):
            here, there, left = image + i * size, fringe + i * size, count - i
            if left >= lanes(kind):
                store(here, load(kind, here) + load(kind, there))
            else:
                total = load_first(kind, here, left) + load_first(kind, there, left)
                store_first(here, total, left)


@device
def _move_row(kind, g, axis, start, line, row, count):
    """A row of pixels of a block of channels: the run inside the image, and pixels around it."""
    pixel = g.channels * itemsize(kind)
    first = max(0, min(-start, axis.count))
    last = max(first, min(axis.size - start, axis.count))
    if g.frame_w == 0 and count == g.channels:
        _move(
            kind,
            g.what,
            line + (start + first) * pixel,
            row + first * pixel,
            (last - first) * count,
        )
    else:
        last = first
    for w in range(axis.count):
        if first <= w < last:
            continue
        at = _source(axis, g.frame_w, start + w)
        if at >= 0:
            _move(kind, g.what, line + at * pixel, row + w * pixel, count)
        elif g.what == CUT:
            clear_elements(kind, row + w * pixel, count)


@kernel
def move_fringes(kind, constants, pointers, worker, work):
    """A task is an image's block of channels: what meets in a pixel is added by one worker."""
    g, p, size = _fringes(constants), _pointers(pointers), itemsize(kind)
    d_axis, h_axis, w_axis = _axis(constants + _D), _axis(constants + _H), _axis(constants + _W)
    pixel = g.channels * size
    blocks = (g.channels + g.block - 1) // g.block
    for task in claimed(work, worker):
        image = task // blocks
        channel = (task - image * blocks) * g.block
        count = min(g.block, g.channels - channel)
        for side in range(g.sides):
            row = (side * g.images + image) * d_axis.count * h_axis.count * w_axis.count * pixel
            row += p.fringe + channel * size
            start = w_axis.start + side * w_axis.apart
            for d in range(d_axis.count):
                at_d = _source(d_axis, g.frame_d, d_axis.start + side * d_axis.apart + d)
                for h in range(h_axis.count):
                    at_h = _source(h_axis, g.frame_h, h_axis.start + side * h_axis.apart + h)
                    if at_d >= 0 and at_h >= 0:
                        line = (image * d_axis.size + at_d) * h_axis.size + at_h
                        line = p.image + line * w_axis.size * pixel + channel * size
                        _move_row(kind, g, w_axis, start, line, row, count)
                    elif g.what == CUT:
                        for w in range(w_axis.count):
                            clear_elements(kind, row + w * pixel, count)
                    row += w_axis.count * pixel
