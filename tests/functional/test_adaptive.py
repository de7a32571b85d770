"""Adaptive pooling against PyTorch, and which problem it comes to."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor, ops
from convforge.ops import adaptive_arguments
from convforge.problem import PoolKind
from convforge.testing import peers

RNG = np.random.default_rng(0)
SIZES = {
    1: [1, 4, 9, (13,)],
    2: [1, (3, 5), (7, 8), (11, 4), (None, 2), (9, None)],
    3: [2, (3, 1, 5), (None, 4, 2)],
}
CASES = [(rank, size, last) for rank in SIZES for size, last in product(SIZES[rank], (False, True))]


@pytest.mark.peer
@pytest.mark.parametrize(("rank", "size", "last"), CASES)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_torch_agrees_forward_and_back(kind, rank, size, last):
    torch = peers.require("torch")
    name = f"adaptive_{kind}_pool{rank}d"
    x = RNG.integers(-4, 5, (2, 3, *(9, 8, 7)[:rank])).astype(np.float64)
    if last:
        x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    # A single None is not understood there in one dimension.
    wanted = getattr(torch.nn.functional, name)(theirs, size)
    y = getattr(F, name)(ours, size)
    dy = RNG.standard_normal(wanted.shape)
    wanted.backward(torch.tensor(dy))
    y.backward(dy)
    np.testing.assert_allclose(y, wanted.detach(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)
    if kind == "max":
        pair = getattr(torch.nn.functional, name)(theirs, size, return_indices=True)
        own, places = getattr(F, name)(x, size, return_indices=True)
        np.testing.assert_array_equal(own, pair[0].detach())
        np.testing.assert_array_equal(places, pair[1])


@pytest.mark.parametrize("kind", PoolKind)
def test_equal_windows_are_ordinary_pooling(kind):
    x = RNG.standard_normal((2, 3, 6, 8)).astype(np.float32)
    call = ops.pool_call(adaptive_arguments(kind, 2, (3, None)), x)
    assert str(call.problem) == f"fprop:{kind}:f32:n2c3h6w8_r2s1_st2x1"
    call = ops.pool_call(adaptive_arguments(kind, 2, (4, 8)), x)
    assert str(call.problem) == f"fprop:{kind}:f32:n2c3h6w8_a4x8"


def test_layouts_and_single_images():
    x = RNG.standard_normal((2, 5, 7, 6)).astype(np.float32)
    y = F.adaptive_avg_pool2d(x, (3, 4))
    last = F.adaptive_avg_pool2d(np.moveaxis(x, 1, -1), (3, 4), layout="nhwc")
    np.testing.assert_allclose(last, np.moveaxis(y, 1, -1), rtol=1e-6)
    np.testing.assert_array_equal(F.adaptive_avg_pool2d(x[0], (3, 4)), y[0])
    out = np.empty_like(y)
    assert F.adaptive_avg_pool2d(x, (3, 4), out=out) is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (0, ValueError, "output_size is 0; wanted at least 1"),
        ((3, -1), ValueError, r"output_size is \(3, -1\); wanted at least 1"),
        ((1, 2, 3), ValueError, r"wanted an integer or 2 of them \(h, w\)"),
        (None, ValueError, "output_size is None; wanted an integer or 2"),
        (1.5, TypeError, r"output_size is 1\.5 of type float; wanted an integer"),
    ],
)
def test_bad_sizes(size, error, words):
    for name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        with pytest.raises(error, match=words):
            getattr(F, name)(np.ones((1, 1, 4, 4), np.float32), size)


def test_bad_input():
    with pytest.raises(ValueError, match=r"pooling needs at least 1 .*output_size \(2, 2\)"):
        F.adaptive_avg_pool2d(np.ones((1, 1, 0, 4), np.float32), 2)
    with pytest.raises(TypeError, match="an average of integers is none"):
        F.adaptive_avg_pool2d(np.ones((1, 1, 4, 4), np.int32), 2)
