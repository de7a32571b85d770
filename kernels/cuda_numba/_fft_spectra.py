"""Spectra of tiles, and results of tiles from spectra.

A spectrum is ``[lead, channel, real or imaginary, frequency]``. Two tiles of one image are the real
and the imaginary part of one complex tile: filters are real, so that what comes back are their two
results.
"""

from __future__ import annotations

from math import prod

from numba import cuda

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import (
    divider,
    inlined,
    loader,
    number_type,
)
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._fft_block import (
    LONGEST_SHARE,
    PLACES,
    THREADS,
    FftTypes,
    transformer,
)
from convforge.kernels.cuda_numba._fft_tiles import Cut, Window, transform_flops
from convforge.kernels.cuda_numba._geometry import named
from convforge.problem import ConvProblem
from convforge.runtime.cuda.jit import Constants, kernel

SPECTRA = Constants(
    "Spectra",
    "log_h log_w log_t channels first pairs_an_image tiles tiles_w flip "
    "first_h step_h window_h size_h spacing_h some_h zero_h "
    "first_w step_w window_w size_w spacing_w some_w zero_w "
    "source_n source_c source_h source_w",
)
RESULTS = Constants(
    "Results",
    "log_h log_w log_t channels first pairs_an_image tiles tiles_w post accumulate "
    "kept_h apart_h count_h some_h zero_h kept_w apart_w count_w some_w zero_w "
    "target_n target_c target_h target_w",
)


def types_of(index: str, acc: str, pointers: tuple[str, ...], shape: tuple[int, int]) -> FftTypes:
    """The least shared memory that a tile fits."""
    least = max(prod(shape), LONGEST_SHARE * max(shape))
    places = min(places for places in PLACES[acc] if places >= least)
    return FftTypes(index, acc, pointers, places)


@kernel(SPECTRA, threads=THREADS, registers={"f32": 48, "f64": 64})
def conv_fft_spectra(config):
    """The spectrum of a pair of tiles of one channel."""
    index, acc = number_type(config.index), number_type(config.acc)
    load, divide = loader(config.pointers[0], config.acc), divider(config.index)
    turn, forward, _ = transformer(config)
    most, turns = config.places, config.places // LONGEST_SHARE // 2

    @inlined
    def found(i, tile, first, step, window, size, spacing, some, zero, flip):
        position = index(first + tile * step + i)
        rest = index(0)
        if i >= window or position < 0:
            rest = index(1)
        at = position
        if spacing > 1 and rest == 0:
            at, rest = divide(position, spacing)
        if flip != 0:
            at = index(size - 1 - at)
        if rest != 0 or at < some or at >= zero:
            at = index(-1)
        return at

    def conv_fft_spectra(g, source, spectra):
        re, im = cuda.shared.array(most, acc), cuda.shared.array(most, acc)
        cos, sin = cuda.shared.array(turns, acc), cuda.shared.array(turns, acc)
        turn(cos, sin, g.log_t)
        pair, c = divide(index(cuda.blockIdx.x), g.channels)
        n, half = divide(index(g.first + pair), g.pairs_an_image)
        plane = index(n * g.source_n + c * g.source_c)
        tile = index(2 * half)
        row, column = divide(tile, g.tiles_w)
        row_2, column_2 = divide(index(tile + 1), g.tiles_w)
        places = index(1 << (g.log_h + g.log_w))
        for e in range(index(cuda.threadIdx.x), places, index(THREADS)):
            i, j = index(e >> g.log_w), index(e & ((1 << g.log_w) - 1))
            value, value_2 = acc(0), acc(0)
            h = found(
                i, row, g.first_h, g.step_h, g.window_h, g.size_h, g.spacing_h,
                g.some_h, g.zero_h, g.flip,
            )  # fmt: skip
            w = found(
                j, column, g.first_w, g.step_w, g.window_w, g.size_w, g.spacing_w,
                g.some_w, g.zero_w, g.flip,
            )  # fmt: skip
            if h >= 0 and w >= 0:
                value = load(source, index(plane + h * g.source_h + w * g.source_w))
            if tile + 1 < g.tiles:
                h = found(
                    i, row_2, g.first_h, g.step_h, g.window_h, g.size_h, g.spacing_h,
                    g.some_h, g.zero_h, g.flip,
                )  # fmt: skip
                w = found(
                    j, column_2, g.first_w, g.step_w, g.window_w, g.size_w, g.spacing_w,
                    g.some_w, g.zero_w, g.flip,
                )  # fmt: skip
                if h >= 0 and w >= 0:
                    value_2 = load(source, index(plane + h * g.source_h + w * g.source_w))
            re[e], im[e] = value, value_2
        forward(re, im, cos, sin, index(g.log_h + g.log_w), g.log_w, g.log_t)
        at = index(cuda.blockIdx.x * 2 * places)
        for e in range(index(cuda.threadIdx.x), places, index(THREADS)):
            spectra[index(at + e)] = re[e]
            spectra[index(at + places + e)] = im[e]

    return conv_fft_spectra


