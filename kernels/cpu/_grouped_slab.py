"""A block of an image, gathered for small groups: a plane for each vector of channels.

Channels last, the pixels that one vector of channels meets lie a whole pixel apart: where
that is a power of two, their lines share few sets of the L1. Each vector of a block is therefore
copied to a plane in the L1, with zeros around the image, which then needs no test for borders.
"""

from __future__ import annotations

from dataclasses import dataclass

from convforge.contract import Machine
from convforge.kernels.cpu._depthwise_axes import extents, phases, three_axes
from convforge.kernels.cpu._group_outer import GroupOuter
from convforge.kernels.cpu._group_strip import GroupStrip, group_columns
from convforge.kernels.cpu._vector import itemsize, load, store, vector_bytes, zeros
from convforge.problem import Axis, ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

_BAND = 8
"""Rows of the output of a block."""
_SHORT_BAND = 3
"""Rows where those of all channels do not fit the L2 otherwise."""
_NARROW = 8
"""Vectors of channels, so many that memory is read in runs, before a block is cut along rows."""
_TASKS = 16
"""Wanted, for a few threads to share evenly; with fewer blocks, channels are split."""

SLAB = Layout(
    "GroupedSlab",
    "rows columns group band span top left rows_apart columns_apart ahead "
    "channels images pieces bands spans from_d from_h from_w to_d to_h to_w",
)
slab_view = SLAB.view
SLAB_BYTES = SLAB.nbytes
PLANE = Layout("GroupedPlane", "rows columns channels from_h from_w")
"""As much of a slab as is needed to bring one."""
plane_view = PLANE.view
PLANE_BYTES = PLANE.nbytes


@device
def slab_bring(strip, b, source, top, left, target):
    """Copy some channels of the block of a plane that starts at a place.

    Args:
        source: Address of these channels in the plane's pixel 0. target: Of the slab.
        top, left: Of the block in the plane; rows outside it are left as they are.
    """
    pixel, place = b.channels * itemsize(strip), group_columns(strip) * vector_bytes(strip)
    low = min(max(0, -left), b.columns)
    high = max(low, min(b.columns, b.from_w - left))
    for row in range(max(0, -top), min(b.rows, b.from_h - top)):
        line = target + row * b.columns * place
        x = source + ((top + row) * b.from_w + left) * pixel
        _clear(strip, line, line + low * place)
        for column in range(low, high):
            for at in range(0, place, vector_bytes(strip)):
                store(line + column * place + at, load(strip, x + column * pixel + at))
        _clear(strip, line + high * place, line + b.columns * place)


@device
def _clear(strip, begin, end):
    for at in range(begin, end, vector_bytes(strip)):
        store(at, zeros(strip))


def _axis(problem: ConvProblem, axis: Axis) -> tuple[int, int, int]:
    """Places that output 0 of all phases reads, the first of them, and places to the next."""
    if problem.direction is not Direction.DGRAD:
        return (axis.filter - 1) * axis.dilation + 1, -axis.pad_lo, axis.stride
    reads = (
        divmod(phase + axis.pad_lo - tap * axis.dilation, axis.stride)
        for phase in range(axis.stride)
        for tap in range(axis.filter)
    )
    places = [place for place, rest in reads if rest == 0]
    return max(places) - min(places) + 1, min(places), 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """Blocks that a problem's source is cut into.

    Attributes:
        constants: The struct ``GroupedSlab``. nbytes: Of a block.
        lists: Rows of a block's output, those of each phase apart.
        band, span: Rows and columns of a block's output. columns: Of the block.
        blocks: Of all images and depths. tasks: Those with some of the channels each.
    """

    constants: bytes
    nbytes: int
    lists: int
    band: int
    span: int
    columns: int
    blocks: int
    tasks: int


def slab(
    problem: ConvProblem, strip: GroupStrip | GroupOuter, outputs: int, machine: Machine
) -> Slab:
    """Blocks that fit the L2 and are enough for threads to share evenly.

    Args:
        outputs: Neighbours that are computed at once: what a row is rounded up to.
    """
    block_channels = strip.columns * strip.lanes
    place = block_channels * problem.x.dtype.itemsize
    vectors = -(-problem.C // block_channels)
    shape = extents(problem)
    (depths, _, _), (height, top, rows_step), (width, left, columns_step) = (
        _axis(problem, axis) for axis in three_axes(problem)
    )
    h_phases, w_phases = (phases(problem, axis) for axis in three_axes(problem)[1:])

    def rows(band: int) -> int:
        return (band - 1) * rows_step + height

    def columns(span: int) -> int:
        return (-(-span // outputs) * outputs - 1) * columns_step + width

    most = machine.l2_bytes // 2 // (depths * place)
    span, band = -(-shape["to_w"] // w_phases), min(_BAND, -(-shape["to_h"] // h_phases))
    while band > _SHORT_BAND and vectors * rows(band) * columns(span) > most:
        band -= 1
    while span > outputs and min(vectors, _NARROW) * rows(band) * columns(span) > most:
        span = -(-span // 2 // outputs) * outputs
    bands, spans = -(-shape["to_h"] // (band * h_phases)), -(-shape["to_w"] // (span * w_phases))
    blocks = problem.N * shape["to_d"] * bands * spans
    pieces = max(-(-_TASKS // blocks), -(-vectors * rows(band) * columns(span) // most))
    group = -(-vectors // min(vectors, pieces))
    pieces = -(-vectors // group)
    ahead = 0
    if pieces == spans == 1:
        strips = band * h_phases * -(-span // outputs) * w_phases * vectors
        ahead = -(
            -band * rows_step * shape["from_w"] * problem.C * problem.x.dtype.itemsize // strips
        )
    constants = SLAB.pack(
        rows=rows(band),
        columns=columns(span),
        group=group * block_channels,
        band=band * h_phases,
        ahead=ahead,
        span=span,
        top=top,
        left=left,
        rows_apart=band * rows_step,
        columns_apart=span * columns_step,
        channels=problem.C,
        images=problem.N,
        pieces=pieces,
        bands=bands,
        spans=spans,
        **shape,
    )
    return Slab(
        constants=constants,
        nbytes=depths * rows(band) * columns(span) * place,
        lists=band * h_phases * w_phases,
        band=band,
        span=span,
        columns=columns(span),
        blocks=blocks,
        tasks=pieces * blocks,
    )
