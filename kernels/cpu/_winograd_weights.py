"""Filters to the transform domain.

The format ``winograd4:kb32:f32`` is ``[group][block of 32 outputs][place][input][32]``: for each
block of output channels and each of the (m + 2)^2 places of a transformed filter, the rows that the
register tile consumes one after another. They are made from the panels of direct convolution, in
which each tap has its rows; for dgrad, whose filters are flipped, the taps are read backwards.
"""

from __future__ import annotations

from dataclasses import replace

from convforge.contract import Buffer, Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._vector import itemsize, lanes
from convforge.kernels.cpu._weights import panel_shape, weight_format
from convforge.kernels.cpu._winograd_transform import (
    TAPS,
    Transform,
    outputs,
    transform_weights,
)
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel

_PLACES = Layout("WinogradWeights", "blocks inputs width plane_bytes backwards")
_places = _PLACES.view
_POINTERS = Layout("WinogradWeightsPointers", "panels packed")
_pointers = _POINTERS.view
_CHUNK = 16
"""Inputs of a task."""
_SKEW_BYTES = 64
"""Between places, which are written side by side: a power of two would fall on few cache sets."""


def weight_plane_bytes(inputs: int, width: int, size: int) -> int:
    """Distance of places in a block."""
    return inputs * width * size + _SKEW_BYTES


def winograd_format(problem: ConvProblem, transform: Transform, name: str, m: int, width: int):
    """Transformed filters, ``width`` outputs a block."""
    plain = weight_format(problem, width)
    groups, blocks, rows, _ = panel_shape(problem, width)
    size, inputs = problem.w.dtype.itemsize, rows // problem.taps
    plane_bytes = weight_plane_bytes(inputs, width, size)
    nbytes = groups * blocks * (m + TAPS - 1) ** 2 * plane_bytes
    (panels,) = plain.pack.steps
    step = Step(
        name="transform",
        kernel=KernelRef(transform_panels, transform),
        operands=("panels", "packed"),
        constants=_PLACES.pack(
            blocks=groups * blocks,
            inputs=inputs,
            width=width,
            plane_bytes=plane_bytes,
            backwards=problem.direction is Direction.DGRAD,
        ),
        tasks=groups * blocks * -(-inputs // _CHUNK),
        cost=Cost(bytes=plain.nbytes + nbytes),
    )
    return WeightFormat(
        id=f"{name}:{plain.id}",
        nbytes=nbytes,
        pack=Program(
            steps=(replace(panels, operands=("w", "panels")), step),
            buffers=(Buffer(name="panels", nbytes=plain.nbytes),),
        ),
    )


@kernel
def transform_panels(kind, constants, pointers, worker, workers):
    """Panels of taps to panels of places; a task is a chunk of inputs of a block."""
    g, p = _places(constants), _pointers(pointers)
    side = outputs(kind) + TAPS - 1
    row = g.width * itemsize(kind)
    tap_bytes = g.inputs * row
    first_tap = 0
    if g.backwards:
        first_tap = (TAPS * TAPS - 1) * tap_bytes
        tap_bytes = -tap_bytes
    chunks = (g.inputs + _CHUNK - 1) // _CHUNK
    tasks = g.blocks * chunks
    for task in range(tasks * worker // workers, tasks * (worker + 1) // workers):
        block = task // chunks
        begin = (task - block * chunks) * _CHUNK
        source = p.panels + block * TAPS * TAPS * g.inputs * row + first_tap
        target = p.packed + block * side * side * g.plane_bytes
        for i in range(begin, min(begin + _CHUNK, g.inputs)):
            for j in range(0, g.width, lanes(kind)):
                at = i * row + j * itemsize(kind)
                transform_weights(kind, source + at, tap_bytes, target + at, g.plane_bytes)
