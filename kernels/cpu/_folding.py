"""Windows of images as columns, and columns added up to images.

Columns are ``(N, C, R, S, P, Q)``; images lie in either memory order. What a tap has of a row of
windows, Q elements, is moved at once. A task is rows of what is written: channels first of one
channel, channels last of a cache line's channels, whose pixels stay in the L1 meanwhile.
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
    "N C H W R S P Q stride_h stride_w dilation_h dilation_w pad_top pad_left last block",
)
_folding = _FOLDING.view
_POINTERS = Layout("FoldingPointers", "images columns")
_pointers = _POINTERS.view


def folding_program(dtype: str, *, back: bool, **fields: int) -> Program:
    """From images to columns, or back."""
    size = 4 if dtype == "f32" else 8
    block = min(LINE_BYTES // size, fields["C"]) if fields["last"] else 1
    blocks = fields["N"] * -(-fields["C"] // block)
    elements = fields["N"] * fields["C"] * fields["R"] * fields["S"] * fields["P"] * fields["Q"]
    function = fold_columns if back else unfold_images
    step = Step(
        name=function.__name__,
        kernel=KernelRef(function, Vector(dtype)),
        operands=("images", "columns"),
        constants=_FOLDING.pack(block=block, **fields),
        tasks=blocks * fields["H" if back else "R"],
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
        for row in range(g.P):
            h = row * g.stride_h + r * g.dilation_h - g.pad_top
            for c in range(channels):
                for s in range(g.S):
                    target = columns + (((c * g.R + r) * g.S + s) * g.P + row) * g.Q * size
                    first, end, w = _windows_inside(g, s)
                    if not 0 <= h < g.H or first >= end:
                        fill(kind, target, zero, g.Q)
                        continue
                    if first > 0:
                        fill(kind, target, zero, first)
                    if end < g.Q:
                        fill(kind, target + end * size, zero, g.Q - end)
                    source = image + c * channel + (h * g.W + w) * pixel
                    apart = g.stride_w * pixel
                    if apart == size:
                        copy_elements(kind, source, target + first * size, end - first)
                    else:
                        for q in range(first, end):
                            store_scalar(kind, target + q * size, load_scalar(kind, source))
                            source += apart


@kernel
def fold_columns(kind, constants, pointers, worker, work):
    """Sums, tap after tap; a task is a row of a block of channels of an image."""
    g, p, size, width = _folding(constants), _pointers(pointers), itemsize(kind), lanes(kind)
    zero = scalar(kind, 0)
    for task in claimed(work, worker):
        part = task // g.H
        h = task - part * g.H
        image, channels, columns, channel, pixel = _part_of(kind, g, p, part)
        line = image + h * g.W * pixel
        if g.last:
            for w in range(g.W):
                fill(kind, line + w * pixel, zero, channels)
        else:
            fill(kind, line, zero, g.W)
        for r in range(g.R):
            row = (h + g.pad_top - r * g.dilation_h) // g.stride_h
            meets = row * g.stride_h == h + g.pad_top - r * g.dilation_h
            if not meets or not 0 <= row < g.P:
                continue
            for c in range(channels):
                for s in range(g.S):
                    first, end, w = _windows_inside(g, s)
                    source = columns + (((c * g.R + r) * g.S + s) * g.P + row) * g.Q * size
                    target = line + c * channel + w * pixel
                    apart = g.stride_w * pixel
                    if apart == size:
                        source += first * size
                        for i in range(0, end - first, width):
                            count = end - first - i
                            total = load_run(kind, target + i * size, count)
                            total = total + load_run(kind, source + i * size, count)
                            store_run(kind, target + i * size, total, count)
                    else:
                        for q in range(first, end):
                            value = load_scalar(kind, source + q * size)
                            store_scalar(kind, target, load_scalar(kind, target) + value)
                            target += apart
