"""Weights as panels: what the tile's B operand is packed into, and dw unpacked from.

The format ``kb32:f32`` is ``[group][block of 32 outputs][filter position][input][32]``: for each
block of output channels, the rows that the tile consumes one after another. Dgrad swaps the
roles of the channels, ``cb32:f32``. Lanes beyond the last channel are zero. Wgrad produces the
same panels, and :func:`unpack_panels` is the way back.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._block import (
    block_load,
    block_store,
    block_transpose,
    whole_load,
    whole_store,
)
from convforge.kernels.cpu._copy import copy_elements
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load,
    load_first,
    store,
    store_first,
)
from convforge.problem import ConvProblem, Direction, Order
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, embedded, kernel
from convforge.runtime.rawmem import prefetch
from convforge.runtime.tasks import claimed

PANELS = Layout(
    "Panels",
    "groups blocks first_block width outputs inputs taps group_bytes output_bytes input_bytes "
    "tap_bytes accumulate",
)
panels_view = PANELS.view
PACK = Layout("PackPointers", "plain panels scratch")
_SCRATCH_BYTES = 64 * 16
"""A square block of vectors, of any width."""
pack_view = PACK.view
_AHEAD_BYTES = 1024
"""How far in front of its reads a run is fetched: hardware does not follow so many runs."""
_STAGED = 128
"""Elements of a run that are rows in L1 at a time."""
_GAP_BYTES = 4096
"""Between the stages of two workers, because hardware fetches past the end of what one writes."""


def panel_shape(problem: ConvProblem, width: int) -> tuple[int, int, int, int]:
    """(groups, blocks, rows, width): channels written are outputs, channels summed are rows."""
    outputs, inputs = _channels(problem)
    return problem.groups, -(-outputs // width), problem.taps * inputs, width


def _channels(problem: ConvProblem) -> tuple[int, int]:
    """Channels of a group along the panel's width, and along its rows."""
    if problem.direction is Direction.DGRAD:
        return problem.group_C, problem.group_K
    return problem.group_K, problem.group_C


def pack_constants(problem: ConvProblem, width: int, blocks: range) -> bytes:
    """Strides of the plain weights as the panels of these blocks see them."""
    size = problem.w.dtype.itemsize
    first = problem.w.order is Order.CHANNELS_FIRST
    k_bytes = problem.group_C * problem.taps * size
    c_bytes = problem.taps * size if first else size
    tap_bytes = size if first else problem.group_C * size
    outputs, inputs = _channels(problem)
    swapped = problem.direction is Direction.DGRAD
    return PANELS.pack(
        groups=problem.groups,
        blocks=len(blocks),
        first_block=blocks.start,
        width=width,
        outputs=outputs,
        inputs=inputs,
        taps=problem.taps,
        group_bytes=problem.group_K * k_bytes,
        output_bytes=c_bytes if swapped else k_bytes,
        input_bytes=k_bytes if swapped else c_bytes,
        tap_bytes=tap_bytes,
        accumulate=problem.accumulate,
    )


def weight_format(problem: ConvProblem, width: int) -> WeightFormat:
    """Panels of plain weights, ``width`` channels each."""
    shape = panel_shape(problem, width)
    letter = "c" if problem.direction is Direction.DGRAD else "k"
    geometry = "x".join(str(n) for n in (problem.K, problem.group_C, *problem.filter))
    return WeightFormat(
        id=f"{letter}b{width}:{problem.w.dtype}:{geometry}:g{problem.groups}",
        nbytes=prod(shape) * problem.w.dtype.itemsize,
        pack=Program(
            steps=(pack_step(problem, width, range(shape[1])),),
            buffers=(stage_buffer(problem, width),),
        ),
    )


def stage_buffer(problem: ConvProblem, width: int) -> Buffer:
    """Scratch memory of :func:`pack_step`."""
    nbytes = _STAGED * width * problem.w.dtype.itemsize + _GAP_BYTES
    return Buffer(name="stage", nbytes=nbytes, scope="worker")


