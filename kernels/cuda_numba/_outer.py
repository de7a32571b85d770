"""The gradient of weights: a block sums one tap of a few filters by a few channels.

Each thread takes every 128th pixel, so that neighbours read neighbouring pixels; their sums are
added in shared memory, always in the same order.
"""

from __future__ import annotations

from math import prod

from numba import cuda

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import (
    LOAD_COST,
    Types,
    divider,
    loader,
    number_type,
    storer,
)
from convforge.kernels.cuda_numba._geometry import (
    MODES,
    named,
    source_of,
    steps,
    three,
    three_axes,
)
from convforge.problem import ConvProblem
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
TILE = 4
"""Filters and channels of a block: 16 sums a thread, from 8 loads a pixel."""
SUMS = TILE * TILE
PARTS = THREADS // SUMS
"""Threads that add up one sum of the block."""

OUTER = Constants(
    "Outer",
    "pixels k_blocks c_blocks group_K group_C accumulate Z P Q D H W R S taps "
    "y_n y_k y_z y_p y_q x_n x_c x_d x_h x_w w_k w_c w_t w_r w_s "
    "stride_d dilation_d pad_d mode_d stride_h dilation_h pad_h mode_h "
    "stride_w dilation_w pad_w mode_w",
)


@kernel(OUTER, threads=THREADS, registers={"f32": 80, "f64": 96})
def conv_direct_outer(config):
    """dw[k, c, t, r, s]: the sum over pixels of dy times x."""
    index, acc = number_type(config.index), number_type(config.acc)
    load_x, load_y, load_w = (loader(d, config.acc) for d in config.pointers)
    store, divide, source_at = (
        storer(config.pointers[2]),
        divider(config.index),
        source_of(config.index),
    )

    def conv_direct_outer(g, x, y, w):
        lane = index(cuda.threadIdx.x)
        rest, tap = divide(index(cuda.blockIdx.x), g.taps)
        rest, c_block = divide(rest, g.c_blocks)
        group, k_block = divide(rest, g.k_blocks)
        rest, s = divide(tap, g.S)
        t, r = divide(rest, g.R)
        first_k, first_c = index(k_block * TILE), index(c_block * TILE)
        # Beyond the group's last channel the last one is read again, and its sums are not stored.
        y_at = cuda.local.array(TILE, index)
        x_at = cuda.local.array(TILE, index)
        sums = cuda.local.array((TILE, TILE), acc)
        for i in range(TILE):
            k = min(index(first_k + i), index(g.group_K - 1))
            c = min(index(first_c + i), index(g.group_C - 1))
            y_at[i] = index((group * g.group_K + k) * g.y_k)
            x_at[i] = index((group * g.group_C + c) * g.x_c)
            for j in range(TILE):
                sums[i, j] = acc(0)

        for pixel in range(lane, g.pixels, index(THREADS)):
            rest, q = divide(pixel, g.Q)
            rest, p = divide(rest, g.P)
            n, z = divide(rest, g.Z)
            at_y = index(n * g.y_n + z * g.y_z + p * g.y_p + q * g.y_q)
            d = source_at(index(z * g.stride_d + t * g.dilation_d - g.pad_d), g.D, g.mode_d)
            h = source_at(index(p * g.stride_h + r * g.dilation_h - g.pad_h), g.H, g.mode_h)
            v = source_at(index(q * g.stride_w + s * g.dilation_w - g.pad_w), g.W, g.mode_w)
            inside = d >= 0 and h >= 0 and v >= 0
            at_x = index(n * g.x_n + d * g.x_d + h * g.x_h + v * g.x_w)
            for j in range(TILE):
                value = acc(0)
                if inside:
                    value = load_x(x, index(at_x + x_at[j]))
                for i in range(TILE):
                    sums[i, j] += value * load_y(y, index(at_y + y_at[i]))

        shares = cuda.shared.array((SUMS, THREADS), acc)
        for i in range(TILE):
            for j in range(TILE):
                shares[i * TILE + j, lane] = sums[i, j]
        cuda.syncthreads()
        which, part = divide(lane, index(PARTS))
        total = acc(0)
        for i in range(SUMS):
            total += shares[which, part * SUMS + i]
        cuda.syncthreads()
        shares[which, part] = total
        cuda.syncthreads()
        if lane < SUMS:
            i, j = divide(lane, index(TILE))
            k, c = index(first_k + i), index(first_c + j)
            if k < g.group_K and c < g.group_C:
                total = acc(0)
                for part in range(PARTS):
                    total += shares[lane, part]
                row = index((group * g.group_K + k) * g.w_k + c * g.w_c)
                place = index(row + t * g.w_t + r * g.w_r + s * g.w_s)
                if g.accumulate != 0:
                    total += load_w(w, place)
                store(w, place, total)

    return conv_direct_outer


def outer_step(problem: ConvProblem, config: Types) -> Step:
    """The launch that writes dw."""
    k_blocks, c_blocks = (-(-n // TILE) for n in (problem.group_K, problem.group_C))
    windows: dict[str, int] = {}
    for name, axis in zip("dhw", three_axes(problem.axes), strict=True):
        windows |= named(
            f"stride_{name} dilation_{name} pad_{name} mode_{name}",
            (axis.stride, axis.dilation, axis.pad_lo, MODES.index(axis.pad_mode)),
        )
    _, R, S = three(problem.filter)
    constants = OUTER.pack(
        config.index,
        pixels=problem.N * prod(problem.out),
        k_blocks=k_blocks,
        c_blocks=c_blocks,
        group_K=problem.group_K,
        group_C=problem.group_C,
        accumulate=problem.accumulate,
        taps=problem.taps,
        R=R,
        S=S,
        **named("Z P Q", three(problem.out)),
        **named("D H W", three(problem.size)),
        **named("y_n y_k y_z y_p y_q", steps(problem.y.order, problem.N, problem.K, problem.out)),
        **named("x_n x_c x_d x_h x_w", steps(problem.x.order, problem.N, problem.C, problem.size)),
        **named(
            "w_k w_c w_t w_r w_s",
            steps(problem.w.order, problem.K, problem.group_C, problem.filter),
        ),
        **windows,
    )
    return Step(
        name="multiply",
        kernel=KernelRef(conv_direct_outer, config),
        operands=("x", "y", "w"),
        constants=constants,
        tasks=k_blocks * c_blocks * problem.taps * problem.groups,
        cost=Cost(flops=problem.flops * LOAD_COST * 2 * TILE // SUMS, bytes=problem.bytes),
    )
