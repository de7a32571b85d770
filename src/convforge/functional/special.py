"""The complementary error function, which NumPy lacks.

Rational approximations of W. J. Cody, "Rational Chebyshev approximation for the error function",
Mathematics of Computation 23 (1969), in three ranges, each within two units of the last place of
float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convforge.arrays import Array, namespace

# Numerators and denominators, highest power first.
_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
     3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
     2.84423683343917062e3),
)  # fmt: skip
_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
     6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
     1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
     1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
     3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_TAIL = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
     1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1,
     6.05183413124413191e-2, 2.33520497626869185e-3),
)  # fmt: skip
# Beyond this the result is 0 in float64.
_UNDERFLOW = 28.0


def erfc(x: Array) -> Array:
    """``1 - erf(x)`` in float64, without the cancellation for large ``x``."""
    xp = namespace(x)
    x = xp.asarray(x, dtype=np.float64)
    size = xp.minimum(abs(x), _UNDERFLOW)
    if xp is np:
        upper = np.piecewise(size, [size <= 0.46875, size > 4], [_small, _tail, _middle])
    else:
        # A device would have to be waited for to pick places: it computes every piece everywhere.
        upper = xp.where(size > 4, _tail(xp.maximum(size, 4.0)), _middle(size))
        upper = xp.where(size <= 0.46875, _small(size), upper)
    return xp.where(x < 0, 2 - upper, upper)  # type: ignore[no-any-return]


def _small(x: Array) -> Any:
    return 1 - x * _ratio(_SMALL, x * x)


def _middle(x: Array) -> Any:
    return _exp_minus_square(x) * _ratio(_MIDDLE, x)


def _tail(x: Array) -> Any:
    z = 1 / (x * x)
    return _exp_minus_square(x) / x * (1 / math.sqrt(math.pi) - z * _ratio(_TAIL, z))


def _ratio(pair: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Any:
    above, below = (_polynomial(factors, x) for factors in pair)
    return above / below


def _polynomial(factors: tuple[float, ...], x: Array) -> Any:
    """By Horner's rule."""
    total: Any = factors[0]
    for factor in factors[1:]:
        total = total * x + factor
    return total


def _exp_minus_square(x: Array) -> Any:
    # The square of a number of few bits is exact, and the rest is small.
    xp = namespace(x)
    head = xp.trunc(x * 16) / 16
    return xp.exp(-head * head) * xp.exp(-(x - head) * (x + head))
