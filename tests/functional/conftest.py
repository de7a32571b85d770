"""How two functions of arrays are compared, whichever framework the second one is from."""

from __future__ import annotations

import numpy as np
import pytest

# An algorithm of ours may err by 4 units, and the other framework's is given as many.
MOST_UNITS = 8


@pytest.fixture
def agree():
    """``agree(ours, theirs, *shapes)`` calls both with the same arrays of these shapes."""
    return _agree


def _agree(ours, theirs, *shapes, dtype=np.float32, exact=True):
    """Raise unless both give the same arrays, in number, shape, type and values.

    They must be linear in every argument (or linear but for signs, as a maximum is), because the
    unit of error, eps times the sum without signs, is what ``theirs`` makes of magnitudes.
    ``exact`` says that small integers give sums which nothing rounds.
    """
    rng = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    if exact:
        integers = [_draw(lambda s: rng.integers(-4, 5, s), shape, dtype) for shape in shapes]
        pairs = zip(_arrays(ours(*integers)), _arrays(theirs(*integers)), strict=True)
        for got, wanted in pairs:
            np.testing.assert_array_equal(got, wanted, strict=True)
    if dtype.kind not in "fc":
        return
    normal = [_draw(rng.standard_normal, shape, dtype) for shape in shapes]
    scales = _arrays(theirs(*map(np.abs, normal)))
    results = zip(_arrays(ours(*normal)), _arrays(theirs(*normal)), scales, strict=True)
    for got, wanted, scale in results:
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        units = np.abs(got - wanted) / (np.finfo(dtype).eps * np.maximum(scale, 1e-30))
        assert units.max() <= MOST_UNITS


def _draw(real, shape, dtype):
    values = real(shape) + 1j * real(shape) if dtype.kind == "c" else real(shape)
    return values.astype(dtype)


def _arrays(results):
    return [np.asarray(r) for r in (results if isinstance(results, tuple | list) else (results,))]
