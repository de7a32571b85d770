"""Padding in every mode against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor
from convforge.testing import peers

RNG = np.random.default_rng(0)
WIDTHS = {
    1: [(1, 2), (0, 3), (-1, 2), (2, -2), (-1, -2)],
    2: [(1, 2, 0, 3), (3, 0, 2, 2), (-1, 2, 1, -1)],
    3: [(1, 2, 0, 1, 2, 1), (0, 1, -1, 0, 1, 2)],
}


@pytest.mark.peer
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("rank", "widths"), [(r, w) for r, all_ in WIDTHS.items() for w in all_])
def test_torch_agrees_forward_and_back(rank, widths, mode):
    torch = peers.require("torch")
    x = RNG.standard_normal((2, 3, *(5, 6, 4)[:rank]))
    theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    value = {"value": 7.0} if mode == "constant" else {}
    wanted = torch.nn.functional.pad(theirs, widths, mode, **value)
    y = F.pad(ours, widths, mode, **value)
    dy = RNG.standard_normal(wanted.shape)
    wanted.backward(torch.tensor(dy))
    y.backward(dy)
    np.testing.assert_array_equal(y, wanted.detach())
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_memory_order_is_kept():
    x = np.moveaxis(np.zeros((2, 5, 6, 3), np.float32), -1, 1)
    for mode in ("constant", "reflect", "replicate", "circular"):
        y = F.pad(x, (1, 1, 2, 0), mode)
        assert np.moveaxis(y, 1, -1).flags.c_contiguous


@pytest.mark.parametrize(
    ("widths", "mode", "words"),
    [
        ((1,), "constant", "wanted a low and a high width"),
        ((0, 1, 2), "constant", "wanted a low and a high width"),
        ((0,) * 8, "constant", "wanted a low and a high width"),
        ((-2, -2), "constant", "has no elements for in shape"),
        ((3, 0), "reflect", "mode 'reflect' has no elements for in shape"),
        ((4, 0), "circular", "mode 'circular' has no elements"),
        ((0, 1), "mirror", "mode is 'mirror'; wanted one of constant, reflect"),
    ],
)
def test_bad_arguments(widths, mode, words):
    with pytest.raises(ValueError, match=words):
        F.pad(np.zeros((1, 2, 3)), widths, mode)


def test_a_value_is_for_the_constant_mode():
    with pytest.raises(ValueError, match="mode 'reflect' has no use for one"):
        F.pad(np.zeros((1, 2, 3)), (1, 1), "reflect", 3)
    with pytest.raises(TypeError, match=r"pad is 1\.5"):
        F.pad(np.zeros((1, 2, 3)), (1.5, 1))
