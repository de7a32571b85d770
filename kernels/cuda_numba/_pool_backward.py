"""The way back of pooling: every element of x asks which windows hold it.

The sum of each is in one thread, and its order is always the same.
"""

from __future__ import annotations

from numba import cuda

from convforge.kernels.cuda_numba._element import loader, number_type, storer
from convforge.kernels.cuda_numba._windows import (
    POOL,
    THREADS,
    count_of,
    holders_of,
    place_of,
    visited_of,
)
from convforge.runtime.cuda.jit import kernel


@kernel(POOL, threads=THREADS, registers={"f32": 56, "f64": 56})
def pool_window_max_backward(config):
    """The sum of dy over the windows whose maximum an element was."""
    index, acc = number_type(config.index), number_type(config.acc)
    load, store = loader(config.pointers[0], config.acc), storer(config.pointers[2])
    place, holders = place_of(config.index), holders_of(config.index)

    def pool_window_max_backward(g, y, indices, x):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.elements:
            return
        n, c, d, h, w = place(i, g.channels, g.size_d, g.size_h, g.size_w, g.channels_last)
        z0, z1 = holders(
            d, g.size_d, g.out_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.windows_d
        )
        p0, p1 = holders(
            h, g.size_h, g.out_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.windows_h
        )
        q0, q1 = holders(
            w, g.size_w, g.out_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.windows_w
        )
        plane = index(n * g.source_n + c * g.source_c)
        own = index((d * g.size_h + h) * g.size_w + w)
        total = acc(0)
        for z in range(z0, z1):
            for p in range(p0, p1):
                for q in range(q0, q1):
                    at = index(plane + z * g.source_d + p * g.source_h + q * g.source_w)
                    if indices[at] == own:
                        total += load(y, at)
        store(x, i, total)

    return pool_window_max_backward


@kernel(POOL, threads=THREADS, registers={"f32": 80, "f64": 96})
def pool_window_mean_backward(config):
    """The sum of dy over what each window divided by, over the windows that hold an element."""
    index, acc = number_type(config.index), number_type(config.acc)
    load, store = loader(config.pointers[0], config.acc), storer(config.pointers[1])
    place, holders = place_of(config.index), holders_of(config.index)
    count, visited = count_of(config.index, config.acc), visited_of(config.index)

    def pool_window_mean_backward(g, y, x):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.elements:
            return
        n, c, d, h, w = place(i, g.channels, g.size_d, g.size_h, g.size_w, g.channels_last)
        z0, z1 = holders(
            d, g.size_d, g.out_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.windows_d
        )
        p0, p1 = holders(
            h, g.size_h, g.out_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.windows_h
        )
        q0, q1 = holders(
            w, g.size_w, g.out_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w, g.windows_w
        )
        plane = index(n * g.source_n + c * g.source_c)
        total = acc(0)
        for z in range(z0, z1):
            if visited(d, z, g.stride_d, g.dilation_d, g.pad_d):
                in_z = count(
                    z, g.size_d, g.taps_d, g.stride_d, g.dilation_d, g.pad_d, g.beyond_d,
                    g.windows_d, g.padded,
                )  # fmt: skip
                for p in range(p0, p1):
                    if visited(h, p, g.stride_h, g.dilation_h, g.pad_h):
                        in_p = in_z * count(
                            p, g.size_h, g.taps_h, g.stride_h, g.dilation_h, g.pad_h, g.beyond_h,
                            g.windows_h, g.padded,
                        )  # fmt: skip
                        for q in range(q0, q1):
                            if visited(w, q, g.stride_w, g.dilation_w, g.pad_w):
                                divisor = acc(g.divisor)
                                if g.divisor == 0:
                                    divisor = in_p * count(
                                        q, g.size_w, g.taps_w, g.stride_w, g.dilation_w, g.pad_w,
                                        g.beyond_w, g.windows_w, g.padded,
                                    )  # fmt: skip
                                at = plane + z * g.source_d + p * g.source_h + q * g.source_w
                                total += load(y, index(at)) / divisor
        store(x, i, total)

    return pool_window_mean_backward
