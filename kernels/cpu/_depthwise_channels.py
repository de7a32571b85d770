"""A vector of channels of a depthwise convolution: its weights, and the way out of its sums."""

from __future__ import annotations

from typing import NamedTuple

from convforge.contract import Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._block import block_load, block_store, block_transpose
from convforge.kernels.cpu._store import store_rows
from convforge.kernels.cpu._vector import itemsize, lanes, load, vector_bytes
from convforge.kernels.cpu._wide import Wide, store_run
from convforge.problem import ConvProblem, Direction
from convforge.runtime.args import Layout
from convforge.runtime.jit import device, inlined, kernel
from convforge.runtime.rawmem import store_word
from convforge.runtime.tasks import claimed

_PACK = Layout("DepthwisePack", "channels taps flip")
_pack = _PACK.view
_POINTERS = Layout("DepthwisePackPointers", "plain packed")
_pointers = _POINTERS.view


@device
def pack_taps(strip, w, target, taps, flip):
    """Weights of as many channels as lanes, a vector for each tap."""
    size, width, vector = itemsize(strip), lanes(strip), vector_bytes(strip)
    for tap in range(0, taps, width):
        count = min(width, taps - tap)
        block = block_transpose(strip, block_load(strip, w + tap * size, taps * size, width, count))
        if flip:
            block_store(strip, block, target + (taps - 1 - tap) * vector, -vector, count, width)
        else:
            block_store(strip, block, target + tap * vector, vector, count, width)


@kernel
def pack_channels(kind, constants, pointers, worker, work):
    """Weights of all channels; a task is as many of them as lanes, the last ones overlap."""
    g, p = _pack(constants), _pointers(pointers)
    size, width = itemsize(kind), lanes(kind)
    for task in claimed(work, worker):
        at, taps_bytes = min(task * width, g.channels - width), g.taps * size
        target = p.packed + task * width * taps_bytes
        pack_taps(kind, p.plain + at * taps_bytes, target, g.taps, g.flip)


def channels_format(problem: ConvProblem, lanes: int) -> WeightFormat:
    """What :func:`pack_channels` makes of the weights."""
    element, flip = problem.w.dtype, problem.direction is Direction.DGRAD
    vectors = -(-problem.C // lanes)
    nbytes = vectors * lanes * problem.taps * element.itemsize
    step = Step(
        name="pack",
        kernel=KernelRef(pack_channels, Wide(element.value, lanes)),
        operands=("w", "packed"),
        constants=_PACK.pack(channels=problem.C, taps=problem.taps, flip=flip),
        tasks=vectors,
        cost=Cost(bytes=2 * nbytes),
    )
    geometry = "x".join(str(n) for n in (problem.C, *problem.filter))
    return WeightFormat(
        id=f"{'c' if flip else 'k'}channels{lanes}:{element}:{geometry}",
        nbytes=nbytes,
        pack=Program(steps=(step,)),
    )


@inlined
def copy_channels(kind, to, source, count):
    """A few vectors of one pixel, of which a call of the C library would take longer."""
    size, width = itemsize(kind), lanes(kind)
    for i in range(0, count, width):
        store_run(kind, to + i * size, load(kind, source + i * size), count - i)


class Channels(NamedTuple):
    """A vector of channels: where its source, output and weights begin, and its scratch memory.

    Attributes:
        done: Lanes that the vector before has in common with this, the last one, and has written.
        slab: Where sums wait that are not stored as they are. table: For the pixels they go to.
    """

    source: int
    output: int
    weights: int
    bias: int
    residual: int
    done: int
    slab: int
    table: int


@device
def finish(strip, s, v, target, apart, count):
    """Write the sums in the slab to the pixels from ``target`` on, through the post ops."""
    for t in range(count):
        store_word(v.table + 8 * t, target + t * apart)
    done = v.done * itemsize(strip)
    width = lanes(strip) - v.done
    place, output = v.slab + done, v.output + done
    store_rows(strip, s, place, count, width, v.table, output, v.bias + done, v.residual + done)
