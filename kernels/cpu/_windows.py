"""Where windows lie, clipped once per output: no tap of an inner loop asks for a border.

On one axis, forward and backward ask the same question of a *target* position: which *source*
positions does it meet? They are equally spaced, so a first one, a count and a step answer it. One
and two axes are three with leading axes of extent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from convforge.problem import Axis, Direction, PoolProblem
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined

# An adaptive axis has the stride 0.
_AXIS = Layout("PoolAxis", "size out taps stride dilation pad step before after")
axis_view = _AXIS.view
AXIS_BYTES = _AXIS.nbytes
_POOL = Layout(
    "Pool",
    "images channels run from_d from_h from_w to_d to_h to_w "
    "backward indices block divisor line chunk scratch_bytes ahead_bytes",
)
pool_view = _POOL.view
POOL_BYTES = _POOL.nbytes
PLANES = Layout("PoolPlanes", "count group length windows divisor")
planes_view = PLANES.view


def round_up(count: int, unit: int) -> int:
    """The next multiple of a unit."""
    return -(-count // unit) * unit


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of a pooling, as kernels see it.

    With a single window any stride would do: 1 makes a contiguous load of a forward one, and the
    window's extent tells a backward one that nothing overlaps.
    """

    axis: Axis
    out: int
    backward: bool

    @property
    def source(self) -> int:
        """Extent of what is read."""
        return self.out if self.backward else self.axis.size

    @property
    def target(self) -> int:
        """Extent of what is written."""
        return self.axis.size if self.backward else self.out

    @property
    def stride(self) -> int:
        """Elements from one window to the next."""
        if self.out > 1:
            return self.axis.stride
        return self.axis.extent if self.backward else 1

    @property
    def adaptive(self) -> bool:
        """Whether windows differ in extent."""
        return self.axis.windows is not None

    @property
    def overhang(self) -> bool:
        """Whether the last window ends behind the padding."""
        return (self.out - 1) * self.axis.stride + self.axis.extent > self.axis.padded

    def line(self, lanes: int) -> int:
        """Elements of a line and the margins that whole vectors reach into."""
        axis = self.axis
        if self.adaptive:
            return round_up(self.source, lanes)
        if self.backward:
            windows = (self.out - 1) * self.stride + axis.extent
            reach = axis.extent + max(windows, axis.pad_lo + round_up(axis.size, lanes))
        else:
            windows = round_up(self.out, lanes) * self.stride + axis.extent
            reach = max(windows, axis.pad_lo + axis.size)
        return round_up(reach, lanes)

    def pack(self, count_include_pad: bool) -> bytes:
        """The struct ``PoolAxis``."""
        axis = self.axis
        backward_step = axis.dilation // gcd(self.stride, axis.dilation)
        return _AXIS.pack(
            size=axis.size,
            out=self.out,
            taps=axis.filter,
            stride=0 if self.adaptive else self.stride,
            dilation=axis.dilation,
            pad=axis.pad_lo,
            step=backward_step if self.backward else axis.dilation,
            before=axis.pad_lo * count_include_pad,
            after=axis.pad_hi * count_include_pad,
        )


def spans(problem: PoolProblem) -> tuple[Span, Span, Span]:
    """The axes d, h and w."""
    backward = problem.direction is Direction.DGRAD
    absent = (Span(Axis(size=1, filter=1), 1, backward),) * (3 - problem.rank)
    present = (
        Span(axis, out, backward) for axis, out in zip(problem.axes, problem.out, strict=True)
    )
    d, h, w = (*absent, *present)
    return d, h, w


def divisor_of(problem: PoolProblem) -> int:
    """What every sum of an average is divided by; 0 if that differs between windows."""
    if problem.divisor is not None:
        return problem.divisor
    for span in spans(problem):
        if span.adaptive:
            return 0
        clipped = span.axis.pad_lo or span.axis.pad_hi
        if span.overhang or (clipped and not problem.count_include_pad):
            return 0
    return problem.taps