def pack_step(problem: ConvProblem, width: int, blocks: range) -> Step:
    """Bring these blocks of outputs of each group into the buffer ``packed``."""
    groups, _, rows, _ = panel_shape(problem, width)
    outputs = min(len(blocks) * width, _channels(problem)[0])
    return Step(
        name="pack",
        kernel=KernelRef(pack_panels, Vector(problem.w.dtype.value)),
        operands=("w", "packed", "stage"),
        constants=pack_constants(problem, width, blocks),
        tasks=groups * len(blocks),
        cost=Cost(bytes=groups * rows * (outputs + len(blocks) * width) * problem.w.dtype.itemsize),
    )


def unpack_step(problem: ConvProblem, width: int) -> tuple[Step, Buffer]:
    """Bring dw from the buffer ``panels`` to its plain order."""
    shape = panel_shape(problem, width)
    size = problem.w.dtype.itemsize
    step = Step(
        name="unpack",
        kernel=KernelRef(unpack_panels, Vector(problem.w.dtype.value)),
        operands=("w", "panels", "unpacked"),
        constants=pack_constants(problem, width, range(shape[1])),
        tasks=shape[0] * shape[1],
        cost=Cost(bytes=(prod(problem.w_shape) + prod(shape)) * size),
    )
    return step, Buffer(name="unpacked", nbytes=_SCRATCH_BYTES, scope="worker")


@kernel
def pack_panels(kind, constants, pointers, worker, work):
    """Plain weights to panels; a task is one block of outputs."""
    g, p = panels_view(constants), pack_view(pointers)
    panel_row = g.width * itemsize(kind)
    panel_bytes = g.taps * g.inputs * panel_row
    stage = p.scratch + worker * (_STAGED * panel_row + _GAP_BYTES)
    for task in claimed(work, worker):
        group = task // g.blocks
        first = (g.first_block + task - group * g.blocks) * g.width
        count = min(g.width, g.outputs - first)
        source = p.plain + group * g.group_bytes + first * g.output_bytes
        target = p.panels + task * panel_bytes
        if g.output_bytes == itemsize(kind):
            _copy_adjacent(kind, g, source, target, count)
            continue
        # Channels last, one run holds every tap and input of an output, in the panel's order.
        runs, length, period, spread = 1, g.taps * g.inputs, 1, 0
        if g.tap_bytes == itemsize(kind):
            period, spread = g.taps, g.inputs
            if g.input_bytes != g.taps * itemsize(kind):
                runs, length = g.inputs, g.taps
        for i in range(runs):
            rows = target + i * panel_row
            runs = source + i * g.input_bytes
            _pack_runs(kind, g, runs, rows, count, length, period, spread, stage)


@embedded
def _copy_adjacent(kind, g, source, target, count):
    """Outputs are adjacent in memory: a panel row is a copy."""
    panel_row = g.width * itemsize(kind)
    for tap in range(g.taps):
        for i in range(g.inputs):
            row = source + tap * g.tap_bytes + i * g.input_bytes
            place = target + (tap * g.inputs + i) * panel_row
            for j in range(0, g.width, lanes(kind)):
                at = j * itemsize(kind)
                store(place + at, load_first(kind, row + at, count - j))


