"""Power-mean pooling against PyTorch, its oddities included."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor
from convforge.testing import peers

RNG = np.random.default_rng(0)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("norm", [1, 2, 3, 4.0, 0.5, 1.5, -2, float("inf")])
@pytest.mark.parametrize("positive", [False, True])
def test_torch_agrees_forward_and_back(rank, norm, positive):
    torch = peers.require("torch")
    x = RNG.standard_normal((2, 3, *(7, 6, 5)[:rank]))
    x = np.abs(x) if positive else x
    for arguments in ((2,), (3, 2), (3, 2, True), (2, 3, True)):
        theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
        wanted = getattr(torch.nn.functional, f"lp_pool{rank}d")(theirs, norm, *arguments)
        y = getattr(F, f"lp_pool{rank}d")(ours, norm, *arguments)
        dy = RNG.standard_normal(wanted.shape)
        wanted.backward(torch.tensor(dy))
        y.backward(dy)
        np.testing.assert_allclose(y, wanted.detach(), rtol=1e-10)
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-10)


def test_a_window_cut_off_is_scaled_up_as_in_pytorch():
    x = np.array([[[3.0, 4.0, 5.0]]])
    y = F.lp_pool1d(x, 2, 2, ceil_mode=True)
    np.testing.assert_allclose(y, [[[5.0, 5 * 2**0.5]]])


def test_the_gradient_of_nothing_is_nothing():
    x = Tensor(np.zeros((1, 1, 4)), requires_grad=True)
    F.lp_pool1d(x, 2, 2).sum().backward()
    np.testing.assert_array_equal(x.grad, np.zeros((1, 1, 4)))


@pytest.mark.peer
@pytest.mark.parametrize("norm", [1, 2, 3, 0.5, 1.5])
def test_torch_agrees_on_infinite_sums(norm):
    torch = peers.require("torch")
    x = np.array([[[np.inf, 2.0, 3.0, 4.0, np.inf, np.inf, np.nan, 1.0]]])
    theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    wanted = torch.nn.functional.lp_pool1d(theirs, norm, 2)
    y = F.lp_pool1d(ours, norm, 2)
    wanted.sum().backward()
    y.sum().backward()
    np.testing.assert_allclose(y, wanted.detach(), rtol=1e-12)
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12)


@pytest.mark.parametrize("norm", [2, 3])
def test_memory_that_is_not_one_run_gives_the_same(norm):
    wide = np.abs(RNG.standard_normal((2, 3, 90, 94))).astype(np.float32)
    for x in (wide[..., ::2, 1:], wide.transpose(0, 1, 3, 2), wide.astype(">f4")):
        ours, plain = (Tensor(a, requires_grad=True) for a in (x, x.astype("f4", order="C")))
        y, wanted = F.lp_pool2d(ours, norm, 3, 2), F.lp_pool2d(plain, norm, 3, 2)
        np.testing.assert_array_equal(y, wanted)
        y.sum().backward()
        wanted.sum().backward()
        np.testing.assert_array_equal(ours.grad, plain.grad)


def test_layouts_and_memory():
    x = RNG.standard_normal((2, 3, 6, 4)).astype(np.float32)
    y = F.lp_pool2d(x, 2, 2)
    assert y.dtype == np.float32
    last = F.lp_pool2d(np.moveaxis(x, 1, -1), 2, 2, layout="nhwc")
    np.testing.assert_allclose(last, np.moveaxis(y, 1, -1), rtol=1e-6)
    assert F.lp_pool2d(x[0], 2.0, 2).shape == (3, 3, 2)


@pytest.mark.parametrize(
    ("norm", "error", "words"),
    [
        (0, ValueError, "norm_type is 0; wanted a number other than 0"),
        (float("nan"), ValueError, "norm_type is nan"),
        ("2", TypeError, "norm_type is '2' of type str; wanted a number"),
    ],
)
def test_bad_norms(norm, error, words):
    with pytest.raises(error, match=words):
        F.lp_pool1d(np.ones((1, 1, 4)), norm, 2)


def test_integers_have_no_roots():
    with pytest.raises(TypeError, match="integers have no roots"):
        F.lp_pool1d(np.ones((1, 1, 4), np.int32), 2, 2)


def test_arguments_stand_in_the_order_of_pytorch():
    for rank in (1, 2, 3):
        parameters = inspect.signature(getattr(F, f"lp_pool{rank}d")).parameters.items()
        positional = [n for n, p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert positional == ["input", "norm_type", "kernel_size", "stride", "ceil_mode"]
