"""A vector of channels of a depthwise convolution: its weights, and the way out of its sums."""

from __future__ import annotations

from typing import NamedTuple

from convforge.kernels.cpu._block import block_load, block_store, block_transpose
from convforge.kernels.cpu._store import store_rows
from convforge.kernels.cpu._vector import itemsize, lanes, load, vector_bytes
from convforge.kernels.cpu._wide import store_run
from convforge.runtime.jit import device, inlined
from convforge.runtime.rawmem import store_word


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
