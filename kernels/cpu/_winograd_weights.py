"""Filters to the transform domain.

The format ``winograd4:kb32:f32`` is ``[group][block of 32 outputs][depth][place][input][32]``:
for each block of output channels and each of the (m + 2)^2 places of a transformed filter, the rows
that the register tile consumes one after another. A few inputs at a time become panels of taps, as
direct convolution has them, and these are transformed; for dgrad, whose filters are flipped,
backwards.
"""

from __future__ import annotations

from math import prod

from convforge.contract import Buffer, Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._convert import vectors_of
from convforge.kernels.cpu._vector import itemsize, lanes, load_first, store
from convforge.kernels.cpu._weights import (
    PANELS,
    pack_constants,
    pack_view,
    panel_shape,
    panels_view,
    transpose_runs,
    weight_format,
)
from convforge.kernels.cpu._winograd_minimal import TAPS, Interleaved, Minimal
from convforge.kernels.cpu._winograd_transform import Transform, side, transform_weights
from convforge.kernels.cpu._winograd_windows import places
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, kernel
from convforge.runtime.tasks import claimed

_PANELS_BYTES = PANELS.nbytes
_PLACES = Layout("WinogradWeights", "chunk depth plane_bytes backwards scratch_bytes")
_places = _PLACES.view
_CHUNK = 16
"""Inputs of a task: their taps stay in the L1 until they are transformed."""
_CACHED_BYTES = 32 << 20
"""A usual last cache; memory reads lines before it writes them."""
_SKEW_BYTES = 64
"""Between places, which are written side by side: a power of two would fall on few cache sets."""


def weight_plane_bytes(inputs: int, width: int, size: int) -> int:
    """Distance of places in a block."""
    return inputs * width * size + _SKEW_BYTES


def winograd_format(
    problem: ConvProblem, minimal: Minimal | Interleaved, width: int
) -> WeightFormat:
    """Transformed filters, ``width`` outputs a block."""
    groups, blocks, rows, _ = panel_shape(problem, width)
    size, inputs = problem.w.dtype.itemsize, rows // problem.taps
    plane_bytes = weight_plane_bytes(inputs, width, size)
    depth = prod(problem.filter[:-2])
    nbytes = groups * blocks * depth * places(minimal) * plane_bytes
    scratch_bytes = problem.taps * _CHUNK * width * size
    step = Step(
        name="transform",
        kernel=KernelRef(transform_filters, Transform(problem.w.dtype.value, minimal)),
        operands=("w", "packed", "taps"),
        constants=pack_constants(problem, width, range(blocks))
        + _PLACES.pack(
            chunk=_CHUNK,
            depth=depth,
            plane_bytes=plane_bytes,
            backwards=problem.direction is Direction.DGRAD and isinstance(minimal, Minimal),
            scratch_bytes=scratch_bytes,
        ),
        tasks=groups * blocks * -(-inputs // _CHUNK),
        cost=Cost(bytes=prod(problem.w_shape) * size + (1 + (nbytes > _CACHED_BYTES)) * nbytes),
    )
    return WeightFormat(
        id=f"winograd{minimal.name}:{weight_format(problem, width).id}",
        nbytes=nbytes,
        pack=Program(
            steps=(step,),
            buffers=(Buffer(name="taps", nbytes=scratch_bytes, scope="worker"),),
        ),
    )


@kernel
def transform_filters(kind, constants, pointers, worker, work):
    """Plain weights to panels of places; a task is a chunk of inputs of a block."""
    g, c, p = panels_view(constants), _places(constants + _PANELS_BYTES), pack_view(pointers)
    square = side(kind) * side(kind)
    row = g.width * itemsize(kind)
    taps = p.scratch + worker * c.scratch_bytes
    chunks = (g.inputs + c.chunk - 1) // c.chunk
    for task in claimed(work, worker):
        block = task // chunks
        begin = (task - block * chunks) * c.chunk
        inputs = min(c.chunk, g.inputs - begin)
        group = block // g.blocks
        first = (block - group * g.blocks) * g.width
        source = p.plain + group * g.group_bytes + first * g.output_bytes + begin * g.input_bytes
        outputs_here = min(g.width, g.outputs - first)
        tap_bytes, input_bytes = _taps_of(vectors_of(kind), g, source, taps, outputs_here, inputs)
        first_tap = taps
        if c.backwards:
            first_tap, tap_bytes = taps + (g.taps - 1) * tap_bytes, -tap_bytes
        target = p.panels + block * c.depth * square * c.plane_bytes + begin * row
        for i in range(inputs * c.depth):
            depth = i // inputs
            at = first_tap + depth * TAPS * TAPS * tap_bytes
            at += (i - depth * inputs) * input_bytes
            to = target + depth * square * c.plane_bytes + (i - depth * inputs) * row
            for j in range(0, row, lanes(kind) * itemsize(kind)):
                transform_weights(kind, at + j, tap_bytes, to + j, c.plane_bytes)


@device
def _taps_of(kind, g, source, target, count, inputs):
    """Taps of a few inputs of ``count`` outputs as rows; bytes between taps, between inputs."""
    row, size = g.width * itemsize(kind), itemsize(kind)
    if g.output_bytes == size:
        for i in range(g.taps * inputs):
            tap = i // inputs
            run = source + tap * g.tap_bytes + (i - tap * inputs) * g.input_bytes
            for j in range(0, g.width, lanes(kind)):
                store(target + i * row + j * size, load_first(kind, run + j * size, count - j))
        return inputs * row, row
    # One run is every tap of every input, of one input, or every input of one tap.
    runs, length, run_bytes = 1, g.taps * inputs, 0
    tap_bytes, input_bytes = row, g.taps * row
    if g.tap_bytes != size:
        runs, length, run_bytes = g.taps, inputs, g.tap_bytes
        tap_bytes, input_bytes = inputs * row, row
    elif g.input_bytes != g.taps * size:
        runs, length, run_bytes = inputs, g.taps, g.input_bytes
    for i in range(runs):
        for j in range(0, g.width, lanes(kind)):
            outputs_here = max(0, min(lanes(kind), count - j))
            run = source + i * run_bytes + j * g.output_bytes
            place = target + i * length * row + j * size
            transpose_runs(kind, g, run, place, outputs_here, 0, length)
    return tap_bytes, input_bytes
