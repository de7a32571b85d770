"""Unpooling against PyTorch, and indices that name nothing."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor
from convforge.testing import peers

RNG = np.random.default_rng(0)
X = np.arange(1.0, 5).reshape(1, 1, 2, 2)
PLACES = np.array([0, 3, 8, 15]).reshape(1, 1, 2, 2)


@pytest.mark.peer
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("last", [False, True])
def test_torch_agrees_forward_and_back(rank, last):
    torch = peers.require("torch")
    x = RNG.standard_normal((2, 3, *(9, 8, 6)[:rank]))
    if last:
        x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
    for arguments in ((2, None, 0), (3, 2, 0), (3, 2, 1)):
        y, places = getattr(F, f"max_pool{rank}d")(x, *arguments, return_indices=True)
        for size in (x.shape, x.shape[2:]):
            theirs, ours = torch.tensor(y, requires_grad=True), Tensor(y, requires_grad=True)
            wanted = getattr(torch.nn.functional, f"max_unpool{rank}d")(
                theirs, torch.tensor(places), *arguments, output_size=size
            )
            back = getattr(F, f"max_unpool{rank}d")(ours, places, *arguments, output_size=size)
            dy = RNG.standard_normal(wanted.shape)
            wanted.backward(torch.tensor(dy))
            back.backward(dy)
            np.testing.assert_array_equal(back, wanted.detach())
            np.testing.assert_array_equal(ours.grad, theirs.grad)


def test_the_size_without_a_rest_is_the_default():
    y = F.max_unpool2d(X, PLACES, 2)
    assert y.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(y.ravel()[[0, 3, 8, 15]], [1, 2, 3, 4])
    assert y.sum() == 10
    assert F.max_unpool1d(X[0], PLACES[0], 10, 8, 1).shape == (1, 2, 16)
    assert F.max_unpool2d(X, PLACES, 2, output_size=(5, 4)).shape == (1, 1, 5, 4)


def test_of_equal_places_the_last_wins():
    y = F.max_unpool2d(X, np.full_like(PLACES, 5), 2)
    assert y.ravel()[5] == 4
    assert y.sum() == 4


def test_layouts_and_single_images():
    x = RNG.standard_normal((2, 3, 8, 6)).astype(np.float32)
    y, places = F.max_pool2d(x, 2, return_indices=True)
    whole = F.max_unpool2d(y, places, 2)
    moved = [np.moveaxis(a, 1, -1) for a in (y, places)]
    np.testing.assert_array_equal(
        F.max_unpool2d(*moved, 2, layout="nhwc"), np.moveaxis(whole, 1, -1)
    )
    np.testing.assert_array_equal(F.max_unpool2d(y[0], places[0], 2), whole[0])
    with_indices = F.max_pool2d(Tensor(x), 2, return_indices=True)
    np.testing.assert_array_equal(F.max_unpool2d(*with_indices, 2), whole)


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"indices": PLACES + 1}, ValueError, "indices go from 1 to 16; wanted 0 to 15"),
        ({"indices": PLACES - 1}, ValueError, "indices go from -1 to 14; wanted 0 to 15"),
        ({"indices": PLACES[:, :, :1]}, ValueError, r"indices has shape .*; wanted \(1, 1, 2, 2\)"),
        ({"indices": PLACES * 1.0}, TypeError, "indices has dtype float64; wanted int64"),
        ({"indices": [0]}, TypeError, "indices is of type list"),
        ({"output_size": (6, 4)}, ValueError, r"output_size is \(6, 4\); wanted extents from"),
        ({"output_size": (4,)}, ValueError, r"output_size is \(4,\); wanted 2 extents"),
        ({"kernel_size": 0}, ValueError, r"kernel_size is \(0, 0\); wanted at least 1"),
        ({"stride": 0}, ValueError, r"stride is \(0, 0\); wanted at least 1"),
        ({"padding": -1}, ValueError, "padding is -1; wanted at least 0"),
        ({"padding": 2}, ValueError, "padding is 2, which leaves the result the extents"),
        ({"input": X[0, 0]}, ValueError, r"input has shape \(2, 2\); wanted \(N, C, H, W\)"),
    ],
)
def test_bad_arguments(keywords, error, words):
    with pytest.raises(error, match=words):
        F.max_unpool2d(**{"input": X, "indices": PLACES, "kernel_size": 2, **keywords})
