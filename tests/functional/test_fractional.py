"""Fractional pooling against PyTorch, which is told the same samples."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor, manual_seed
from convforge.testing import peers

RNG = np.random.default_rng(0)
NAN = np.nan


@pytest.mark.peer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("rank", "window", "size"),
    [(2, 2, (5, 4)), (2, (3, 2), (6, 1)), (2, 1, 8), (3, 2, (5, 4, 3)), (3, (1, 2, 3), 2)],
)
def test_torch_agrees_forward_and_back(rank, window, size, last, dtype):
    torch = peers.require("torch")
    x = RNG.integers(-3, 4, (2, 3, *(11, 9, 8)[:rank])).astype(dtype)
    x[RNG.random(x.shape) < 0.05] = NAN
    if last:
        x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    samples = RNG.random((2, 3, rank)).astype(dtype)
    name = f"fractional_max_pool{rank}d"
    theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    wanted, their_places = getattr(torch.nn.functional, name)(
        theirs, window, size, return_indices=True, _random_samples=torch.tensor(samples)
    )
    y, places = getattr(F, name)(ours, window, size, None, True, samples)
    dy = RNG.integers(-4, 5, tuple(wanted.shape)).astype(dtype)
    wanted.backward(torch.tensor(dy))
    y.backward(dy)
    np.testing.assert_array_equal(y, wanted.detach())
    np.testing.assert_array_equal(places, their_places)
    np.testing.assert_array_equal(ours.grad, theirs.grad)


def test_ratios_and_randomness():
    x = RNG.standard_normal((2, 3, 16, 12)).astype(np.float32)
    manual_seed(7)
    y = F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.7))
    assert y.shape == (2, 3, 8, 8)
    manual_seed(7)
    np.testing.assert_array_equal(F.fractional_max_pool2d(x, 2, output_ratio=(0.5, 0.7)), y)
    again = F.fractional_max_pool2d(x, 2, (8, 8), generator=np.random.default_rng(1))
    assert (again != y).any()
    # The size wins over the ratio.
    assert F.fractional_max_pool2d(x, 2, 3, 0.9).shape == (2, 3, 3, 3)


def test_layouts_and_single_images():
    x = RNG.standard_normal((2, 3, 9, 8)).astype(np.float32)
    samples = RNG.random((2, 3, 2))
    y = F.fractional_max_pool2d(x, 2, 4, _random_samples=samples)
    last = F.fractional_max_pool2d(
        np.moveaxis(x, 1, -1), 2, 4, _random_samples=samples, layout="nhwc"
    )
    np.testing.assert_array_equal(last, np.moveaxis(y, 1, -1))
    one = F.fractional_max_pool2d(x[0], 2, 4, _random_samples=samples[:1])
    np.testing.assert_array_equal(one, y[0])


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({}, ValueError, "output_size and output_ratio are None"),
        ({"output_size": 0}, ValueError, "output_size is 0; wanted at least 1"),
        ({"output_size": 6}, ValueError, r"wanted extents from 1 to \(5, 5\)"),
        ({"output_ratio": 1.5}, ValueError, r"output_ratio is 1\.5; wanted a number between"),
        ({"output_size": 2, "kernel_size": 0}, ValueError, "kernel_size is 0; wanted at least 1"),
        (
            {"output_size": 2, "_random_samples": np.zeros((1, 1, 3))},
            ValueError,
            r"_random_samples has shape \(1, 1, 3\); wanted \(1, 1, 2\)",
        ),
        (
            {"output_size": 2, "_random_samples": np.ones((1, 1, 2))},
            ValueError,
            "_random_samples go beyond",
        ),
        ({"output_size": 2, "input": np.ones((1, 1, 6, 6), int)}, TypeError, "input has dtype int"),
    ],
)
def test_bad_arguments(keywords, error, words):
    with pytest.raises(error, match=words):
        F.fractional_max_pool2d(
            **{"input": np.ones((1, 1, 6, 6), np.float32), "kernel_size": 2, **keywords}
        )
