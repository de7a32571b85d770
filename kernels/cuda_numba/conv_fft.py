"""Convolution by Fourier transforms of overlapping tiles, for large filters.

Computes: fprop, dgrad and wgrad of one and two axes, groups, stride, dilation, zero padding.
Layout: any order in place; spectra in between, frequencies innermost.
Accumulates: in float32 (float16, bfloat16, float32) or float64: transforms, then one sum over
    channels; wgrad over tiles and images. No atomics.
Good at: filters of about 11x11 and more, long filters in one axis. Bad at: small filters; strides,
    which compute everything and keep a part; images of a single tile, whose imaginary part is
    empty; channels last, whose tiles are read element by element.

Mathieu, Henaff, LeCun 2013 (arXiv:1312.5851); Vasilache et al. 2014 (arXiv:1412.7580). A block
transforms a tile in shared memory. See docs/algorithms/conv_fft.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from convforge.contract import (
    Buffer,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cuda_numba._element import FLOATS, Types
from convforge.kernels.cuda_numba._fft_block import PLACES
from convforge.kernels.cuda_numba._fft_steps import (
    multiply_step,
    results_step,
    spectra_step,
    types_of,
)
from convforge.kernels.cuda_numba._fft_tiles import (
    best_shape,
    cut,
    filter_window,
    gradient_window,
    source_window,
)
from convforge.kernels.cuda_numba._geometry import index_of, steps, three_axes
from convforge.problem import Axis, ConvProblem, Direction, DType, Operand, PadMode, Problem
from convforge.runtime.cuda.jit import fits_int32

CHUNK_BYTES = 256 << 20
"""Of spectra and products: enough pairs of tiles to fill a large GPU many times."""
MOST_CHUNKS = 64
_FEWEST_SUMMED = 16


@dataclass(frozen=True, slots=True)
class FftConfig(Types):
    """Rows and columns of a tile, and pairs of tiles at once, besides the types."""

    shape: tuple[int, int]
    chunk: int


class ConvFft:
    """The algorithm ``cuda_numba.conv_fft``."""

    name = "cuda_numba.conv_fft"
    revision = 1
    tolerance = Tolerance(growth=4.0, planewise=True, exact=False)
    traits = Traits(strict_nan=False)

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Convolutions of floats of more than one tap, with zeros around the image."""
        if not isinstance(problem, ConvProblem):
            return Rejected("a convolution algorithm; this is a pooling")
        dtypes = {problem.x.dtype, problem.w.dtype, problem.y.dtype}
        if not dtypes <= set(FLOATS) or problem.acc not in (DType.F32, DType.F64):
            return Rejected(f"types {'/'.join(sorted(dtypes))}: {', '.join(FLOATS)} only")
        if problem.rank == 3:
            return Rejected("three axes: one or two only")
        if any(axis.pad_mode is not PadMode.ZEROS for axis in problem.axes):
            return Rejected("padding with zeros only")
        if 0 in problem.x_shape or 0 in problem.w_shape or 0 in problem.y_shape:
            return Rejected("nothing to multiply: an extent is zero")
        if problem.taps == 1:
            return Rejected("a filter of one place: nothing for a transform to save")
        summed = problem.N * prod(problem.out)
        if problem.direction is Direction.WGRAD and summed < _FEWEST_SUMMED:
            return Rejected(f"wgrad sums {summed} pixels: nothing for a transform to save")
        if best_shape(problem, _axes(problem)) is None:
            most = PLACES[problem.acc.value][-1]
            return Rejected(f"a filter that spans more than tiles of {most} places hold")
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[FftConfig]:
        """The best tile, in the largest chunks that fit."""
        assert isinstance(problem, ConvProblem)
        shape = best_shape(problem, _axes(problem))
        assert shape is not None
        x, w, y = (operand.dtype.value for operand in (problem.x, problem.w, problem.y))
        pointers = {
            Direction.FPROP: (x, w, y),
            Direction.DGRAD: (y, w, x),
            Direction.WGRAD: (x, y, w),
        }[problem.direction]
        spectrum, pairs = 2 * prod(shape), _pairs(problem, shape)
        one = spectrum * (problem.C + problem.K)
        filters = spectrum * problem.K * problem.group_C
        wgrad = problem.direction is Direction.WGRAD
        limit = workspace_limit - (filters * problem.acc.itemsize + 64) * wgrad
        fits = (min(limit, CHUNK_BYTES) - 128) // (one * problem.acc.itemsize)
        chunk = min(pairs, max(fits, -(-pairs // MOST_CHUNKS), 1))
        index = "i64" if index_of(problem) == "i64" else fits_int32(one * chunk, filters)
        config = FftConfig(index, problem.acc.value, pointers, shape, chunk)
        if self.program(problem, config, machine).workspace_bytes(1) <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: FftConfig) -> WeightFormat | None:
        """Spectra of the filters ``[k, c, real or imaginary, frequency]``; wgrad reads none."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        axes, dgrad = _axes(problem), problem.direction is Direction.DGRAD
        rows, columns = (
            filter_window(axis, length) for axis, length in zip(axes, config.shape, strict=True)
        )
        w = _strides(problem.w, problem.K, problem.group_C, problem.filter)
        step = spectra_step(
            types_of(config.index, config.acc, (problem.w.dtype.value, config.acc), config.shape),
            ("w", "packed"),
            config.shape,
            (rows, columns),
            (1, 1),
            w,
            channels=problem.group_C,
            first=0,
            pairs=problem.K,
            flip=dgrad,
        )
        apart = "x".join(str(axis.dilation) for axis in axes)
        tile = "x".join(map(str, config.shape))
        return WeightFormat(
            id=f"fft{tile}:d{apart}:{'turned' if dgrad else 'plain'}:{config.acc}",
            nbytes=2 * prod(config.shape) * problem.K * problem.group_C * problem.acc.itemsize,
            pack=Program(steps=(step,)),
        )

    def program(self, problem: Problem, config: FftConfig, machine: Machine) -> Program:
        """Transform, multiply, transform back."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return _wgrad_program(problem, config)
        return _gather_program(problem, config)


def _axes(problem: ConvProblem) -> tuple[Axis, Axis]:
    _, rows, columns = three_axes(problem.axes)
    return rows, columns


def _strides(
    operand: Operand, lead: int, channels: int, spatial: tuple[int, ...]
) -> tuple[int, int, int, int]:
    n, c, _, h, w = steps(operand.order, lead, channels, spatial)
    return n, c, h, w


def _tiles(problem: ConvProblem, shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = (
        cut(problem.direction, axis, length).tiles
        for axis, length in zip(_axes(problem), shape, strict=True)
    )
    return rows, columns


def _pairs(problem: ConvProblem, shape: tuple[int, int]) -> int:
    """Of all images; a pair is of one image, whose bits then depend on no other."""
    return problem.N * -(-prod(_tiles(problem, shape)) // 2)


def _gather_program(problem: ConvProblem, config: FftConfig) -> Program:
    """Fprop and dgrad, ``chunk`` pairs of tiles at a time."""
    fprop = problem.direction is Direction.FPROP
    axes, shape, acc = _axes(problem), config.shape, config.acc
    x = _strides(problem.x, problem.N, problem.C, problem.size)
    y = _strides(problem.y, problem.N, problem.K, problem.out)
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
    pairs, chunk = _pairs(problem, shape), config.chunk
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


def _wgrad_program(problem: ConvProblem, config: FftConfig) -> Program:
    """Wgrad: x and dy as spectra, correlated over tiles and images, ``chunk`` pairs at a time."""
    axes, shape, acc = _axes(problem), config.shape, config.acc
    cut_h, cut_w = (
        cut(problem.direction, axis, length) for axis, length in zip(axes, shape, strict=True)
    )
    tiles = cut_h.tiles, cut_w.tiles
    pairs, chunk = _pairs(problem, shape), config.chunk
    sides = []
    for name, dtype, strides, channels, window in (
        (
            "x",
            problem.x.dtype,
            _strides(problem.x, problem.N, problem.C, problem.size),
            problem.C,
            [source_window(problem.direction, *each) for each in zip(axes, shape, strict=True)],
        ),
        (
            "y",
            problem.y.dtype,
            _strides(problem.y, problem.N, problem.K, problem.out),
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
            _strides(problem.w, problem.K, problem.group_C, problem.filter),
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


ALGORITHMS = (ConvFft(),)
