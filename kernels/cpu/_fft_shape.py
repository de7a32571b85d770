"""How long the FFT's tiles are, and what each direction makes of an axis.

On the dense grid of an axis, where neighbouring outputs of stride 1 are neighbours, a filter spans
``extent`` places. A tile of T places holds ``T - extent + 1`` results whose sums do not wrap
around (overlap-save). Long tiles waste less of themselves and cost more a place.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import log2, prod

from convforge.kernels._met import met
from convforge.kernels.cpu._fft_window import Window
from convforge.problem import Axis, ConvProblem, Direction

LONGEST = 1 << 14
LENGTHS = tuple(
    sorted(
        odd << power for odd in (1, 3, 5, 9, 15) for power in range(15) if odd << power <= LONGEST
    )
)
"""Lengths that fast passes make up."""
EVEN = tuple(n for n in LENGTHS if n % 2 == 0)
IMAGES_PER_FILTER = 4
"""Images over which the choice spreads the transform of the filters: it must not know N, on which
neither bits nor prepared weights may depend."""
_GATHERED, _SLOWNESS = 25, 3.0
"""A transform of n reals takes 2.5 log2(n) flops a place, besides gathering and scattering; with
these two it takes as long as so many flops of a product, or a little less: where two algorithms
are close, the other one errs less. Measured: 8x8 to 96x96, 64 to 8192."""

MOST_SHAPES = 6
"""Tile shapes offered; with less memory than the smallest of them needs, others are faster."""

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Tiling:
    """One axis cut into tiles of ``length`` places.

    Attributes:
        kept: Results a tile yields. places: Places from one tile to the next.
        count: Results of the axis. tiles: How many tiles that takes.
    """

    length: int
    kept: int
    places: int
    count: int
    tiles: int


def whole(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Three axes, those that the problem lacks in front."""
    return (Axis(size=1, filter=1),) * (3 - len(axes)) + axes


