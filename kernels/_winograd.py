"""Exact transform matrices of Winograd's minimal filtering, for any interpolation points.

F(m, r) computes m outputs of a filter with r taps from m + r - 1 inputs by as many products::

    y = A^T ((G g) * (B^T d))

Each product evaluates two polynomials at one of m + r - 2 *points*, the last one at infinity.
Everything is a :class:`~fractions.Fraction`: a matrix is rounded where code is made of it.

A filter of stride s sees s interleaved images, each through every s-th of its taps: every phase has
transforms of its own, and their products lie side by side.

Winograd 1980, "Arithmetic Complexity of Computations" (doi:10.1137/1.9781611970364). How points
make or break the accuracy: Barabasz et al. 2018 (arXiv:1803.10986). Strides by phases: Huang et al.
2020 (arXiv:2002.00552), Yepez & Ko 2020 (doi:10.1109/TVLSI.2019.2961602).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

Matrix = tuple[tuple[Fraction, ...], ...]


class Transforms(NamedTuple):
    """The matrices of F(m, r).

    Attributes:
        output: A^T, m rows. weights: G, one row a product. input: B^T, one row a product.
    """

    output: Matrix
    weights: Matrix
    input: Matrix


def transforms(m: int, r: int, points: Iterable[Fraction | int]) -> Transforms:
    """The matrices for m outputs, r taps and these points, infinity being one more.

    The rows of B^T are polynomials with leading coefficient one, so that points with few bits
    give a B^T and an A^T that no rounding touches; their normalisation is in G. (To move powers
    of two from one to the other would change no rounding error.)

    Args:
        points: ``m + r - 2`` different rational numbers.

    Raises:
        ValueError: Another number of points, or two that are equal.
    """
    chosen = [Fraction(point) for point in points]
    if len(chosen) != m + r - 2 or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"F({m}, {r}) needs {m + r - 2} different points besides infinity; "
            f"got {', '.join(map(str, chosen))}"
        )
    data, weights = [], []
    for i, point in enumerate(chosen):
        others = chosen[:i] + chosen[i + 1 :]
        norm = Fraction(1)
        for other in others:
            norm *= point - other
        data.append((*_with_roots(others), Fraction(0)))
        weights.append(tuple(point**j / norm for j in range(r)))
    data.append(_with_roots(chosen))
    weights.append((*[Fraction(0)] * (r - 1), Fraction(1)))
    output = tuple((*(point**i for point in chosen), Fraction(int(i == m - 1))) for i in range(m))
    return Transforms(output, tuple(weights), tuple(data))


def strided(m: int, r: int, stride: int, points: Iterable[Fraction | int]) -> Transforms:
    """The matrices for m outputs, ``stride`` pixels apart, from ``stride (m - 1) + r`` pixels.

    Args:
        points: For the phase with most taps; one of n taps uses the first ``m + n - 2``. A phase
            of a single tap needs none: a product is a pixel times the tap.
    """
    chosen = tuple(points)
    width = stride * (m - 1) + r
    output, weights, data = [list[Fraction]() for _ in range(m)], [], []
    for phase in range(min(stride, r)):
        taps = len(range(phase, r, stride))
        made = _single(m) if taps == 1 else transforms(m, taps, chosen[: m + taps - 2])
        for row, more in zip(output, made.output, strict=True):
            row += more
        weights += [_spread(row, phase, stride, r) for row in made.weights]
        data += [_spread(row, phase, stride, width) for row in made.input]
    return Transforms(tuple(map(tuple, output)), tuple(weights), tuple(data))


def interleaved(
    m: int, r: int, stride: int, first: int, points: Iterable[Fraction | int]
) -> tuple[Transforms, int]:
    """The matrices for ``stride * m`` outputs of the transposed filter, which inserts zeros.

    Output u is the sum of ``x[j] w[u - stride j]``; each phase of u is a filter of its own.

    Args:
        first: The first output is of this phase.
        points: As for :func:`strided`.

    Returns:
        The matrices, and the first pixel of the window where the first output is ``first``.
    """
    chosen = tuple(points)
    phases = range(min(stride, r))
    taps = [len(range(phase, r, stride)) for phase in phases]
    # Of each phase, which of its outputs is the first in the window.
    begin = [-((phase - first) // stride) for phase in phases]
    start = min(at - n + 1 for at, n in zip(begin, taps, strict=True))
    width = max(begin) + m - start
    columns, weights, data = [], [], []
    for phase, at, n in zip(phases, begin, taps, strict=True):
        made = _single(m) if n == 1 else transforms(m, n, chosen[: m + n - 2])
        row = phase + stride * at - first
        columns += [_spread(c, row, stride, stride * m) for c in zip(*made.output, strict=True)]
        weights += [_spread(each[::-1], phase, stride, r) for each in made.weights]
        lead = at - n + 1 - start
        data += [_spread((*[Fraction(0)] * lead, *each), 0, 1, width) for each in made.input]
    return Transforms(tuple(zip(*columns, strict=True)), tuple(weights), tuple(data)), start


def _single(m: int) -> Transforms:
    """F(m, 1) without a transform."""
    unit = tuple(tuple(Fraction(int(i == j)) for j in range(m)) for i in range(m))
    return Transforms(unit, ((Fraction(1),),) * m, unit)


def _spread(row: Sequence[Fraction], first: int, step: int, width: int) -> tuple[Fraction, ...]:
    """The row's entries ``step`` apart, zeros between."""
    found = [Fraction(0)] * width
    for at, entry in zip(range(first, width, step), row, strict=False):
        found[at] = entry
    return tuple(found)


def _with_roots(roots: Iterable[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients, the constant one first, of the monic polynomial with these roots."""
    polynomial = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *polynomial]
        scaled = [*(root * coefficient for coefficient in polynomial), Fraction(0)]
        polynomial = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return tuple(polynomial)
