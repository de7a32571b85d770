"""im2col: a matrix of what each pixel's taps look at, for a chunk of pixels at a time.

A column of the matrix is a channel under a tap, in the order in which weights have them, so that
their memory is the other matrix as it stands. Neighbouring threads write what is neighbouring in
memory: pixels where the source's channels come first, columns where they come last; a thread walks
along the other axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from numba import cuda, types

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import Types, divider, number_type
from convforge.kernels.cuda_numba._geometry import gather_windows, named, source_of, steps, three
from convforge.problem import ConvProblem, Direction, DType, Order
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
WALK = 8
"""Elements of a thread: positions are divided out once, and counted on from there."""
_INSTRUCTIONS = 40
"""Of an element, about: a prediction, for costs."""

LOWER = Constants(
    "Lower",
    "fast_blocks columns first count along_pixels taps_inner group_in row_step column_step "
    "group_step target_D target_H target_W source_D source_H source_W "
    "source_n source_c source_d source_h source_w T R S "
    "up_d tap_d start_d down_d mode_d up_h tap_h start_h down_h mode_h "
    "up_w tap_w start_w down_w mode_w",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Where the elements of a group's lowered matrix are, in elements.

    Attributes:
        name: Of the buffer, or of the operand that is such a matrix already.
        row, column, group: Steps from a pixel, a column, a group to the next.
        first: Of the chunk's first pixel.
    """

    name: str
    row: int
    column: int
    group: int
    first: int = 0


def raw(dtype: DType) -> str:
    """A type of the same width that nothing is computed in."""
    return {2: "bf16", 4: "f32", 8: "f64"}[dtype.itemsize]


def columns_of(problem: ConvProblem) -> int:
    """Of a group's matrix: the channels it sums over, under every tap."""
    dgrad = problem.direction is Direction.DGRAD
    return problem.taps * (problem.group_K if dgrad else problem.group_C)


def pixels_of(problem: ConvProblem) -> int:
    """Rows of the whole matrix: pixels of what is written, or of dy."""
    dgrad = problem.direction is Direction.DGRAD
    return problem.N * prod(problem.size if dgrad else problem.out)


def source_operand(problem: ConvProblem) -> tuple[str, DType, Order]:
    """Name, type and order of what is lowered."""
    name, operand = ("y", problem.y) if problem.direction is Direction.DGRAD else ("x", problem.x)
    return name, operand.dtype, operand.order


def lowered_bytes(problem: ConvProblem) -> int:
    """Of one pixel in all groups; none where the source is the matrix already."""
    if is_matrix(problem):
        return 0
    return problem.groups * columns_of(problem) * source_operand(problem)[1].itemsize


def is_matrix(problem: ConvProblem) -> bool:
    """Whether pixels are rows already: channels last, and every pixel meets one tap."""
    pointwise = all(
        axis.filter == axis.stride == 1 and not axis.pad_lo and not axis.pad_hi
        for axis in problem.axes
    )
    return pointwise and source_operand(problem)[2] is Order.CHANNELS_LAST


