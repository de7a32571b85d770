"""Weights as panels: what the tile's B operand is packed into, and dw unpacked from.

The format ``kb32:f32`` is ``[group][block of 32 outputs][filter position][input][32]``: for each
block of output channels, the rows that the tile consumes one after another. Dgrad swaps the
roles of the channels, ``cb32:f32``. Lanes beyond the last channel are zero. Wgrad produces the
same panels, and :func:`unpack_panels` is the way back.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._block import block_load, block_transpose
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
from convforge.runtime.jit import device, kernel

PANELS = Layout(
    "Panels",
    "groups blocks width outputs inputs taps group_bytes output_bytes input_bytes tap_bytes "
    "overlap accumulate",
)
panels_view = PANELS.view
PACK = Layout("PackPointers", "plain panels scratch")
_SCRATCH_BYTES = 64 * 16
"""A square block of vectors, of any width."""
pack_view = PACK.view


def panel_shape(problem: ConvProblem, width: int) -> tuple[int, int, int, int]:
    """(groups, blocks, rows, width): channels written are outputs, channels summed are rows."""
    outputs, inputs = _channels(problem)
    return problem.groups, -(-outputs // width), problem.taps * inputs, width


def _channels(problem: ConvProblem) -> tuple[int, int]:
    """Channels of a group along the panel's width, and along its rows."""
    if problem.direction is Direction.DGRAD:
        return problem.group_C, problem.group_K
    return problem.group_K, problem.group_C


def _pack_constants(problem: ConvProblem, width: int, overlap: bool) -> bytes:
    """Strides of the plain weights as the panels see them."""
    groups, blocks, _, _ = panel_shape(problem, width)
    size = problem.w.dtype.itemsize
    first = problem.w.order is Order.CHANNELS_FIRST
    k_bytes = problem.group_C * problem.taps * size
    c_bytes = problem.taps * size if first else size
    tap_bytes = size if first else problem.group_C * size
    outputs, inputs = _channels(problem)
    swapped = problem.direction is Direction.DGRAD
    return PANELS.pack(
        groups=groups,
        blocks=blocks,
        width=width,
        outputs=outputs,
        inputs=inputs,
        taps=problem.taps,
        group_bytes=problem.group_K * k_bytes,
        output_bytes=c_bytes if swapped else k_bytes,
        input_bytes=k_bytes if swapped else c_bytes,
        tap_bytes=tap_bytes,
        overlap=overlap,
        accumulate=problem.accumulate,
    )


def weight_format(problem: ConvProblem, width: int) -> WeightFormat:
    """Panels of plain weights, ``width`` channels each."""
    dtype = problem.w.dtype
    shape = panel_shape(problem, width)
    panel_bytes = prod(shape) * dtype.itemsize
    plain_bytes = prod(problem.w_shape) * dtype.itemsize
    letter = "c" if problem.direction is Direction.DGRAD else "k"
    step = Step(
        name="pack",
        kernel=KernelRef(pack_panels, Vector(dtype.value)),
        operands=("w", "packed"),
        constants=_pack_constants(problem, width, overlap=False),
        tasks=shape[0] * shape[1],
        cost=Cost(bytes=plain_bytes + panel_bytes),
    )
    geometry = "x".join(str(n) for n in (problem.K, problem.group_C, *problem.filter))
    identity = f"{letter}b{width}:{dtype}:{geometry}:g{problem.groups}"
    return WeightFormat(id=identity, nbytes=panel_bytes, pack=Program(steps=(step,)))


def unpack_step(problem: ConvProblem, width: int, overlap: bool) -> tuple[Step, Buffer]:
    """Bring dw from the buffer ``panels``, whose last blocks may overlap, to its plain order."""
    shape = panel_shape(problem, width)
    size = problem.w.dtype.itemsize
    step = Step(
        name="unpack",
        kernel=KernelRef(unpack_panels, Vector(problem.w.dtype.value)),
        operands=("w", "panels", "unpacked"),
        constants=_pack_constants(problem, width, overlap),
        tasks=shape[0] * shape[1],
        cost=Cost(bytes=(prod(problem.w_shape) + prod(shape)) * size),
    )
    return step, Buffer(name="unpacked", nbytes=_SCRATCH_BYTES, scope="worker")


@kernel
def pack_panels(kind, constants, pointers, worker, workers):
    """Plain weights to panels; a task is one block of outputs."""
    g, p = panels_view(constants), pack_view(pointers)
    panel_row = g.width * itemsize(kind)
    panel_bytes = g.taps * g.inputs * panel_row
    tasks = g.groups * g.blocks
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        group = task // g.blocks
        first = (task - group * g.blocks) * g.width
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
            _pack_runs(kind, g, source + i * g.input_bytes, rows, count, length, period, spread)


@device
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


@device
def _pack_runs(kind, g, source, target, count, length, period, spread):
    """Transpose runs of ``length`` adjacent elements, one run an output, into panel rows.

    Element m of a run goes to row ``m % period * spread + m // period``, which is row m where
    the period is one and the spread zero.
    """
    panel_row = g.width * itemsize(kind)
    for j in range(0, g.width, lanes(kind)):
        outputs = max(0, min(lanes(kind), count - j))
        phase, row = 0, 0
        for m in range(0, length, lanes(kind)):
            runs = source + j * g.output_bytes + m * itemsize(kind)
            block = block_load(kind, runs, g.output_bytes, outputs, length - m)
            block = block_transpose(kind, block)
            for i in range(min(lanes(kind), length - m)):
                store(target + row * panel_row + j * itemsize(kind), block[i])
                phase += 1
                row += spread
                if phase == period:
                    phase = 0
                    row += 1 - period * spread


@kernel
def unpack_panels(kind, constants, pointers, worker, workers):
    """Panels to plain weights; a task is one block of outputs.

    The last block of a group overlaps the one before, so that every lane of it is a real
    channel; the lanes that repeat are not written again.
    """
    g, p = panels_view(constants), pack_view(pointers)
    panel_row = g.width * itemsize(kind)
    panel_bytes = g.taps * g.inputs * panel_row
    scratch = p.scratch + worker * _SCRATCH_BYTES
    tasks = g.groups * g.blocks
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        group = task // g.blocks
        wanted = (task - group * g.blocks) * g.width
        first = wanted
        if g.overlap:
            first = max(0, min(wanted, g.outputs - g.width))
        skip = wanted - first
        count = min(g.width, g.outputs - first)
        panel = p.panels + task * panel_bytes
        plain = p.plain + group * g.group_bytes + first * g.output_bytes
        for j in range(0, g.width, lanes(kind)):
            _unpack_lanes(kind, g, panel + j * itemsize(kind), plain, j, skip, count, scratch)


@device
def _unpack_lanes(kind, g, column, plain, first, skip, count, scratch):
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
        for i in range(max(0, skip - first), min(lanes(kind), count - first)):
            place = plain + (first + i) * g.output_bytes + m * size
            value = block[i]
            if g.accumulate:
                value = value + load_first(kind, place, rows)
            store_first(place, value, rows)
