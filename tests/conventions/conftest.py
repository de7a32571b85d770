"""What the tests of every adapter ask of gradients."""

from __future__ import annotations

import numpy as np
import pytest

from convforge import Tensor


@pytest.fixture
def adjoint():
    """``adjoint(function, *shapes)`` raises unless gradients are transposes, on small integers."""
    return _adjoint


def _adjoint(function, *shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, shape).astype(np.float64) for shape in shapes]
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    y = function(*tensors)
    np.testing.assert_array_equal(y, function(*arrays))
    dy = rng.integers(-3, 4, y.shape).astype(np.float64)
    y.backward(dy)
    inner = (np.asarray(y) * dy).sum()
    for array, tensor in zip(arrays, tensors, strict=True):
        # Linear in every argument.
        assert inner == (array * np.asarray(tensor.grad)).sum()