@kernel(LOWER, threads=THREADS, registers={"f32": 56, "f64": 56})
def conv_im2col_lower(config):
    """Rows ``first`` to ``first + count`` of every group's matrix."""
    index = number_type(config.index)
    element = {"bf16": types.uint16, "f32": types.float32, "f64": types.float64}[config.pointers[0]]
    divide, source_at = divider(config.index), source_of(config.index)

    def conv_im2col_lower(g, source, lowered):
        slow, fast = divide(index(cuda.blockIdx.x), g.fast_blocks)
        row, column = index(fast * THREADS + cuda.threadIdx.x), index(slow * WALK)
        if g.along_pixels == 0:
            row, column = index(slow * WALK), index(fast * THREADS + cuda.threadIdx.x)
        if row >= g.count or column >= g.columns:
            return
        rest, w = divide(index(g.first + row), g.target_W)
        rest, h = divide(rest, g.target_H)
        n, d = divide(rest, g.target_D)
        rest = column
        c = s = r = t = index(0)
        if g.taps_inner == 0:
            rest, c = divide(rest, g.group_in)
        rest, s = divide(rest, g.S)
        rest, r = divide(rest, g.R)
        group, t = divide(rest, g.T)
        if g.taps_inner != 0:
            group, c = divide(group, g.group_in)

        for _ in range(WALK):
            if row < g.count and column < g.columns:
                at_d = index(d * g.up_d + t * g.tap_d + g.start_d)
                at_h = index(h * g.up_h + r * g.tap_h + g.start_h)
                at_w = index(w * g.up_w + s * g.tap_w + g.start_w)
                found = True
                if g.down_d > 1:
                    quotient, rest = divide(max(at_d, index(0)), g.down_d)
                    found = found and at_d >= 0 and rest == 0
                    at_d = quotient
                if g.down_h > 1:
                    quotient, rest = divide(max(at_h, index(0)), g.down_h)
                    found = found and at_h >= 0 and rest == 0
                    at_h = quotient
                if g.down_w > 1:
                    quotient, rest = divide(max(at_w, index(0)), g.down_w)
                    found = found and at_w >= 0 and rest == 0
                    at_w = quotient
                at_d = source_at(at_d, g.source_D, g.mode_d)
                at_h = source_at(at_h, g.source_H, g.mode_h)
                at_w = source_at(at_w, g.source_W, g.mode_w)
                channel = index(group * g.group_in + c)
                value = element(0)
                if found and at_d >= 0 and at_h >= 0 and at_w >= 0:
                    plane = index(n * g.source_n + channel * g.source_c)
                    line = index(plane + at_d * g.source_d + at_h * g.source_h)
                    value = source[index(line + at_w * g.source_w)]
                depth = index(column - group * (g.T * g.R * g.S * g.group_in))
                lowered[index(group * g.group_step + row * g.row_step + depth * g.column_step)] = (
                    value
                )
            if g.along_pixels == 0:
                row = index(row + 1)
                w = index(w + 1)
                if w == g.target_W:
                    w = index(0)
                    h = index(h + 1)
                    if h == g.target_H:
                        h = index(0)
                        d = index(d + 1)
                        if d == g.target_D:
                            d = index(0)
                            n = index(n + 1)
            else:
                column = index(column + 1)
                carry = True
                if g.taps_inner == 0:
                    c = index(c + 1)
                    carry = c == g.group_in
                    if carry:
                        c = index(0)
                if carry:
                    s = index(s + 1)
                    if s == g.S:
                        s = index(0)
                        r = index(r + 1)
                        if r == g.R:
                            r = index(0)
                            t = index(t + 1)
                            if t == g.T:
                                t = index(0)
                                if g.taps_inner != 0:
                                    c = index(c + 1)
                                    if c == g.group_in:
                                        c = index(0)
                                        group = index(group + 1)
                                else:
                                    group = index(group + 1)

    return conv_im2col_lower


def taps_inner(problem: ConvProblem) -> bool:
    """Whether columns are taps of a channel: as weights have it, or as the source is read best."""
    if problem.direction is Direction.DGRAD:
        return problem.y.order is Order.CHANNELS_FIRST
    return problem.w.order is Order.CHANNELS_FIRST


def matrix(problem: ConvProblem, chunk: int, first: int) -> Matrix:
    """The matrix of a chunk of pixels."""
    name, _, order = source_operand(problem)
    columns = columns_of(problem)
    if is_matrix(problem):
        row = columns * problem.groups
        return Matrix(name=name, row=row, column=1, group=columns, first=first * row)
    if order is Order.CHANNELS_FIRST:
        return Matrix(name="lowered", row=1, column=chunk, group=columns * chunk)
    return Matrix(name="lowered", row=columns, column=1, group=columns * chunk)


def lower_step(problem: ConvProblem, index: str, chunk: int, first: int, count: int) -> Step:
    """The launch that writes the matrix of ``count`` pixels."""
    dgrad = problem.direction is Direction.DGRAD
    x = problem.size, steps(problem.x.order, problem.N, problem.C, problem.size)
    y = problem.out, steps(problem.y.order, problem.N, problem.K, problem.out)
    (source_size, source), (target_size, _) = (y, x) if dgrad else (x, y)
    name, dtype, order = source_operand(problem)
    along_pixels = order is Order.CHANNELS_FIRST
    columns = columns_of(problem) * problem.groups
    fast, slow = (count, columns) if along_pixels else (columns, count)
    fast_blocks = -(-fast // THREADS)
    lowered = matrix(problem, chunk, first)
    constants = LOWER.pack(
        index,
        fast_blocks=fast_blocks,
        columns=columns,
        first=first,
        count=count,
        along_pixels=along_pixels,
        taps_inner=taps_inner(problem),
        group_in=problem.group_K if dgrad else problem.group_C,
        row_step=lowered.row,
        column_step=lowered.column,
        group_step=lowered.group,
        **named("T R S", three(problem.filter)),
        **named("target_D target_H target_W", three(target_size)),
        **named("source_D source_H source_W", three(source_size)),
        **named("source_n source_c source_d source_h source_w", source),
        **gather_windows(problem),
    )
    raw_dtype = raw(dtype)
    acc = "f64" if raw_dtype == "f64" else "f32"
    nbytes = count * columns * dtype.itemsize
    return Step(
        name="lower",
        kernel=KernelRef(conv_im2col_lower, Types(index, acc, (raw_dtype, raw_dtype))),
        operands=(name, lowered.name),
        constants=constants,
        tasks=fast_blocks * -(-slow // WALK),
        cost=Cost(flops=2 * _INSTRUCTIONS * count * columns, bytes=nbytes + nbytes // problem.taps),
    )
