"""Activations: values at the edges, and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor
from convforge.functional.special import erfc
from convforge.testing import peers

EDGES = np.array([-np.inf, -300.0, -7.5, -6.0, -1.0, -0.0, 0.0, 0.25, 3.0, 6.0, 7.5, 300.0, np.nan])
FUNCTIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "softmax": lambda x: F.softmax(x, 0),
    "log_softmax": lambda x: F.log_softmax(x, 0),
}


def test_erfc_is_right_to_the_last_places():
    x = np.concatenate([np.linspace(-7, 26, 5001), [0.46875, 4.0, 1e-300]])
    wanted = np.array([math.erfc(v) for v in x])
    np.testing.assert_allclose(erfc(x), wanted, rtol=2e-15)
    np.testing.assert_array_equal(erfc(np.array([np.inf, -np.inf, np.nan])), [0, 2, np.nan])


def test_values_at_the_edges():
    np.testing.assert_array_equal(F.relu(EDGES), np.maximum(EDGES, 0))
    np.testing.assert_array_equal(F.relu6(EDGES), np.clip(EDGES, 0, 6))
    finite = EDGES[1:-1]
    for name in ("silu", "gelu", "gelu_tanh"):
        y = FUNCTIONS[name](finite)
        assert np.isfinite(y).all()
        assert y[-1] == 300
        assert abs(y[0]) < 1e-30
    # Far out the error function's form keeps its relative accuracy.
    np.testing.assert_allclose(
        F.gelu(np.array([-7.5])), -7.5 * math.erfc(7.5 / 2**0.5) / 2, rtol=1e-13
    )


def test_integers_are_rectified_as_integers():
    y = F.relu6(np.array([-3, 3, 9], np.int8))
    assert y.dtype == np.int8
    np.testing.assert_array_equal(y, [0, 3, 6])


def test_the_gradient_of_relu_at_zero_is_zero():
    x = Tensor(np.array([-1.0, 0.0, -0.0, 2.0, 6.0, 7.0]), requires_grad=True)
    F.relu(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 0, 1, 1, 1])
    x.grad = None
    F.relu6(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 0, 1, 0, 0])


def test_an_unknown_approximation_is_refused():
    with pytest.raises(ValueError, match="approximate is 'erf'; wanted 'none' or 'tanh'"):
        F.gelu(EDGES, "erf")


@pytest.mark.peer
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_torch_agrees_forward_and_back(name, dtype):
    torch = peers.require("torch")
    x = np.concatenate([EDGES[1:-1], np.random.default_rng(0).standard_normal(50) * 3]).astype(
        dtype
    )
    theirs = torch.tensor(x, requires_grad=True)
    ours = Tensor(x, requires_grad=True)
    functional = torch.nn.functional
    wanted = {
        "gelu_tanh": lambda t: functional.gelu(t, approximate="tanh"),
        "softmax": lambda t: functional.softmax(t, 0),
        "log_softmax": lambda t: functional.log_softmax(t, 0),
    }.get(name, getattr(functional, name, None))(theirs)
    y = FUNCTIONS[name](ours)
    dy = np.linspace(-1, 1, len(x)).astype(dtype)
    wanted.backward(torch.tensor(dy))
    y.backward(dy)
    assert y.dtype == dtype
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(y, wanted.detach(), rtol=8 * eps, atol=8 * eps)
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=16 * eps, atol=16 * eps)
