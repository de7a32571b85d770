"""The transforms of Winograd's convolution: squares of an image to places, and places to squares.

Whatever is transformed is an image with channels: x and dy are, and a batch of 3x3 images is what
weights are. A thread takes the square of one channel in one window, multiplies it by a matrix from
both sides, and writes each entry to a plane of its own; or reads the planes, and writes the square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

from numba import cuda

from convforge.contract import Cost, KernelRef, Step
from convforge.kernels._winograd import Matrix, Transforms, transforms
from convforge.kernels.cuda_numba._element import Types, divider, inlined, loader, number_type
from convforge.kernels.cuda_numba._epilogue import finisher
from convforge.kernels.cuda_numba._geometry import named
from convforge.kernels.cuda_numba._winograd_matrix import both_sides
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
TAPS = 3
POINTS = {2: ("0", "1", "-1"), 4: ("0", "5/8", "-5/8", "3/2", "-3/2")}
"""By m, besides infinity: those that the CPU's algorithms were measured with."""

WINDOWS = Constants(
    "Windows",
    "squares channels group_channels windows first_window channels_last post accumulate "
    "down across phases_h phases_w reach_h reach_w step_h step_w start_h start_w "
    "H W image_n image_c image_h image_w image_first "
    "plane plane_group plane_window plane_channel slices slice",
)


@dataclass(frozen=True, slots=True)
class SquareConfig(Types):
    """What is multiplied by which matrix: see :func:`matrix_of`."""

    m: int
    part: str


def matrices(m: int) -> Transforms:
    """Of F(m, 3), exact."""
    return transforms(m, TAPS, map(Fraction, POINTS[m]))


