"""How images are cut into tiles for Fourier transforms, and how large these should be.

On the dense grid of an axis, where neighbouring outputs of stride 1 are neighbours, a filter spans
``extent`` places. A tile of T places holds ``T - extent + 1`` results whose sums do not wrap
around (overlap-save). Tiles have powers of two of places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import log2, prod

from convforge.kernels._met import met
from convforge.kernels.cuda_numba._fft_block import LONGEST_SHARE, PLACES
from convforge.problem import Axis, ConvProblem, Direction

IMAGES_PER_FILTER = 4
"""Images over which the choice spreads the transform of the filters: it must not know N, on which
neither bits nor prepared weights may depend."""
_BUTTERFLY, _MOVED = 120, 120
"""Flops that take as long as a butterfly, whose ten accesses of shared memory a multiprocessor does
at a quarter of the rate of multiplications, and as a place that comes or goes: a prediction."""


@dataclass(frozen=True, slots=True)
class Window:
    """What of an axis a tile holds.

    Attributes:
        first, step: Dense position of the first tile, and from one tile to the next.
        window: Places of a tile that are read; the others are zero.
        size, spacing: Elements of the axis, and how far apart they lie on the dense grid.
        some, zero: The first element that is read, and behind the last one: the others are taken
            as zeros, as no result depends on them.
    """

    first: int
    step: int
    window: int
    size: int
    spacing: int
    some: int
    zero: int


@dataclass(frozen=True, slots=True)
class Cut:
    """One axis in tiles of ``length`` places.

    Attributes:
        tiles: How many. kept: Results of a tile. apart: Places between them. count: Of the axis.
        some, zero: The first result that is more than a sum of nothing, and behind the last one.
    """

    length: int
    tiles: int
    kept: int
    apart: int
    count: int
    some: int
    zero: int


def cut(direction: Direction, axis: Axis, length: int) -> Cut:
    """An axis in tiles of this length, at least the filter's extent."""
    spare = length - axis.extent
    if direction is Direction.WGRAD:
        # Cut is dy; what a tile yields is a share of every sum.
        tiles, some = -(-_dense(axis) // (spare + 1)), met(axis).taps
        return Cut(length, tiles, axis.filter, axis.dilation, axis.filter, some.start, some.stop)
    stride, count = (axis.stride, axis.out) if direction is Direction.FPROP else (1, axis.size)
    kept = min(spare // stride + 1, count)
    return Cut(length, -(-count // kept), kept, stride, count, 0, count)


def source_window(direction: Direction, axis: Axis, length: int) -> Window:
    """What is transformed tile by tile: x, or dy in dgrad."""
    spare = length - axis.extent
    if direction is Direction.DGRAD:
        kept = min(spare + 1, axis.size)
        first, some = axis.pad_lo - axis.extent + 1, met(axis).outputs
        return Window(first, kept, length, axis.out, axis.stride, some.start, some.stop)
    step = spare + 1
    if direction is Direction.FPROP:
        step = cut(direction, axis, length).kept * axis.stride
    some = met(axis).pixels
    return Window(-axis.pad_lo, step, length, axis.size, 1, some.start, some.stop)


def gradient_window(axis: Axis, length: int) -> Window:
    """The pieces of dy in wgrad, zeros behind each."""
    places = length - axis.extent + 1
    some = met(axis).outputs
    return Window(0, places, places, axis.out, axis.stride, some.start, some.stop)


def filter_window(axis: Axis, length: int) -> Window:
    """The filter, dilated with zeros."""
    some = met(axis).taps
    return Window(0, 0, length, axis.filter, axis.dilation, some.start, some.stop)


def _dense(axis: Axis) -> int:
    return (axis.out - 1) * axis.stride + 1


def _lengths(direction: Direction, axis: Axis, most: int) -> list[int]:
    """Powers of two up to the first that takes the axis in one tile."""
    results = axis.size if direction is Direction.DGRAD else _dense(axis)
    found, length = [], 1
    while length <= most:
        if length >= axis.extent:
            found.append(length)
            if length >= results + axis.extent - 1:
                break
        length *= 2
    return found


def transform_flops(places: int) -> int:
    """Of one transform, what it takes as long as."""
    return round(places * (_BUTTERFLY / 2 * log2(places) + _MOVED))


def pairs_of(direction: Direction, axes: tuple[Axis, ...], shape: tuple[int, ...]) -> int:
    """Transforms of one channel of an image: two tiles are one complex tile."""
    return -(-prod(cut(direction, *each).tiles for each in zip(axes, shape, strict=True)) // 2)


def best_shape(problem: ConvProblem, axes: tuple[Axis, Axis]) -> tuple[int, int] | None:
    """Rows and columns of a tile, expected to be fastest; None where no tile holds the filter."""
    images = problem.N if problem.direction is Direction.WGRAD else IMAGES_PER_FILTER
    channels = problem.groups, problem.group_C, problem.group_K
    return _best_shape(problem.direction, axes, channels, images, PLACES[problem.acc.value][-1])


@lru_cache(maxsize=4096)
def _best_shape(
    direction: Direction,
    axes: tuple[Axis, Axis],
    channels: tuple[int, int, int],
    images: int,
    most: int,
) -> tuple[int, int] | None:
    groups, group_C, group_K = channels

    def time(shape: tuple[int, int]) -> float:
        places = prod(shape)
        pairs = images * pairs_of(direction, axes, shape)
        transforms = pairs * (group_C + group_K) + group_C * group_K
        return groups * (
            transforms * transform_flops(places) + 8.0 * places * pairs * group_C * group_K
        )

    rows, columns = (_lengths(direction, axis, most // LONGEST_SHARE) for axis in axes)
    shapes = [shape for shape in product(rows, columns) if 2 <= prod(shape) <= most]
    return min(shapes, key=time, default=None)
