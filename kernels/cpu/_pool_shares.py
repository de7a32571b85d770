"""Adaptive windows, channels first: rows before columns, and the columns one by one.

With ``n`` elements and ``o`` windows on an axis, window ``i`` holds those from ``floor(i n / o)``
to ``ceil((i + 1) n / o)``. Extents differ from column to column: a table says where each column's
elements begin in the line of reduced rows, and how many there are.
"""

from __future__ import annotations

import numpy as np

from convforge.kernels.cpu._index import index_kind
from convforge.kernels.cpu._pool_max import argmax_rows, max_rows
from convforge.kernels.cpu._pool_mean import rows_divisor, sum_rows
from convforge.kernels.cpu._rows_met import ask_behind, rows_met
from convforge.kernels.cpu._vector import itemsize, load_scalar, scalar, store_scalar
from convforge.kernels.cpu._windows import (
    AXIS_BYTES,
    POOL_BYTES,
    axis_view,
    meets,
    pool_view,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import load_word, store_word
from convforge.runtime.tasks import claimed

_MEAN = Layout("MeanSharesPointers", "source target scratch")
_mean = _MEAN.view
_MAX = Layout("MaxSharesPointers", "x y indices scratch")
_max = _MAX.view
ENTRY_BYTES = 16
"""Of the table, for each column of the target: its first element, and how many it has."""
_NOWHERE = np.iinfo(np.int64).max


@inlined
def fill_table(axis, count, table, backward):
    """For each of so many positions of an axis, what it meets."""
    for i in range(count):
        first, met = meets(axis, i, backward)
        store_word(table + i * ENTRY_BYTES, first)
        store_word(table + i * ENTRY_BYTES + 8, met)


@kernel
def mean_shares(kind, constants, pointers, worker, work):
    """Divided sums; a task is a row of one plane of y.

    Scratch: the table, then the line.
    """
    g, p, axes = pool_view(constants), _mean(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size = itemsize(kind)
    table = p.scratch + worker * g.scratch_bytes
    line = table + g.to_w * ENTRY_BYTES
    fill_table(w_axis, g.to_w, table, False)
    for row in claimed(work, worker):
        rows = rows_met(g, axes, row)
        ask_behind(kind, g, p.source, rows, 0, p.target + row * g.to_w * size, g.to_w * size)
        sum_rows(kind, g, p.source, rows, line)
        divisor = rows_divisor(g, axes, rows.d, rows.h)
        for w in range(g.to_w):
            start = line + load_word(table + w * ENTRY_BYTES) * size
            count = load_word(table + w * ENTRY_BYTES + 8)
            total = scalar(kind, 0)
            for i in range(count):
                total += load_scalar(kind, start + i * size)
            mean = total / scalar(kind, divisor * count)
            store_scalar(kind, p.target + (row * g.to_w + w) * size, mean)


@kernel
def max_shares(kind, constants, pointers, worker, work):
    """Forward, with or without indices; a task is a row of one plane of y.

    Scratch: the table, then the line, then the positions of its elements.
    """
    g, p, axes = pool_view(constants), _max(pointers), constants + POOL_BYTES
    w_axis = axis_view(axes + 2 * AXIS_BYTES)
    size, index = itemsize(kind), index_kind(kind)
    table = p.scratch + worker * g.scratch_bytes
    line = table + g.to_w * ENTRY_BYTES
    places = line + g.line * size
    fill_table(w_axis, g.to_w, table, False)
    for row in claimed(work, worker):
        rows = rows_met(g, axes, row)
        ask_behind(kind, g, p.x, rows, 0, p.y + row * g.to_w * size, g.to_w * size)
        if g.indices:
            argmax_rows(kind, g, p.x, rows, line, places)
        else:
            max_rows(kind, g, p.x, rows, line)
        for w in range(g.to_w):
            first = load_word(table + w * ENTRY_BYTES)
            last = first + load_word(table + w * ENTRY_BYTES + 8)
            best, where = scalar(kind, -np.inf), _NOWHERE
            for i in range(first, last):
                x = load_scalar(kind, line + i * size)
                position = load_word(places + i * 8) if g.indices else i
                if _outranks(x, position, best, where):
                    best, where = x, position
            store_scalar(kind, p.y + (row * g.to_w + w) * size, best)
            if g.indices:
                store_scalar(index, p.indices + (row * g.to_w + w) * 8, where)


@inlined
def _outranks(x, position, best, where):
    """Whether ``x`` displaces ``best``, as :func:`_index.outranks` decides for vectors."""
    if x != x:
        return best == best or position > where
    return x > best or (x == best and position < where)