@embedded
def _pack_runs(kind, g, source, target, count, length, period, spread, stage):
    """Transpose runs of ``length`` adjacent elements, one run an output, into panel rows.

    Element m of a run goes to row ``m % period * spread + m // period``, which is row m where
    the period is one. Where it is more, the rows of some elements meet in L1 first: written
    straight to their far places, they make the hardware fetch another worker's panel.
    """
    panel_row = g.width * itemsize(kind)
    # Cut so that every block but the first reads whole cache lines, where the runs allow it.
    ahead_of_line = source // itemsize(kind) % lanes(kind)
    begin = 0
    while begin < length:
        end = min(length, (begin + ahead_of_line) // _STAGED * _STAGED + _STAGED - ahead_of_line)
        rows = stage if period > 1 else target + begin * panel_row
        for j in range(0, g.width, lanes(kind)):
            runs = source + j * g.output_bytes
            outputs = max(0, min(lanes(kind), count - j))
            transpose_runs(kind, g, runs, rows + j * itemsize(kind), outputs, begin, end)
        if period > 1:
            _spread_rows(kind, g, stage, target, begin, end, period, spread)
        begin = end


@embedded
def transpose_runs(kind, g, runs, target, outputs, begin, end):
    """Elements ``begin`` to ``end`` of some runs become rows."""
    panel_row = g.width * itemsize(kind)
    m = begin
    while m < end:
        at = runs + m * itemsize(kind)
        taken = min(lanes(kind) - at // itemsize(kind) % lanes(kind), end - m)
        for i in range(outputs):
            prefetch(at + i * g.output_bytes + _AHEAD_BYTES)
        place = target + (m - begin) * panel_row
        if outputs == lanes(kind) and taken == lanes(kind):
            block = whole_load(kind, at, g.output_bytes)
        else:
            block = block_load(kind, at, g.output_bytes, outputs, taken)
        block = block_transpose(kind, block)
        if taken == lanes(kind):
            whole_store(kind, block, place, panel_row)
        else:
            block_store(kind, block, place, panel_row, taken, lanes(kind))
        m += taken


@embedded
def _spread_rows(kind, g, stage, target, begin, end, period, spread):
    """Staged rows to their places, those of a tap together."""
    panel_row = g.width * itemsize(kind)
    for tap in range(period):
        c = (begin - tap + period - 1) // period
        row = target + (tap * spread + c) * panel_row
        for m in range(c * period + tap, end, period):
            copy_elements(kind, stage + (m - begin) * panel_row, row, g.width)
            row += panel_row


@kernel
def unpack_panels(kind, constants, pointers, worker, work):
    """Panels to plain weights; a task is one block of outputs."""
    g, p = panels_view(constants), pack_view(pointers)
    panel_row = g.width * itemsize(kind)
    panel_bytes = g.taps * g.inputs * panel_row
    scratch = p.scratch + worker * _SCRATCH_BYTES
    for task in claimed(work, worker):
        group = task // g.blocks
        first = (task - group * g.blocks) * g.width
        count = min(g.width, g.outputs - first)
        panel = p.panels + task * panel_bytes
        plain = p.plain + group * g.group_bytes + first * g.output_bytes
        for j in range(0, g.width, lanes(kind)):
            _unpack_lanes(kind, g, panel + j * itemsize(kind), plain, j, count, scratch)


@device
def _unpack_lanes(kind, g, column, plain, first, count, scratch):
    """The runs of as many outputs as a vector has lanes, from their column of a panel."""
    size = itemsize(kind)
    panel_row = g.width * size
    block_row = lanes(kind) * size
    # Channels first, the taps of an input are adjacent, and a panel holds them far apart.
    period = g.taps if g.tap_bytes == size else 1
    spread = g.inputs if g.tap_bytes == size else 0
    length = g.taps * g.inputs
    phase, row = 0, 0
    for m in range(0, length, lanes(kind)):
        rows = min(lanes(kind), length - m)
        for i in range(rows):
            store(scratch + i * block_row, load(kind, column + row * panel_row))
            phase += 1
            row += spread
            if phase == period:
                phase = 0
                row += 1 - period * spread
        block = block_load(kind, scratch, block_row, rows, lanes(kind))
        block = block_transpose(kind, block)
        for i in range(min(lanes(kind), count - first)):
            place = plain + (first + i) * g.output_bytes + m * size
            value = block[i]
            if g.accumulate:
                value = value + load_first(kind, place, rows)
            store_first(place, value, rows)
