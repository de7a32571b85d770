"""Windows of images as columns, and columns added up to images.

Columns are ``(N, C, R, S, P, Q)`` and run through from front to back; images lie in either memory
order. What a tap has of a row of windows, Q elements, is moved at once. A task has one channel,
channels first, or a cache line's channels, so that their part of the image stays in the caches.
"""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cpu._copy import copy_elements
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load_scalar,
    scalar,
    store_scalar,
)
from convforge.kernels.cpu._wide import LINE_BYTES, fill, load_run, store_run
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.tasks import claimed

_FOLDING = Layout(
    "Folding",
    "N C H W R S P Q stride_h stride_w dilation_h dilation_w pad_top pad_left last block strip",
)
_folding = _FOLDING.view
_POINTERS = Layout("FoldingPointers", "images columns")
_pointers = _POINTERS.view
_TASKS = 16
"""Pieces of work for a few threads to share evenly."""


def folding_program(dtype: str, *, back: bool, **fields: int) -> Program:
    """From images to columns, or back."""
    size = 4 if dtype == "f32" else 8
    block = min(LINE_BYTES // size, fields["C"]) if fields["last"] else 1
    blocks = fields["N"] * -(-fields["C"] // block)
    elements = fields["N"] * fields["C"] * fields["R"] * fields["S"] * fields["P"] * fields["Q"]
    function = fold_columns if back else unfold_images
    strip = max(fields["H"] * blocks // _TASKS, 1) if blocks < _TASKS else fields["H"]
    step = Step(
        name=function.__name__,
        kernel=KernelRef(function, Vector(dtype)),
        operands=("images", "columns"),
        constants=_FOLDING.pack(block=block, strip=strip, **fields),
        tasks=blocks * (-(-fields["H"] // strip) if back else fields["R"]),
        cost=Cost(flops=elements, bytes=2 * size * elements),
    )
    return Program(steps=(step,))


@inlined
def _part_of(kind, g, p, part):
    """Of a part of an image: the address, channels, and columns; then bytes between elements."""
    size = itemsize(kind)
    blocks = (g.C + g.block - 1) // g.block
    image = part // blocks
    c = (part - image * blocks) * g.block
    channel, pixel = (size, g.C * size) if g.last else (g.H * g.W * size, size)
    address = p.images + image * g.C * g.H * g.W * size + c * channel
    columns = p.columns + (image * g.C + c) * g.R * g.S * g.P * g.Q * size
    return address, min(g.block, g.C - c), columns, channel, pixel


@inlined
def _windows_inside(g, s):
    """First window of a row with tap ``s`` inside, the one after the last; the first's column."""
    before = g.pad_left - s * g.dilation_w
    first = max((before + g.stride_w - 1) // g.stride_w, 0)
    end = max(min((g.W - 1 + before) // g.stride_w + 1, g.Q), first)
    return first, end, first * g.stride_w - before


@kernel
def unfold_images(kind, constants, pointers, worker, work):
    """Copies; a task is one row of taps of a block of channels."""
    g, p, size = _folding(constants), _pointers(pointers), itemsize(kind)
    zero = scalar(kind, 0)
    for task in claimed(work, worker):
        part = task // g.R
        r = task - part * g.R
        image, channels, columns, channel, pixel = _part_of(kind, g, p, part)
        apart, top = g.stride_w * pixel, r * g.dilation_h - g.pad_top
        for c in range(channels):
            for s in range(g.S):
                first, end, w = _windows_inside(g, s)
                target = columns + ((c * g.R + r) * g.S + s) * g.P * g.Q * size
                for row in range(g.P):
                    h = row * g.stride_h + top
                    if not 0 <= h < g.H:
                        fill(kind, target, zero, g.Q)
                    else:
                        fill(kind, target, zero, first)
                        fill(kind, target + end * size, zero, g.Q - end)
                        source = image + c * channel + (h * g.W + w) * pixel
                        if apart == size:
                            copy_elements(kind, source, target + first * size, end - first)
                        else:
                            for q in range(first, end):
                                store_scalar(kind, target + q * size, load_scalar(kind, source))
                                source += apart
                    target += g.Q * size


@kernel
def fold_columns(kind, constants, pointers, worker, work):
    """Sums, tap after tap; a task is a strip of rows of a block of channels of an image."""
    g, p, size, width = _folding(constants), _pointers(pointers), itemsize(kind), lanes(kind)
    zero = scalar(kind, 0)
    strips = (g.H + g.strip - 1) // g.strip
    for task in claimed(work, worker):
        part = task // strips
        begin = (task - part * strips) * g.strip
        beyond = min(begin + g.strip, g.H)
        image, channels, columns, channel, pixel = _part_of(kind, g, p, part)
        if g.last:
            for at in range(begin * g.W, beyond * g.W):
                fill(kind, image + at * pixel, zero, channels)
        else:
            fill(kind, image + begin * g.W * size, zero, (beyond - begin) * g.W)
        apart = g.stride_w * pixel
        for c in range(channels):
            for r in range(g.R):
                top = r * g.dilation_h - g.pad_top
                row = max((begin - top + g.stride_h - 1) // g.stride_h, 0)
                last = min((beyond - 1 - top) // g.stride_h + 1, g.P)
                for s in range(g.S):
                    first, end, w = _windows_inside(g, s)
                    taps = columns + ((c * g.R + r) * g.S + s) * g.P * g.Q * size + first * size
                    for i in range(row, last):
                        source = taps + i * g.Q * size
                        h = i * g.stride_h + top
                        target = image + c * channel + (h * g.W + w) * pixel
                        if apart == size:
                            for q in range(0, end - first, width):
                                count = end - first - q
                                total = load_run(kind, target + q * size, count)
                                total = total + load_run(kind, source + q * size, count)
                                store_run(kind, target + q * size, total, count)
                        else:
                            for q in range(end - first):
                                value = load_scalar(kind, source + q * size)
                                store_scalar(kind, target, load_scalar(kind, target) + value)
                                target += apart
