"""Elements sent to positions of a plane, fetched from them, and the maxima of scattered windows.

A task is a plane, channels first, or a block of channels of an image, channels last. Either way a
worker owns what it writes.
"""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    load_scalar,
    scalar,
    store_scalar,
)
from convforge.kernels.cpu._wide import fill
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import load_word, store_word
from convforge.runtime.tasks import claimed

_BLOCK = 64
"""Channels of a task: whole cache lines of every pixel."""
_MOVES = Layout("Moves", "images channels here there last adds")
_moves = _MOVES.view
_MOVED = Layout("MovePointers", "here indices there outside")
_moved = _MOVED.view
_SCATTERED = Layout(
    "ScatteredWindows", "planes channels last from_d from_h from_w to_d to_h to_w d h w"
)
_scattered = _SCATTERED.view
_WINDOWS = Layout("ScatteredPointers", "x y indices starts_d starts_h starts_w")
_windows = _WINDOWS.view


def send_program(dtype: str, **fields: int) -> Program:
    """From ``here`` to zeros ``there``; where indices are equal the last stays, or all add up."""
    return _program(send, dtype, fields)


def fetch_program(dtype: str, **fields: int) -> Program:
    """From ``there`` to ``here``."""
    return _program(fetch, dtype, fields)


def _program(function, dtype, fields):
    planes = fields["images"] * fields["channels"]
    tasks = fields["images"] * -(-fields["channels"] // _BLOCK) if fields["last"] else planes
    size = 4 if dtype == "f32" else 8
    step = Step(
        name=function.__name__,
        kernel=KernelRef(function, Vector(dtype)),
        operands=("here", "indices", "there", "outside"),
        constants=_MOVES.pack(**fields),
        tasks=tasks,
        cost=Cost(bytes=planes * (fields["here"] * (size + 8) + fields["there"] * size)),
    )
    return Program(steps=(step,))


def windows_program(dtype: str, **fields: int) -> Program:
    """Largest elements of windows that start where three tables say, and their positions."""
    outputs = fields["planes"] * fields["to_d"] * fields["to_h"] * fields["to_w"]
    step = Step(
        name="windows",
        kernel=KernelRef(scattered_windows, Vector(dtype)),
        operands=("x", "y", "indices", "starts_d", "starts_h", "starts_w"),
        constants=_SCATTERED.pack(**fields),
        tasks=fields["planes"],
        cost=Cost(flops=outputs * fields["d"] * fields["h"] * fields["w"], bytes=outputs * 24),
    )
    return Program(steps=(step,))


@kernel
def send(kind, constants, pointers, worker, work):
    """Zeros, and each element of ``here`` where its index says."""
    g, p, size = _moves(constants), _moved(pointers), itemsize(kind)
    blocks = (g.channels + _BLOCK - 1) // _BLOCK if g.last else g.channels
    # Elements to each index's unit, and to the next element: channels of a pixel, or pixels.
    unit, step = (g.channels, 1) if g.last else (1, 0)
    for task in claimed(work, worker):
        image, block = task // blocks, task % blocks
        if g.last:
            rows, run, first = g.here, min(_BLOCK, g.channels - block * _BLOCK), block * _BLOCK
            there = p.there + (image * g.there * g.channels + first) * size
            for pixel in range(g.there):
                fill(kind, there + pixel * g.channels * size, scalar(kind, 0), run)
            source = image * g.here * g.channels + first
        else:
            rows, run = 1, g.here
            there = p.there + task * g.there * size
            fill(kind, there, scalar(kind, 0), g.there)
            source = task * g.here
        for row in range(rows):
            for i in range(run):
                at = source + row * g.channels + i
                index = load_word(p.indices + at * 8)
                if 0 <= index < g.there:
                    place = there + (index * unit + i * step) * size
                    value = load_scalar(kind, p.here + at * size)
                    if g.adds:
                        value += load_scalar(kind, place)
                    store_scalar(kind, place, value)
                else:
                    store_word(p.outside, 1)


@kernel
def fetch(kind, constants, pointers, worker, work):
    """Each element of ``here`` from where its index says."""
    g, p, size = _moves(constants), _moved(pointers), itemsize(kind)
    blocks = (g.channels + _BLOCK - 1) // _BLOCK if g.last else g.channels
    unit, step = (g.channels, 1) if g.last else (1, 0)
    for task in claimed(work, worker):
        image, block = task // blocks, task % blocks
        rows, run, source, there = 1, g.here, task * g.here, task * g.there
        if g.last:
            rows, run = g.here, min(_BLOCK, g.channels - block * _BLOCK)
            source = image * g.here * g.channels + block * _BLOCK
            there = image * g.there * g.channels + block * _BLOCK
        for row in range(rows):
            for i in range(run):
                at = source + row * g.channels + i
                place = there + load_word(p.indices + at * 8) * unit + i * step
                store_scalar(kind, p.here + at * size, load_scalar(kind, p.there + place * size))


@kernel
def scattered_windows(kind, constants, pointers, worker, work):
    """Of equals the first wins, of NaN the last; a task is a plane, in either memory order."""
    g, p, size = _scattered(constants), _windows(pointers), itemsize(kind)
    length, count = g.from_d * g.from_h * g.from_w, g.to_d * g.to_h * g.to_w
    apart = g.channels if g.last else 1
    for plane in claimed(work, worker):
        x, y = plane * length, plane * count
        if g.last:
            image = plane // g.channels
            x = image * length * g.channels + plane - image * g.channels
            y = image * count * g.channels + plane - image * g.channels
        for i in range(g.to_d):
            d = load_word(p.starts_d + (plane * g.to_d + i) * 8)
            for j in range(g.to_h):
                h = load_word(p.starts_h + (plane * g.to_h + j) * 8)
                for k in range(g.to_w):
                    w = load_word(p.starts_w + (plane * g.to_w + k) * 8)
                    where = (d * g.from_h + h) * g.from_w + w
                    best = load_scalar(kind, p.x + (x + where * apart) * size)
                    for t in range(g.d):
                        for r in range(g.h):
                            place = ((d + t) * g.from_h + h + r) * g.from_w + w
                            for s in range(g.w):
                                value = load_scalar(kind, p.x + (x + (place + s) * apart) * size)
                                if value > best or value != value:
                                    best, where = value, place + s
                    store_scalar(kind, p.y + y * size, best)
                    store_word(p.indices + y * 8, where)
                    y += apart
