"""Whole images from one memory order to another: channels first, channels last, padded."""

from __future__ import annotations

from math import prod

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cpu._block import (
    block_load,
    block_store,
    block_transpose,
    whole_load,
    whole_store,
)
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load_scalar,
    store_scalar,
)
from convforge.problem import Axis, DType, Order
from convforge.runtime.args import Layout
from convforge.runtime.jit import embedded, kernel
from convforge.runtime.rawmem import copy_bytes, fill_bytes
from convforge.runtime.tasks import claimed

STRIP = 64
"""Rows and columns of a task: several adjacent cache lines of every row it reads."""
FEW_ROWS = 5
"""An RGB image is faster an element at a time."""
_MATRICES = Layout("Matrices", "count rows columns")
_matrices = _MATRICES.view
_PAD = Layout("Pad", "images in_d in_h in_w out_d out_h out_w low_d low_h low_w channels fill")
_pad = _PAD.view
_FROM_TO = Layout("FromTo", "source target")
_from_to = _FROM_TO.view


def is_channels_last(order: Order, channels: int, spatial: tuple[int, ...]) -> bool:
    """Whether memory in this order reads as channels last; one channel or pixel reads as both."""
    return order is Order.CHANNELS_LAST or channels == 1 or prod(spatial) == 1


def to_channels_last(
    source: str, target: str, dtype: DType, images: int, channels: int, spatial: tuple[int, ...]
) -> Step:
    """NCHW to NHWC."""
    return transpose_step(source, target, dtype, images, channels, prod(spatial))


def to_channels_first(
    source: str, target: str, dtype: DType, images: int, channels: int, spatial: tuple[int, ...]
) -> Step:
    """NHWC to NCHW."""
    return transpose_step(source, target, dtype, images, prod(spatial), channels)


def transpose_step(
    source: str, target: str, dtype: DType, count: int, rows: int, columns: int
) -> Step:
    """Matrices to their transposes; elements move as they are."""
    return Step(
        name="transpose",
        kernel=KernelRef(transpose_matrices, Vector(dtype.value)),
        operands=(source, target),
        constants=_MATRICES.pack(count=count, rows=rows, columns=columns),
        tasks=count * -(-columns // STRIP) * -(-rows // STRIP),
        cost=Cost(bytes=2 * count * rows * columns * dtype.itemsize),
    )


def pad_step(
    source: str,
    target: str,
    dtype: DType,
    images: int,
    channels: int,
    axes: tuple[Axis, ...],
    fill: int = 0,
) -> Step:
    """NHWC to NHWC with the problem's padding around it, whose every byte is ``fill``."""
    outer = 3 - len(axes)
    in_size = (1,) * outer + tuple(a.size for a in axes)
    out_size = (1,) * outer + tuple(a.padded for a in axes)
    low = (0,) * outer + tuple(a.pad_lo for a in axes)
    fields = {"images": images, "channels": channels, "fill": fill}
    for i, axis in enumerate("dhw"):
        fields |= {f"in_{axis}": in_size[i], f"out_{axis}": out_size[i], f"low_{axis}": low[i]}
    nbytes = images * channels * (prod(in_size) + prod(out_size)) * dtype.itemsize
    return Step(
        name="pad",
        kernel=KernelRef(pad_images, Vector(dtype.value)),
        operands=(source, target),
        constants=_PAD.pack(**fields),
        tasks=images * out_size[0] * out_size[1],
        cost=Cost(bytes=nbytes),
    )


@kernel
def transpose_matrices(kind, constants, pointers, worker, work):
    """``target[b, j, i] = source[b, i, j]``; a task is a square of one matrix."""
    m, p = _matrices(constants), _from_to(pointers)
    across, down = (m.columns + STRIP - 1) // STRIP, (m.rows + STRIP - 1) // STRIP
    for task in claimed(work, worker):
        b, rest = task // (across * down), task % (across * down)
        left, top = rest // down * STRIP, rest % down * STRIP
        matrix = b * m.rows * m.columns * itemsize(kind)
        source, target = p.source + matrix, p.target + matrix
        right, bottom = min(left + STRIP, m.columns), min(top + STRIP, m.rows)
        if m.rows < FEW_ROWS:
            _interleave(kind, m, source, target, left, right)
            continue
        for i in range(top, bottom, lanes(kind)):
            for j in range(left, right, lanes(kind)):
                _transpose_block(kind, m, source, target, i, j)


@embedded
def _interleave(kind, m, source, target, left, right):
    """Columns of a matrix with so few rows that a block of vectors would be mostly empty."""
    size = itemsize(kind)
    for i in range(m.rows):
        row = source + i * m.columns * size
        for j in range(left, right):
            value = load_scalar(kind, row + j * size)
            store_scalar(kind, target + (j * m.rows + i) * size, value)


@embedded
def _transpose_block(kind, m, source, target, i, j):
    """The block at row i and column j of one matrix."""
    size = itemsize(kind)
    source_row, target_row = m.columns * size, m.rows * size
    source += i * source_row + j * size
    target += j * target_row + i * size
    rows, columns = m.rows - i, m.columns - j
    if rows >= lanes(kind) and columns >= lanes(kind):
        block = block_transpose(kind, whole_load(kind, source, source_row))
        whole_store(kind, block, target, target_row)
    else:
        block = block_transpose(kind, block_load(kind, source, source_row, rows, columns))
        block_store(kind, block, target, target_row, columns, rows)


@kernel
def pad_images(kind, constants, pointers, worker, work):
    """Copy rows into the middle of larger ones; a task is one row of the target."""
    m, p = _pad(constants), _from_to(pointers)
    size = itemsize(kind)
    row = m.out_w * m.channels
    before, length = m.low_w * m.channels, m.in_w * m.channels
    for task in claimed(work, worker):
        n, rest = task // (m.out_d * m.out_h), task % (m.out_d * m.out_h)
        d, h = rest // m.out_h - m.low_d, rest % m.out_h - m.low_h
        target = p.target + task * row * size
        inside = (d >= 0) & (d < m.in_d) & (h >= 0) & (h < m.in_h)
        source = p.source + ((n * m.in_d + d) * m.in_h + h) * length * size
        if inside:
            fill_bytes(target, m.fill, before * size)
            copy_bytes(target + before * size, source, length * size)
            after = (row - before - length) * size
            fill_bytes(target + (before + length) * size, m.fill, after)
        else:
            fill_bytes(target, m.fill, row * size)
