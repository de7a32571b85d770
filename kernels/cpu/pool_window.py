"""Maximum and average over windows, one pass over memory.

Computes: max pooling, with or without indices, and average pooling, forward and backward, on one
    to three axes.
Layout: channels last with vectors over channels; channels first with vectors over columns, a
    window's rows before its columns. Both in place.
Accumulates: in the operands' type, float32 or float64; one sum per output in a fixed order.
Good at: every pooling of the common networks. Bad at: very large windows that overlap.

Scherer, Müller, Behnke 2010 (doi:10.1007/978-3-642-15825-4_10). See
docs/algorithms/pool_window.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod

from convforge.contract import (
    Buffer,
    Cost,
    KernelRef,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cpu import _pool_mean_backward as mean_backward
from convforge.kernels.cpu import _pool_picks as picks
from convforge.kernels.cpu import _pool_planes as planes
from convforge.kernels.cpu._pool_max import (
    argmax_channels_first,
    max_channels_first,
    max_channels_last,
)
from convforge.kernels.cpu._pool_max_backward import (
    COLUMNS,
    STRIPS,
    gather_channels_last,
    scatter,
)
from convforge.kernels.cpu._pool_mean import (
    divide_program,
    mean_channels_first,
    mean_channels_last,
)
from convforge.kernels.cpu._pool_shares import ENTRY_BYTES, max_shares, mean_shares
from convforge.kernels.cpu._wide import Wide
from convforge.kernels.cpu._windows import divisor_of, pack_pool, round_up, spans
from convforge.problem import Direction, DType, Order, PoolKind, PoolProblem, Problem

_STRIP_BYTES = 1 << 18
"""A strip of dx stays in the L2 while windows are added to it."""
_SMALL_BYTES = 1 << 10
"""Of a plane: several are cleared at once, and what a task costs is shared."""
_LINES_BYTES = 1 << 13
"""Lines of an L1: read so long after they were written that the writes have arrived there."""
_NEAR_BYTES = 8 << 20
"""Operands that one core's share of the last cache keeps."""
_TASKS = 16
"""Pieces of work for a few threads to share evenly."""
_RUN = 256
"""Channels of a task, at least, where one or a few pixels are left of an image: shorter runs of
memory leave the hardware nothing to foresee."""


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """Elements of one vector, a few registers' worth."""

    lanes: int


class PoolWindow:
    """The algorithm ``cpu.pool_window``."""

    name = "cpu.pool_window"
    revision = 3
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits()

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Any float32 or float64 pooling of at least one element."""
        if not isinstance(problem, PoolProblem):
            return Rejected("a pooling algorithm; this is a convolution")
        if problem.x.dtype not in (DType.F32, DType.F64):
            return Rejected(f"type {problem.x.dtype}: f32 or f64 only")
        if 0 in problem.x_shape:
            return Rejected("nothing to pool: an extent is zero")
        return None

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[WindowConfig]:
        """The width that fits channels, or columns, best."""
        assert isinstance(problem, PoolProblem)
        config = _default_config(problem, machine)
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: WindowConfig) -> WeightFormat | None:
        """None: pooling has no weights."""
        return None

    def program(self, problem: Problem, config: WindowConfig, machine: Machine) -> Program:
        """One launch; two, channels last, where the divisors of an average's gradient differ."""
        assert isinstance(problem, PoolProblem)
        kind = Wide(problem.x.dtype.value, config.lanes)
        if _by_picks(problem, machine):
            return picks.program(problem, kind, _NEAR_BYTES)
        if problem.kind is PoolKind.AVG:
            return _mean(problem, kind)
        if problem.direction is Direction.FPROP:
            return _max(problem, kind)
        return _max_backward(problem, kind)


def _channels_last(problem: PoolProblem) -> bool:
    """Whether vectors go over channels; an only channel is a plane in either order."""
    return problem.x.order is Order.CHANNELS_LAST and problem.C > 1