@kernel(RESULTS, threads=THREADS, registers={"f32": 48, "f64": 64})
def conv_fft_results(config):
    """Back from the spectrum of a pair of tiles, and the results that did not wrap around."""
    index, acc = number_type(config.index), number_type(config.acc)
    turn, _, back = transformer(config)
    finish, divide = finisher(config.pointers[1], config.acc), divider(config.index)
    most, turns = config.places, config.places // LONGEST_SHARE // 2

    def conv_fft_results(g, spectra, target, bias, residual):
        re, im = cuda.shared.array(most, acc), cuda.shared.array(most, acc)
        cos, sin = cuda.shared.array(turns, acc), cuda.shared.array(turns, acc)
        turn(cos, sin, g.log_t)
        log_f = index(g.log_h + g.log_w)
        places = index(1 << log_f)
        at = index(cuda.blockIdx.x * 2 * places)
        for e in range(index(cuda.threadIdx.x), places, index(THREADS)):
            re[e] = spectra[index(at + e)]
            im[e] = spectra[index(at + places + e)]
        back(re, im, cos, sin, log_f, g.log_w, g.log_t)
        pair, c = divide(index(cuda.blockIdx.x), g.channels)
        n, half = divide(index(g.first + pair), g.pairs_an_image)
        plane = index(n * g.target_n + c * g.target_c)
        kept = index(g.kept_h * g.kept_w)
        for e in range(index(cuda.threadIdx.x), 2 * kept, index(THREADS)):
            part, rest = divide(index(e), kept)
            i, j = divide(rest, g.kept_w)
            tile = index(2 * half + part)
            row, column = divide(tile, g.tiles_w)
            h, w = index(row * g.kept_h + i), index(column * g.kept_w + j)
            if tile < g.tiles and h < g.count_h and w < g.count_w:
                place = index(((i * g.apart_h) << g.log_w) + j * g.apart_w)
                value = re[place]
                if part != 0:
                    value = im[place]
                value = value / acc(places)
                if h < g.some_h or h >= g.zero_h or w < g.some_w or w >= g.zero_w:
                    value = acc(0)
                at = index(plane + h * g.target_h + w * g.target_w)
                finish(value, g.post, g.accumulate, target, at, bias, c, residual)

    return conv_fft_results


def _logs(shape: tuple[int, int]) -> dict[str, int]:
    h, w = (length.bit_length() - 1 for length in shape)
    return {"log_h": h, "log_w": w, "log_t": max(h, w)}


def spectra_step(
    types: FftTypes,
    operands: tuple[str, str],
    shape: tuple[int, int],
    windows: tuple[Window, Window],
    tiles: tuple[int, int],
    source: tuple[int, int, int, int],
    *,
    channels: int,
    first: int,
    pairs: int,
    flip: bool = False,
) -> Step:
    """The launch for ``pairs`` pairs of tiles from the ``first`` on, of every channel.

    Args:
        windows: What a tile holds of each axis. tiles: Of an image, on each axis.
        source: Elements from image to image, channel to channel, row to row, column to column.
    """
    places = prod(shape)
    constants = SPECTRA.pack(
        types.index,
        channels=channels,
        first=first,
        pairs_an_image=-(-prod(tiles) // 2),
        tiles=prod(tiles),
        tiles_w=tiles[1],
        flip=flip,
        **_logs(shape),
        **{
            f"{field}_{axis}": getattr(window, field)
            for axis, window in zip("hw", windows, strict=True)
            for field in ("first", "step", "window", "size", "spacing", "some", "zero")
        },
        **named("source_n source_c source_h source_w", source),
    )
    blocks, size = pairs * channels, {"f32": 4, "f64": 8}[types.acc]
    return Step(
        name=f"transform {operands[0]}",
        kernel=KernelRef(conv_fft_spectra, types),
        operands=operands,
        constants=constants,
        tasks=blocks,
        cost=Cost(flops=blocks * transform_flops(places), bytes=blocks * places * 4 * size),
    )


def results_step(
    problem: ConvProblem,
    types: FftTypes,
    target_name: str,
    cuts: tuple[Cut, Cut],
    target: tuple[int, int, int, int],
    *,
    channels: int,
    first: int,
    pairs: int,
    tiles: tuple[int, int],
) -> Step:
    """The launch that brings ``pairs`` pairs of tiles of every channel back."""
    shape = (cuts[0].length, cuts[1].length)
    places = prod(shape)
    constants = RESULTS.pack(
        types.index,
        channels=channels,
        first=first,
        pairs_an_image=-(-prod(tiles) // 2),
        tiles=prod(tiles),
        tiles_w=tiles[1],
        post=post_code(problem),
        accumulate=problem.accumulate,
        **_logs(shape),
        **{
            f"{field}_{axis}": getattr(each, field)
            for axis, each in zip("hw", cuts, strict=True)
            for field in ("kept", "apart", "count", "some", "zero")
        },
        **named("target_n target_c target_h target_w", target),
    )
    blocks, size = pairs * channels, {"f32": 4, "f64": 8}[types.acc]
    return Step(
        name="transform back",
        kernel=KernelRef(conv_fft_results, types),
        operands=(
            "products",
            target_name,
            *(op if op in problem.post else "" for op in ("bias", "residual")),
        ),
        constants=constants,
        tasks=blocks,
        cost=Cost(flops=blocks * transform_flops(places), bytes=blocks * places * 4 * size),
    )
