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
from math import prod

from convforge.contract import Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels._met import met, refuse_unmet
from convforge.kernels.cuda_numba._element import FLOATS
from convforge.kernels.cuda_numba._fft_block import LONGEST_SHARE, PLACES
from convforge.kernels.cuda_numba._fft_program import (
    FftConfig,
    axes_of,
    gather_program,
    pairs_of,
    strides_of,
    wgrad_program,
)
from convforge.kernels.cuda_numba._fft_spectra import spectra_step, types_of
from convforge.kernels.cuda_numba._fft_tiles import best_shape, filter_window
from convforge.kernels.cuda_numba._geometry import index_of
from convforge.problem import ConvProblem, Direction, DType, PadMode, Problem
from convforge.runtime.cuda.jit import fits_int32

CHUNK_BYTES = 256 << 20
"""Of spectra and products: enough pairs of tiles to fill a large GPU many times."""
MOST_CHUNKS = 64


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
        if best_shape(problem, axes_of(problem)) is None:
            most = PLACES[problem.acc.value][-1]
            return Rejected(
                f"a filter that spans more than tiles of {most} places, at most "
                f"{most // LONGEST_SHARE} of them along an axis, hold"
            )
        return refuse_unmet(problem)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[FftConfig]:
        """The best tile, in the largest chunks that fit."""
        assert isinstance(problem, ConvProblem)
        shape = best_shape(problem, axes_of(problem))
        assert shape is not None
        x, w, y = (operand.dtype.value for operand in (problem.x, problem.w, problem.y))
        pointers = {
            Direction.FPROP: (x, w, y),
            Direction.DGRAD: (y, w, x),
            Direction.WGRAD: (x, y, w),
        }[problem.direction]
        spectrum, pairs = 2 * prod(shape), pairs_of(problem, shape)
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
        axes, dgrad = axes_of(problem), problem.direction is Direction.DGRAD
        rows, columns = (
            filter_window(axis, length) for axis, length in zip(axes, config.shape, strict=True)
        )
        w = strides_of(problem.w, problem.K, problem.group_C, problem.filter)
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
        spans = "x".join(f"{axis.filter}d{axis.dilation}" for axis in axes)
        taps = [met(axis).taps for axis in axes]
        some = "x".join(f"{read.start}-{read.stop}" for read in taps)
        tile = "x".join(map(str, config.shape))
        return WeightFormat(
            id=f"fft{tile}:cuda:{'c' if dgrad else 'k'}:{config.acc}:"
            f"{problem.K}x{problem.group_C}x{spans}:t{some}:g{problem.groups}",
            nbytes=2 * prod(config.shape) * problem.K * problem.group_C * problem.acc.itemsize,
            pack=Program(steps=(step,)),
        )

    def program(self, problem: Problem, config: FftConfig, machine: Machine) -> Program:
        """Transform, multiply, transform back."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return wgrad_program(problem, config)
        return gather_program(problem, config)


ALGORITHMS = (ConvFft(),)