def _default_config(problem: PoolProblem, machine: Machine) -> WindowConfig:
    register = machine.vector_bytes // problem.x.dtype.itemsize
    if _whole_planes(problem) or _by_picks(problem, machine):
        return WindowConfig(register)
    w = spans(problem)[2]
    run = problem.C if _channels_last(problem) else max(w.target, w.source * w.adaptive)
    # Sums over many pixels read longer runs of each: fewer jumps from page to page.
    counts = (8, 4, 2, 1) if problem.taps >= 16 and _channels_last(problem) else (4, 2, 1)
    fitting = [count for count in counts if count * register <= round_up(run, register)]

    def cost(registers: int) -> float:
        """Registers that are computed, and half of one for the loops around each vector."""
        return -(-run // (registers * register)) * (registers + 0.5)

    return WindowConfig(register * min(fitting, key=cost))


def _max(problem: PoolProblem, kind: Wide) -> Program:
    if _whole_planes(problem) and not problem.indices:
        return planes.program(problem, planes.max_planes, kind, "x", "y")
    operands = ("x", "y", "indices" if problem.indices else "")
    if _channels_last(problem):
        return _rows(problem, max_channels_last, kind, operands)
    w = spans(problem)[2]
    line = w.line(kind.lanes)
    element = problem.x.dtype.itemsize + 8 * problem.indices
    kernel = argmax_channels_first if problem.indices else max_channels_first
    chunk = max(_LINES_BYTES // (line * element), 1)
    scratch = chunk * line * element
    if problem.adaptive:
        kernel, scratch = max_shares, w.out * ENTRY_BYTES + scratch
    return _rows(problem, kernel, kind, operands, line=line, chunk=chunk, scratch=scratch)


def _max_backward(problem: PoolProblem, kind: Wide) -> Program:
    plane_bytes = prod(problem.size) * problem.x.dtype.itemsize
    small = plane_bytes <= _SMALL_BYTES and problem.N * problem.C >= _TASKS
    if not _channels_last(problem) and (small or _whole_planes(problem)):
        return planes.program(problem, planes.send_planes, kind, "y", "x", "indices")
    axes = spans(problem)
    if _channels_last(problem) and not problem.adaptive and axes[2].axis.extent <= COLUMNS:
        return _rows(problem, gather_channels_last, kind, ("y", "indices", "x"))
    outermost = next((i for i, span in enumerate(axes) if span.source * span.target > 1), 2)
    span, inner = axes[outermost], axes[outermost + 1 :]
    channels = problem.C if _channels_last(problem) else 1
    images = problem.N * problem.C // channels
    to_inner = prod(each.target for each in inner)
    position_bytes = to_inner * channels * problem.x.dtype.itemsize
    # A window that straddles two strips is asked by both: strips are longer than the overlap.
    overlap = span.axis.extent - span.stride
    length = max(_STRIP_BYTES // position_bytes, 8 * overlap, 1)
    length = round_up(length, span.axis.stride)
    strips = -(-span.target // length)
    block = _block(channels, images * strips, kind)
    packed = STRIPS.pack(
        images=images,
        channels=channels,
        block=block,
        strips=strips,
        length=length,
        from_inner=prod(each.source for each in inner),
        to_inner=to_inner,
    )
    step = Step(
        name="scatter",
        kernel=KernelRef(scatter, kind),
        operands=("y", "indices", "x"),
        constants=packed + span.pack(problem.count_include_pad),
        tasks=images * strips * -(-channels // block),
        cost=Cost(flops=prod(problem.y_shape), bytes=problem.bytes + 8 * prod(problem.y_shape)),
    )
    return Program(steps=(step,))


def _mean(problem: PoolProblem, kind: Wide) -> Program:
    backward = problem.direction is Direction.DGRAD
    source, target = ("y", "x") if backward else ("x", "y")
    if _whole_planes(problem):
        kernel = planes.spread_planes if backward else planes.mean_planes
        return planes.program(problem, kernel, kind, source, target)
    if backward and not _channels_last(problem):
        return mean_backward.program(problem, kind)
    divisor, before = divisor_of(problem), Program(steps=())
    if backward and not divisor:
        before, source, divisor = divide_program(problem, kind), "shares", 1
    kernel, line, chunk, scratch = mean_channels_last, 0, 1, 0
    if not _channels_last(problem):
        w, size = spans(problem)[2], problem.x.dtype.itemsize
        line = w.line(kind.lanes)
        if problem.adaptive:
            kernel, scratch = mean_shares, w.target * ENTRY_BYTES + line * size
        else:
            kernel = mean_channels_first
            chunk = max(_LINES_BYTES // (line * size), 1)
            scratch = (chunk * line + round_up(w.out, kind.lanes)) * size
    operands, lines = (source, target), {"line": line, "chunk": chunk, "scratch": scratch}
    last = _rows(problem, kernel, kind, operands, divisor=divisor, **lines)
    return Program(steps=(*before.steps, *last.steps), buffers=(*before.buffers, *last.buffers))


def _rows(
    problem: PoolProblem,
    kernel: Callable[..., None],
    kind: Wide,
    operands: tuple[str, ...],
    *,
    divisor: int = 1,
    line: int = 0,
    chunk: int = 1,
    scratch: int = 0,
) -> Program:
    """One launch whose tasks are rows of the target, or blocks of channels of rows."""
    d, h, w = spans(problem)
    channels_last, scratch = _channels_last(problem), round_up(scratch, 64)
    rows = problem.N * (1 if channels_last else problem.C) * d.target * h.target
    nbytes = problem.bytes
    if "indices" in operands and not problem.indices:
        nbytes += 8 * prod(problem.y_shape)
    ahead = 0
    if nbytes > _NEAR_BYTES:
        pieces = rows * (w.target if channels_last else 1)
        ahead = prod(problem.y_shape if w.backward else problem.x_shape) // pieces
        ahead *= problem.x.dtype.itemsize
    block = _block(problem.C, rows, kind)
    if rows == 1 and nbytes << w.backward <= planes.ALONE_BYTES:
        block = round_up(problem.C, kind.lanes)
    constants = pack_pool(
        problem,
        channels_last=channels_last,
        block=block,
        divisor=divisor,
        line=line,
        chunk=chunk,
        scratch_bytes=scratch,
        ahead_bytes=ahead,
    )
    step = Step(
        name="windows",
        kernel=KernelRef(kernel, kind),
        operands=(*operands, "scratch" if scratch else ""),
        constants=constants,
        tasks=rows * -(-problem.C // block) if channels_last else rows,
        cost=Cost(flops=problem.flops, bytes=nbytes),
    )
    buffers = (Buffer(name="scratch", nbytes=scratch, scope="worker"),) if scratch else ()
    return Program(steps=(step,), buffers=buffers)


def _block(channels: int, pieces: int, kind: Wide) -> int:
    """Channels of a task: all of them, unless there are too few other pieces of work."""
    share = -(-channels * pieces // max(pieces, _TASKS))
    return round_up(max(share, _RUN) if pieces < 4 else share, kind.lanes)


def _by_picks(problem: PoolProblem, machine: Machine) -> bool:
    """Whether vectors go over columns, and windows along a row are met within registers."""
    if _channels_last(problem) or _whole_planes(problem):
        return False
    return picks.can_program(problem, machine)


def _whole_planes(problem: PoolProblem) -> bool:
    """Whether the window is the image, and channels come first: planes are runs of memory."""
    return not _channels_last(problem) and all(
        axis.size == axis.filter == axis.padded and axis.out == 1 for axis in problem.axes
    )


ALGORITHMS = (PoolWindow(),)
