"""linear, batch_norm, dropout, pad and flatten as functions."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor, manual_seed
from convforge.testing import peers

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("lead", [(), (1,), (7,), (2, 3), (0,), (2, 0)])
def test_linear_multiplies_rows(lead):
    x = RNG.integers(-4, 5, (*lead, 5)).astype(np.float32)
    w, b = (RNG.integers(-4, 5, shape).astype(np.float32) for shape in ((3, 5), (3,)))
    np.testing.assert_array_equal(F.linear(x, w, b), x @ w.T + b)
    np.testing.assert_array_equal(F.linear(x, np.asfortranarray(w)), x @ w.T)
    np.testing.assert_array_equal(F.linear(x, w, b, activation="relu"), np.maximum(x @ w.T + b, 0))


def test_linear_without_features_is_the_bias():
    y = F.linear(np.zeros((2, 0), np.float32), np.zeros((3, 0), np.float32), np.ones(3, np.float32))
    np.testing.assert_array_equal(y, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("x", "w", "b", "message"),
    [
        ((2, 4), (3, 5), None, r"input has shape \(2, 4\); wanted \(\.\.\., 5\)"),
        ((), (3, 5), None, r"input has shape \(\)"),
        ((2, 5), (3, 5, 1), None, r"weight has shape \(3, 5, 1\); wanted \(out_features"),
        ((2, 5), (3, 5), (5,), r"bias has shape \(5,\); wanted \(3,\)"),
    ],
)
def test_bad_linear(x, w, b, message):
    with pytest.raises(ValueError, match=message):
        F.linear(np.zeros(x), np.zeros(w), None if b is None else np.zeros(b))


def test_linear_with_a_residual_into_out():
    x, w, b = np.arange(6.0).reshape(2, 1, 3), np.eye(4, 3), np.arange(4.0)
    residual = np.full((2, 1, 4), -5.0)
    wanted = np.maximum(x @ w.T + b + residual, 0)
    out = np.full((2, 1, 4), np.nan)
    assert F.linear(x, w, b, activation="relu", residual=residual, out=out) is out
    np.testing.assert_array_equal(out, wanted)
    wide = np.full((2, 1, 8), np.nan)
    F.linear(x, w, b, activation="relu", residual=residual, out=wide[..., ::2])
    np.testing.assert_array_equal(wide[..., ::2], wanted)
    assert np.isnan(wide[..., 1::2]).all()
    empty = np.zeros((0, 4))
    assert F.linear(x[:0, 0], w, out=empty) is empty
    tensor = Tensor(np.zeros((2, 1, 4)))
    version = tensor._version
    assert F.linear(Tensor(x), w, b, out=tensor) is tensor
    assert tensor._version > version
    np.testing.assert_array_equal(tensor, x @ w.T + b)


def test_gradient_of_a_residual_of_linear():
    residual = Tensor(np.zeros((2, 1, 4)), requires_grad=True)
    F.linear(np.ones((2, 1, 3)), np.ones((4, 3)), residual=residual).sum().backward()
    np.testing.assert_array_equal(residual.grad, np.ones((2, 1, 4)))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"out": np.zeros((2, 3))}, r"out has shape \(2, 3\); wanted \(2, 3, 4\)"),
        ({"residual": np.zeros(4)}, r"residual has shape \(4,\); wanted \(2, 3, 4\)"),
        ({"out": np.zeros((3, 2, 4)).transpose(1, 0, 2)}, "rows cannot be seen as one matrix"),
        ({"out": Tensor(np.zeros((2, 3, 4))), "bias": Tensor(np.ones(4), True)}, "is recorded"),
    ],
)
def test_bad_out_and_residual_of_linear(keywords, message):
    with pytest.raises(ValueError, match=message):
        F.linear(np.ones((2, 3, 5)), np.ones((4, 5)), **keywords)


def test_pad_and_flatten():
    x = np.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(F.pad(x, (1, 0, 0, 2), value=9), np.pad(
        x, ((0, 0), (0, 2), (1, 0)), constant_values=9))  # fmt: skip
    assert F.flatten(np.zeros((2, 3, 4))).shape == (24,)
    assert F.flatten(np.zeros((2, 3, 4)), 1).shape == (2, 12)
    assert F.flatten(np.zeros((2, 3, 4)), 0, 1).shape == (6, 4)
    assert F.flatten(np.zeros(())).shape == (1,)


@pytest.mark.parametrize("widths", [(1,), (0, 1, 2), (0,) * 8])
def test_bad_pad(widths):
    with pytest.raises(ValueError, match=r"pad is .*; wanted a low and a high width"):
        F.pad(np.zeros((1, 2, 3)), widths)


def test_bad_flatten():
    with pytest.raises(ValueError, match="end_dim=3 are not axes"):
        F.flatten(np.zeros((1, 2, 3)), 0, 3)
    with pytest.raises(ValueError, match="start_dim=2 stands after end_dim=1"):
        F.flatten(np.zeros((1, 2, 3)), 2, 1)


def test_dropout_keeps_the_mean_and_repeats_by_seed():
    x = np.ones((100, 100), np.float32)
    manual_seed(5)
    y = F.dropout(x, 0.25)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.05
    manual_seed(5)
    np.testing.assert_array_equal(F.dropout(x, 0.25), y)
    assert F.dropout(x, 0.5, training=False) is x
    assert not F.dropout(x, 1.0).any()
    with pytest.raises(ValueError, match=r"p is 1\.5; wanted a probability"):
        F.dropout(x, 1.5)


@pytest.mark.parametrize("seed", ["a", None, 1.0])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(TypeError, match=f"seed is {seed!r} of type .*; wanted an integer"):
        manual_seed(seed)
    with pytest.raises(ValueError, match="seed is -1; wanted at least 0"):
        manual_seed(-1)


def test_batch_norm_in_both_layouts():
    x = RNG.standard_normal((4, 3, 5, 6)).astype(np.float32) * 3 + 1
    y = F.batch_norm(x, training=True)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, atol=1e-4)
    last = F.batch_norm(np.moveaxis(x, 1, -1), training=True, layout="nhwc")
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), y)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"input": np.zeros(3)}, r"input has shape \(3,\); wanted \(N, C\)"),
        ({"running_mean": np.zeros(4)}, r"running_mean has shape \(4,\); wanted \(3,\)"),
        ({}, "running_mean and running_var are None"),
        ({"training": True, "input": np.zeros((1, 3))}, "one value a channel has no variance"),
        ({"layout": "nwc"}, "layout is 'nwc'"),
    ],
)
def test_bad_batch_norm(keywords, message):
    with pytest.raises(ValueError, match=message):
        F.batch_norm(**{"input": np.zeros((2, 3, 4, 4)), **keywords})


@pytest.mark.peer
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_torch_agrees_on_batch_norm(training, dtype):
    torch = peers.require("torch")
    x = (RNG.standard_normal((4, 3, 5, 6)) * 2 + 1).astype(dtype)
    wide = "float32" if dtype == "float16" else dtype
    arrays = [RNG.random(3).astype(wide) + 0.5 for _ in range(4)]
    theirs = [torch.tensor(a) for a in (x, *arrays)]
    ours = [Tensor(a.copy()) for a in (x, *arrays)]
    for i in (0, 3, 4):
        theirs[i].requires_grad_()
        ours[i].requires_grad_()
    wanted = torch.nn.functional.batch_norm(*theirs, training, 0.2, 1e-4)
    y = F.batch_norm(*ours, training, 0.2, 1e-4)
    dy = RNG.standard_normal(x.shape).astype(dtype)
    wanted.backward(torch.tensor(dy))
    y.backward(dy)
    tolerance = {"float64": 1e-12, "float32": 2e-5, "float16": 1e-2}[dtype]
    np.testing.assert_allclose(y, wanted.detach(), rtol=tolerance, atol=tolerance)
    for own, their in zip(ours, theirs, strict=True):
        if own.requires_grad:
            own, their = own.grad, their.grad
        np.testing.assert_allclose(own, their, rtol=tolerance, atol=tolerance)
