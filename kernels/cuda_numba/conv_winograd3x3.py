"""Winograd convolution of 3x3 filters: transforms, and products of matrices between them.

Computes: fprop, dgrad and wgrad of images with 3x3 filters of stride 1; any zero padding, dilation
    and groups. Every post op, in any order.
Layout: channels first and last, each operand in its own, read in place. Weights are transformed.
Accumulates: products of transformed pixels and filters in float32 (float16, bfloat16, float32) or
    float64, over channels, wgrad over windows; then a fixed combination of (m + 2)^2 sums for an
    output. No atomics.
Good at: many channels of large maps. Bad at: few channels, where the transforms' way through
    memory takes longer than the products that are saved.

Nothing is fused: the windows of a chunk are transformed, multiplied and transformed back by three
launches, and chunks follow one another so that what lies between the launches stays in the cache.

Winograd 1980; for layers of networks Lavin & Gray 2015 (arXiv:1509.09308). See
docs/algorithms/conv_winograd3x3.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from convforge.contract import Machine, Program, Rejected, Tolerance, Traits, WeightFormat
from convforge.kernels.cuda_numba._element import FLOATS
from convforge.kernels.cuda_numba._geometry import index_of
from convforge.kernels.cuda_numba._winograd_squares import TAPS
from convforge.kernels.cuda_numba._winograd_work import WinogradConfig, WinogradWork
from convforge.problem import ConvProblem, Direction, DType, PadMode, Problem
from convforge.runtime.cuda.jit import fits_int32

_HALVES = (DType.F16, DType.BF16)
_FEWEST = 4
"""Channels, or windows in wgrad, to sum: below, too little averages out."""
_MOST_CHUNKS = 512
"""A limit of the workspace that makes them more is refused."""


class ConvWinograd3x3:
    """F(m, 3) along both axes: ``cuda_numba.conv_winograd3x3.f2`` and ``.f4``."""

    revision = 1
    traits = Traits(strict_nan=False)

    def __init__(self, m: int, tolerance: Tolerance) -> None:
        self.m, self.tolerance = m, tolerance
        self.name = f"cuda_numba.conv_winograd3x3.f{m}"

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """3x3 filters of stride 1 on images."""
        if not isinstance(problem, ConvProblem):
            return Rejected("a convolution algorithm; this is a pooling")
        if problem.filter != (TAPS, TAPS):
            return Rejected(f"filter {'x'.join(map(str, problem.filter))}: 3x3 only")
        if any(axis.stride > 1 for axis in problem.axes):
            return Rejected(f"stride {'x'.join(str(a.stride) for a in problem.axes)}: 1x1 only")
        if any(axis.pad_mode is not PadMode.ZEROS for axis in problem.axes):
            return Rejected("padding with zeros only")
        dtypes = {problem.x.dtype, problem.w.dtype, problem.y.dtype}
        if not dtypes <= set(FLOATS) or problem.acc not in (DType.F32, DType.F64):
            return Rejected(f"types {'/'.join(sorted(dtypes))}: {', '.join(FLOATS)} only")
        if self.m > 2 and not dtypes.isdisjoint(_HALVES):
            return Rejected(f"types {'/'.join(sorted(dtypes))}: halves by F(2x2) only")
        if 0 in problem.x_shape or 0 in problem.w_shape or 0 in problem.y_shape:
            return Rejected("nothing to multiply: an extent is zero")
        work, wgrad = WinogradWork(problem, self.m), problem.direction is Direction.WGRAD
        summed = work.source.count if wgrad else work.source.group_channels
        if summed < _FEWEST:
            return Rejected(
                f"{summed} {'windows' if wgrad else 'channels'} to sum: below {_FEWEST} its errors "
                "stand out"
            )
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[WinogradConfig]:
        """As many windows a chunk as stay in the cache, and in the limit."""
        assert isinstance(problem, ConvProblem)
        work = WinogradWork(problem, self.m)
        chunk = work.chunk(workspace_limit)
        if chunk * _MOST_CHUNKS < work.source.count:
            return
        index, acc = index_of(problem), problem.acc.value
        if fits_int32(work.slices * work.filter_places) == "i64":
            index = "i64"
        dtypes = tuple(operand.dtype.value for operand in (problem.x, problem.w, problem.y))
        config = WinogradConfig(index, acc, dtypes, chunk)
        if self.program(problem, config, machine).workspace_bytes(1) <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: WinogradConfig) -> WeightFormat | None:
        """Transformed filters; wgrad reads none."""
        assert isinstance(problem, ConvProblem)
        if problem.direction is Direction.WGRAD:
            return None
        return WinogradWork(problem, self.m).weight_format(config)

    def program(self, problem: Problem, config: WinogradConfig, machine: Machine) -> Program:
        """Three launches a chunk, and in wgrad one at the end."""
        assert isinstance(problem, ConvProblem)
        work = WinogradWork(problem, self.m)
        wgrad = problem.direction is Direction.WGRAD
        return work.gradient_program(config, machine) if wgrad else work.program(config, machine)


ALGORITHMS = (
    ConvWinograd3x3(2, Tolerance(growth=4.0, planewise=True, exact=True)),
    ConvWinograd3x3(4, Tolerance(growth=16.0, planewise=True, exact=False)),
)
