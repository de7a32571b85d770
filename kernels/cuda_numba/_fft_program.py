"""The launches of an FFT convolution, ``chunk`` pairs of tiles at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convforge.contract import Buffer, Program, Step
from convforge.kernels.cuda_numba._element import Types
from convforge.kernels.cuda_numba._fft_multiply import multiply_step
from convforge.kernels.cuda_numba._fft_spectra import results_step, spectra_step, types_of
from convforge.kernels.cuda_numba._fft_tiles import cut, gradient_window, source_window
from convforge.kernels.cuda_numba._geometry import steps, three_axes
from convforge.problem import Axis, ConvProblem, Direction, Operand


@dataclass(frozen=True, slots=True)
class FftConfig(Types):
    """Rows and columns of a tile, and pairs of tiles at once, besides the types."""

    shape: tuple[int, int]
    chunk: int


def axes_of(problem: ConvProblem) -> tuple[Axis, Axis]:
    _, rows, columns = three_axes(problem.axes)
    return rows, columns


def strides_of(
    operand: Operand, lead: int, channels: int, spatial: tuple[int, ...]
) -> tuple[int, int, int, int]:
    n, c, _, h, w = steps(operand.order, lead, channels, spatial)
    return n, c, h, w


def tiles_of(problem: ConvProblem, shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = (
        cut(problem.direction, axis, length).tiles
        for axis, length in zip(axes_of(problem), shape, strict=True)
    )
    return rows, columns


def pairs_of(problem: ConvProblem, shape: tuple[int, int]) -> int:
    """Of all images; a pair is of one image, whose bits then depend on no other."""
    return problem.N * -(-prod(tiles_of(problem, shape)) // 2)


def gather_program(problem: ConvProblem, config: FftConfig) -> Program:
    """Fprop and dgrad, ``chunk`` pairs of tiles at a time."""
    fprop = problem.direction is Direction.FPROP
    axes, shape, acc = axes_of(problem), config.shape, config.acc
    x = strides_of(problem.x, problem.N, problem.C, problem.size)
    y = strides_of(problem.y, problem.N, problem.K, problem.out)
    source, target = (x, y) if fprop else (y, x)
    source_name, target_name = ("x", "y") if fprop else ("y", "x")
    group_in, group_out = problem.group_C, problem.group_K
    # Spectra of filters are [k, c].
    b = group_out * group_in, 1, group_in
    if not fprop:
        group_in, group_out = group_out, group_in
        b = group_in * group_out, group_out, 1
    rows, columns = (
        source_window(problem.direction, axis, length)
        for axis, length in zip(axes, shape, strict=True)
    )
    cut_h, cut_w = (
        cut(problem.direction, axis, length) for axis, length in zip(axes, shape, strict=True)
    )
    tiles = cut_h.tiles, cut_w.tiles
    to_spectra = types_of(config.index, acc, (config.pointers[0], acc), shape)
    products = Types(config.index, acc, (acc, acc, acc))
    last = config.pointers[2]
    from_spectra = types_of(config.index, acc, (acc, last, last, last), shape)
    ins, outs = group_in * problem.groups, group_out * problem.groups
    pairs, chunk = pairs_of(problem, shape), config.chunk
    launches: list[Step] = []
    for first in range(0, pairs, chunk):
        count = min(chunk, pairs - first)
        launches.append(
            spectra_step(
                to_spectra,
                (source_name, "spectra"),
                shape,
                (rows, columns),
                tiles,
                source,
                channels=ins,
                first=first,
                pairs=count,
            )
        )
        launches.append(
            multiply_step(
                products,
                ("spectra", "packed", "products"),
                places=prod(shape),
                groups=problem.groups,
                rows=count,
                columns=group_out,
                depth=group_in,
                a=(group_in, ins, 1),
                b=b,
                c=(group_out, outs, 1),
            )
        )
        launches.append(
            results_step(
                problem,
                from_spectra,
                target_name,
                (cut_h, cut_w),
                target,
                channels=outs,
                first=first,
                pairs=count,
                tiles=tiles,
            )
        )
    spectrum = 2 * prod(shape) * problem.acc.itemsize
    return Program(
        steps=tuple(launches),
        buffers=(
            Buffer(name="spectra", nbytes=chunk * ins * spectrum),
            Buffer(name="products", nbytes=chunk * outs * spectrum),
        ),
    )


def wgrad_program(problem: ConvProblem, config: FftConfig) -> Program:
    """Wgrad: x and dy as spectra, correlated over tiles and images, ``chunk`` pairs at a time."""
    axes, shape, acc = axes_of(problem), config.shape, config.acc
    cut_h, cut_w = (
        cut(problem.direction, axis, length) for axis, length in zip(axes, shape, strict=True)
    )
    tiles = cut_h.tiles, cut_w.tiles
    pairs, chunk = pairs_of(problem, shape), config.chunk
    sides = []
    for name, dtype, strides, channels, window in (
        (
            "x",
            problem.x.dtype,
            strides_of(problem.x, problem.N, problem.C, problem.size),
            problem.C,
            [source_window(problem.direction, *each) for each in zip(axes, shape, strict=True)],
        ),
        (
            "y",
            problem.y.dtype,
            strides_of(problem.y, problem.N, problem.K, problem.out),
            problem.K,
            [gradient_window(*each) for each in zip(axes, shape, strict=True)],
        ),
    ):
        types = types_of(config.index, acc, (dtype.value, acc), shape)
        sides.append((name, types, strides, channels, (window[0], window[1])))
    products = Types(config.index, acc, (acc, acc, acc))
    launches: list[Step] = []
    for first in range(0, pairs, chunk):
        count = min(chunk, pairs - first)
        launches += [
            spectra_step(
                types,
                (name, f"{name}_spectra"),
                shape,
                windows,
                tiles,
                strides,
                channels=channels,
                first=first,
                pairs=count,
            )
            for name, types, strides, channels, windows in sides
        ]
        launches.append(
            multiply_step(
                products,
                ("x_spectra", "y_spectra", "products"),
                places=prod(shape),
                groups=problem.groups,
                rows=problem.group_C,
                columns=problem.group_K,
                depth=count,
                a=(problem.group_C, 1, problem.C),
                b=(problem.group_K, problem.K, 1),
                c=(problem.group_K * problem.group_C, 1, problem.group_C),
                adds=first > 0,
            )
        )
    last = config.pointers[2]
    launches.append(
        results_step(
            problem,
            types_of(config.index, acc, (acc, last, last, last), shape),
            "w",
            (cut_h, cut_w),
            strides_of(problem.w, problem.K, problem.group_C, problem.filter),
            channels=problem.group_C,
            first=0,
            pairs=problem.K,
            tiles=(1, 1),
        )
    )
    spectrum = 2 * prod(shape) * problem.acc.itemsize
    return Program(
        steps=tuple(launches),
        buffers=(
            Buffer(name="x_spectra", nbytes=chunk * problem.C * spectrum),
            Buffer(name="y_spectra", nbytes=chunk * problem.K * spectrum),
            Buffer(name="products", nbytes=problem.K * problem.group_C * spectrum),
        ),
    )