def matrix_of(m: int, part: str) -> Matrix:
    """The matrix from squares to places, or back.

    To places come ``images``, ``weights`` and, for wgrad, ``gradients`` of results; to squares
    ``results`` and gradients of ``filters``.
    """
    made = matrices(m)
    return {
        "images": made.input,
        "weights": made.weights,
        "gradients": tuple(zip(*made.output, strict=True)),
        "results": made.output,
        "filters": tuple(zip(*made.weights, strict=True)),
    }[part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Squares of an image, and where their places lie.

    Attributes:
        images, channels, group_channels: Of what is read or written.
        size: Rows and columns of an image. image: Elements from an image, channel, row and column
            to the next. first: Element where the image begins.
        reach: Pixels from a window to the next of its phase. step: Between pixels of a window: a
            dilated filter sees so many interleaved images, the phases. start: The first pixel.
        extent: Pixels that windows begin at, down and across.
        channels_last: Threads that are neighbours have neighbouring channels, else windows.
    """

    images: int
    channels: int
    group_channels: int
    size: tuple[int, int]
    image: tuple[int, int, int, int]
    first: int = 0
    reach: tuple[int, int]
    step: tuple[int, int] = (1, 1)
    start: tuple[int, int] = (0, 0)
    extent: tuple[int, int]
    channels_last: bool

    @property
    def phases(self) -> tuple[int, int]:
        """Interleaved images, down and across, that have a pixel."""
        return min(self.step[0], self.extent[0]), min(self.step[1], self.extent[1])

    @property
    def grid(self) -> tuple[int, int]:
        """Windows of an image, down and across."""
        (down, across), (h, w) = self.phases, self.reach
        return down * -(-self.extent[0] // h), across * -(-self.extent[1] // w)

    @property
    def count(self) -> int:
        """Windows of all images."""
        return self.images * prod(self.grid)

    def places(self, side: int, windows: int) -> tuple[int, int, int, int]:
        """Elements from a place, group, window and channel to the next, as threads follow.

        Planes are [group][place][window][channel], or with the last two exchanged.
        """
        plane = windows * self.group_channels
        inner = (self.group_channels, 1) if self.channels_last else (1, windows)
        return plane, side * side * plane, *inner


def corner_of(index: str) -> Callable[..., Any]:
    """``corner(g, window)``: image, and the pixel that a window begins with."""
    divide, integer = divider(index), number_type(index)

    @inlined
    def corner(g, window):
        rest, across = divide(window, g.across)
        n, down = divide(rest, g.down)
        run_h, phase_h = divide(down, g.phases_h)
        run_w, phase_w = divide(across, g.phases_w)
        h = integer(run_h * g.reach_h + phase_h + g.start_h)
        w = integer(run_w * g.reach_w + phase_w + g.start_w)
        return n, h, w

    return corner


@kernel(WINDOWS, threads=THREADS, registers={"f32": 128, "f64": 160})
def conv_winograd3x3_gather(config):
    """A square, with zeros outside the image, to its places."""
    matrix = matrix_of(config.m, config.part)
    side, given = len(matrix), len(matrix[0])
    squared, pixels = side * side, given * given
    index, acc = number_type(config.index), number_type(config.acc)
    load, divide = loader(config.pointers[0], config.acc), divider(config.index)
    corner, transform = corner_of(config.index), both_sides(matrix, config.acc)

    def conv_winograd3x3_gather(g, image, planes):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.squares:
            return
        if g.channels_last != 0:
            window, channel = divide(i, g.channels)
        else:
            channel, window = divide(i, g.windows)
        n, h, w = corner(g, index(window + g.first_window))
        group, part = divide(channel, g.group_channels)
        start = index(g.image_first + n * g.image_n + channel * g.image_c)
        square = cuda.local.array(pixels, acc)
        placed = cuda.local.array(squared, acc)
        for r in range(given):
            row = index(h + r * g.step_h)
            for s in range(given):
                column = index(w + s * g.step_w)
                value = acc(0)
                if row >= 0 and row < g.H and column >= 0 and column < g.W:
                    value = load(image, index(start + row * g.image_h + column * g.image_w))
                square[r * given + s] = value
        transform(square, placed)
        at = index(group * g.plane_group + window * g.plane_window + part * g.plane_channel)
        for place in range(squared):
            planes[index(at + place * g.plane)] = placed[place]

    return conv_winograd3x3_gather


@kernel(WINDOWS, threads=THREADS, registers={"f32": 128, "f64": 160})
def conv_winograd3x3_scatter(config):
    """Places to a square, through the epilogue; what lies outside the image is not written."""
    matrix = matrix_of(config.m, config.part)
    side, given = len(matrix), len(matrix[0])
    squared, places = side * side, given * given
    sliced = config.part == "filters"
    index, acc = number_type(config.index), number_type(config.acc)
    finish, divide = finisher(config.pointers[1], config.acc), divider(config.index)
    corner, transform = corner_of(config.index), both_sides(matrix, config.acc)

    def conv_winograd3x3_scatter(g, planes, image, bias, residual):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.squares:
            return
        if g.channels_last != 0:
            window, channel = divide(i, g.channels)
        else:
            channel, window = divide(i, g.windows)
        n, h, w = corner(g, index(window + g.first_window))
        group, part = divide(channel, g.group_channels)
        at = index(group * g.plane_group + window * g.plane_window + part * g.plane_channel)
        placed = cuda.local.array(places, acc)
        square = cuda.local.array(squared, acc)
        for place in range(places):
            placed[place] = planes[index(at + place * g.plane)]
        if sliced:
            for _ in range(1, g.slices):
                at += g.slice
                for place in range(places):
                    placed[place] += planes[index(at + place * g.plane)]
        transform(placed, square)
        # The epilogue is too long to be there once for each pixel, so that it takes them from
        # shared memory, where each thread has its own.
        finished = cuda.shared.array((squared, THREADS), acc)
        for pixel in range(squared):
            finished[pixel, cuda.threadIdx.x] = square[pixel]
        start = index(g.image_first + n * g.image_n + channel * g.image_c)
        for r in range(side):
            row = index(h + r * g.step_h)
            if row >= g.H:
                return
            for s in range(side):
                column = index(w + s * g.step_w)
                if column < g.W:
                    to = index(start + row * g.image_h + column * g.image_w)
                    total = finished[r * side + s, cuda.threadIdx.x]
                    finish(total, g.post, g.accumulate, image, to, bias, channel, residual)

    return conv_winograd3x3_scatter


def square_step(
    windows: Windows,
    config: SquareConfig,
    *,
    operands: tuple[str, ...],
    chunk: range,
    planes: tuple[int, int, int, int],
    slices: int = 1,
    post: int = 0,
    accumulate: bool = False,
) -> Step:
    """The launch for a chunk of windows.

    Args:
        operands: Names of what is read, of what is written, and of bias and residual.
        chunk: Windows of all.
        planes: Elements from a place, group, window and channel to the next.
        slices: Of ``filters``, so many arrays of planes are added first.
    """
    scatters = config.part in ("results", "filters")
    squares = len(chunk) * windows.channels
    down, across = windows.grid
    constants = WINDOWS.pack(
        config.index,
        squares=squares,
        channels=windows.channels,
        group_channels=windows.group_channels,
        windows=len(chunk),
        first_window=chunk.start,
        channels_last=windows.channels_last,
        post=post,
        accumulate=accumulate,
        down=down,
        across=across,
        image_first=windows.first,
        slices=slices,
        slice=planes[1] * (windows.channels // windows.group_channels),
        **named("phases_h phases_w", windows.phases),
        **named("reach_h reach_w", windows.reach),
        **named("step_h step_w", windows.step),
        **named("start_h start_w", windows.start),
        **named("H W", windows.size),
        **named("image_n image_c image_h image_w", windows.image),
        **named("plane plane_group plane_window plane_channel", planes),
    )
    matrix = matrix_of(config.m, config.part)
    side, given = len(matrix), len(matrix[0])
    places, pixels = (given**2, side**2) if scatters else (side**2, given**2)
    size = {"f32": 4, "f64": 8}[config.acc]
    return Step(
        name="write" if scatters else "transform",
        kernel=KernelRef(conv_winograd3x3_scatter if scatters else conv_winograd3x3_gather, config),
        operands=operands,
        constants=constants,
        tasks=-(-squares // THREADS),
        cost=Cost(
            flops=2 * squares * (side + given) * side * given,
            bytes=squares * (slices * places + pixels) * size,
        ),
    )