def pack_pool(
    problem: PoolProblem,
    *,
    channels_last: bool,
    block: int = 0,
    divisor: int = 1,
    line: int = 0,
    chunk: int = 1,
    scratch_bytes: int = 0,
    ahead_bytes: int = 0,
) -> bytes:
    """The struct ``Pool`` and three of ``PoolAxis``, for kernels of either memory order.

    Args:
        block: Channels of a task, where channels come last; else positions of a strip.
        divisor: Of an average; 0 asks for the counted taps of each window.
        line: Elements of a line with its margins, where channels come first.
        chunk: Lines that are filled before the first is read.
        scratch_bytes: Scratch of one worker.
        ahead_bytes: Of the source, to ask for ahead of time with every pixel of the target
            (channels first: every row); 0 where operands stay in the caches from call to call.
    """
    axes = spans(problem)
    fields = {
        "images": problem.N if channels_last else problem.N * problem.C,
        "channels": problem.C if channels_last else 1,
        "run": problem.C if channels_last else axes[2].source,
        "backward": problem.direction is Direction.DGRAD,
        "indices": problem.indices,
        "divisor": divisor,
        "block": block,
        "line": line,
        "chunk": chunk,
        "scratch_bytes": scratch_bytes,
        "ahead_bytes": ahead_bytes,
    }
    for name, span in zip("dhw", axes, strict=True):
        fields |= {f"from_{name}": span.source, f"to_{name}": span.target}
    packed = [span.pack(problem.count_include_pad) for span in axes]
    return _POOL.pack(**fields) + b"".join(packed)


@inlined
def _share(part, parts, whole):
    """First position of the whole that an adaptive part holds, and their number."""
    first = part * whole // parts
    return first, ((part + 1) * whole + parts - 1) // parts - first


@inlined
def _between(axis, window, low, high):
    """First position at least ``low`` of a window's taps, and how many lie below ``high``."""
    first = window * axis.stride - axis.pad
    last = first + (axis.taps - 1) * axis.dilation
    if first >= low and last < high:
        return first, axis.taps
    if first < low:
        first += (low - first + axis.dilation - 1) // axis.dilation * axis.dilation
    return first, (min(last, high - 1) - first) // axis.dilation + 1


@inlined
def _quotient(a, b):
    """``a // b``, without a division where b is as strides mostly are."""
    if b == 1:
        return a
    return a >> 1 if b == 2 else a // b


@inlined
def first_window(axis, position):
    """First window that ends at a position or after it."""
    if axis.stride == 0:
        return position * axis.out // axis.size
    reach = (axis.taps - 1) * axis.dilation
    return max(_quotient(position + axis.pad - reach + axis.stride - 1, axis.stride), 0)


@inlined
def last_window(axis, position):
    """Last window that starts at a position or before it."""
    if axis.stride == 0:
        return ((position + 1) * axis.out - 1) // axis.size
    return min(_quotient(position + axis.pad, axis.stride), axis.out - 1)


@inlined
def _windows_over(axis, position):
    """First window that has a tap at a position, and how many do, ``axis.step`` apart."""
    first, last = first_window(axis, position), last_window(axis, position)
    if axis.dilation == 1:
        return first, max(last - first + 1, 0)
    while first <= last and (position + axis.pad - first * axis.stride) % axis.dilation != 0:
        first += 1
    return first, max((last - first) // axis.step + 1, 0)


@inlined
def meets(axis, target, backward):
    """First source position that a target position meets, and their number."""
    if axis.stride == 0:
        if backward:
            return _share(target, axis.size, axis.out)
        return _share(target, axis.out, axis.size)
    if backward:
        return _windows_over(axis, target)
    return _between(axis, target, 0, axis.size)


@inlined
def counted(axis, window):
    """Taps of a window that an average divides by."""
    if axis.stride == 0:
        return _share(window, axis.out, axis.size)[1]
    return _between(axis, window, -axis.before, axis.size + axis.after)[1]
