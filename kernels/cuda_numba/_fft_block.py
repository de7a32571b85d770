"""Fourier transforms of a tile by a block, in shared memory, in place.

Forward the passes go from far neighbours to near ones and leave frequencies in the order of turned
round bits, back they go from near ones to far ones and take them so: nothing is ever sorted. A tile
of rows is one array: passes over its outer half of bits are those of columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cuda
from numba.cuda import libdevice

from convforge.kernels.cuda_numba._element import Types, inlined, number_type

THREADS = 128
PLACES = {"f32": (1024, 4096), "f64": (1024, 2048)}
"""Of a tile, at most: small ones leave shared memory for other blocks, large ones take 40 KiB."""
LONGEST_SHARE = 2
"""An axis has at most so many times fewer places, which bounds the table of its angles."""


@dataclass(frozen=True, slots=True)
class FftTypes(Types):
    """Places that shared memory is kept for, besides the types."""

    places: int


def transformer(config: FftTypes) -> tuple[Callable[..., Any], ...]:
    """``turn(cos, sin, log_t)`` fills the tables of the longer axis; ``forward`` and ``back``.

    These get ``(re, im, cos, sin, log_f, log_w, log_t)``: a tile of 2 ** log_f places in rows of
    2 ** log_w, in place. Back is not divided by the places. Both end with a barrier; the first of
    them begins with one.
    """
    index, acc = number_type(config.index), number_type(config.acc)
    if config.acc == "f32":
        cos_pi, sin_pi = libdevice.cospif, libdevice.sinpif
    else:
        cos_pi, sin_pi = libdevice.cospi, libdevice.sinpi

    @inlined
    def turn(cos, sin, log_t):
        half = index((1 << log_t) >> 1)
        for m in range(index(cuda.threadIdx.x), half, index(THREADS)):
            angle = acc(m) / acc(half)
            cos[m] = cos_pi(angle)
            sin[m] = sin_pi(angle)

    @inlined
    def places(u, log, log_w, log_t):
        low = index(u & ((1 << log) - 1))
        first = index(((u >> log) << (log + 1)) + low)
        if log >= log_w:
            return first, index((low >> log_w) << (log_t - 1 - (log - log_w)))
        return first, index(low << (log_t - 1 - log))

    @inlined
    def forward(re, im, cos, sin, log_f, log_w, log_t):
        cuda.syncthreads()
        for passed in range(log_f):
            log = index(log_f - 1 - passed)
            for u in range(index(cuda.threadIdx.x), index((1 << log_f) >> 1), index(THREADS)):
                i, m = places(index(u), log, log_w, log_t)
                j = index(i + (1 << log))
                a, b, c, d = re[i], im[i], re[j], im[j]
                re[i], im[i] = a + c, b + d
                a, b = a - c, b - d
                # Times exp(-i angle).
                re[j], im[j] = a * cos[m] + b * sin[m], b * cos[m] - a * sin[m]
            cuda.syncthreads()

    @inlined
    def back(re, im, cos, sin, log_f, log_w, log_t):
        cuda.syncthreads()
        for passed in range(log_f):
            log = index(passed)
            for u in range(index(cuda.threadIdx.x), index((1 << log_f) >> 1), index(THREADS)):
                i, m = places(index(u), log, log_w, log_t)
                j = index(i + (1 << log))
                a, b, c, d = re[i], im[i], re[j], im[j]
                c, d = c * cos[m] - d * sin[m], d * cos[m] + c * sin[m]
                re[i], im[i] = a + c, b + d
                re[j], im[j] = a - c, b - d
            cuda.syncthreads()

    return turn, forward, back