def tiling(direction: Direction, axis: Axis, length: int) -> Tiling:
    """An axis in tiles of this length, at least the filter's extent."""
    spare = length - axis.extent
    if direction is Direction.WGRAD:
        # Cut is dy; what a tile yields is a share of every sum.
        places = spare + 1
        return Tiling(length, axis.filter, places, axis.filter, -(-_dense(axis) // places))
    stride, count = (axis.stride, axis.out) if direction is Direction.FPROP else (1, axis.size)
    kept = min(spare // stride + 1, count)
    return Tiling(length, kept, kept * stride, count, -(-count // kept))


def _dense(axis: Axis) -> int:
    return (axis.out - 1) * axis.stride + 1


def image_window(direction: Direction, axis: Axis, cut: Tiling, stride: int) -> Window:
    """What is transformed tile by tile: x, or dy in dgrad."""
    if direction is Direction.DGRAD:
        first, read, spacing = axis.pad_lo - axis.extent + 1, met(axis).outputs, axis.stride
    else:
        first, read, spacing = -axis.pad_lo, met(axis).pixels, 1
    return Window(
        tiles=cut.tiles,
        step=cut.places,
        first=first - read.start * spacing,
        window=cut.length,
        skipped=read.start,
        size=len(read),
        spacing=spacing,
        stride=stride,
    )


def gradient_window(axis: Axis, cut: Tiling, stride: int) -> Window:
    """The pieces of dy in wgrad, zeros behind each."""
    read = met(axis).outputs
    return Window(
        tiles=cut.tiles,
        step=cut.places,
        first=-read.start * axis.stride,
        window=cut.places,
        skipped=read.start,
        size=len(read),
        spacing=axis.stride,
        stride=stride,
    )


def filter_window(direction: Direction, axis: Axis, cut: Tiling, stride: int) -> Window:
    """The filter, dilated with zeros; in dgrad its last tap first."""
    read = met(axis).taps
    flip = direction is Direction.DGRAD
    return Window(
        first=-(axis.filter - read.stop if flip else read.start) * axis.dilation,
        window=cut.length,
        skipped=read.start,
        size=len(read),
        spacing=axis.dilation,
        flip=flip,
        stride=stride,
    )


def _lengths(direction: Direction, axis: Axis, last: bool) -> list[int]:
    """Lengths worth trying, up to the first that takes the axis in one tile."""
    results = axis.size if direction is Direction.DGRAD else _dense(axis)
    shortest, longest = axis.extent, results + axis.extent - 1
    # The last axis is transformed as pairs of reals.
    every = EVEN if last else LENGTHS
    found = every[bisect_left(every, shortest) : bisect_left(every, longest) + 1]
    # Tiles that are hardly longer than the filter were never best where longer ones exist.
    return [n for n in found if n >= 1.3 * shortest or n == found[-1]]


def too_long(problem: ConvProblem) -> bool:
    """Whether a filter spans more than the longest tile."""
    axes = whole(problem.axes)
    return not all(_lengths(problem.direction, axis, axis is axes[-1]) for axis in axes)


def _lengths_of(cut: tuple[Tiling, ...]) -> Shape:
    d, h, w = cut
    return d.length, h.length, w.length


def _cuts(direction: Direction, axes: tuple[Axis, ...]) -> list[list[Tiling]]:
    """Ways to cut each axis."""
    return [
        [tiling(direction, axis, n) for n in _lengths(direction, axis, i == 2)]
        for i, axis in enumerate(axes)
    ]


def transform_flops(shape: Shape) -> float:
    """Cost of transforming one lane of a tile, as flops of a product that take as long."""
    places = prod(shape)
    return _SLOWNESS * places * (2.5 * log2(places) + _GATHERED)


def shapes(problem: ConvProblem, lanes: int) -> tuple[Shape, ...]:
    """Tile shapes for sums over channels, the one expected to be fastest first."""
    images = problem.N if problem.direction is Direction.WGRAD else IMAGES_PER_FILTER
    channels = (problem.group_C, problem.group_K)
    return _shapes(problem.direction, whole(problem.axes), channels, images, lanes)


@lru_cache(maxsize=4096)
def _shapes(
    direction: Direction,
    axes: tuple[Axis, ...],
    channels: tuple[int, int],
    images: int,
    lanes: int,
) -> tuple[Shape, ...]:
    group_C, group_K = channels
    padded_C, padded_K = (-(-n // lanes) * lanes for n in channels)

    def time(cut: tuple[Tiling, ...]) -> float:
        tiles = images * prod(each.tiles for each in cut)
        transforms = tiles * (padded_C + padded_K) + min(group_C * padded_K, group_K * padded_C)
        # A filter's spectrum comes from memory, which takes as long as a few products by it.
        products = 4 * prod(each.length for each in cut) * group_C * padded_K * (tiles + 4)
        return transforms * transform_flops(_lengths_of(cut)) + products

    ranked = sorted(product(*_cuts(direction, axes)), key=time)
    return tuple(map(_lengths_of, ranked[:MOST_SHAPES]))


def channelwise_shapes(
    problem: ConvProblem, lanes: int, l2_bytes: int, across: tuple[bool, ...]
) -> tuple[tuple[bool, Shape], ...]:
    """Tile shapes where channels stay apart, and whether lanes are neighbouring tiles."""
    return _channelwise_shapes(
        problem.direction, whole(problem.axes), problem.groups, lanes, l2_bytes, across
    )


@lru_cache(maxsize=4096)
def _channelwise_shapes(
    direction: Direction,
    axes: tuple[Axis, ...],
    channels: int,
    lanes: int,
    l2_bytes: int,
    across: tuple[bool, ...],
) -> tuple[tuple[bool, Shape], ...]:
    def time(choice: tuple[bool, tuple[Tiling, ...]]) -> float:
        across, cut = choice
        last = cut[-1].tiles
        blocks = channels * -(-last // lanes) if across else -(-channels // lanes) * last
        tiles = IMAGES_PER_FILTER * blocks * prod(each.tiles for each in cut[:-1])
        # Tile and filter share the second-level cache, or take longer.
        held = prod(each.length for each in cut) * lanes * 4 * (1 if across else 2)
        transforms = 2 * tiles + -(-channels // lanes)
        return transforms * transform_flops(_lengths_of(cut)) * (1.0 if held < l2_bytes else 1.3)

    cuts = list(product(*_cuts(direction, axes)))
    ranked = sorted(product(across, cuts), key=time)[:MOST_SHAPES]
    return tuple((flag, _lengths_of(cut)) for flag, cut in ranked)
