"""The meaning of pooling functions: golden values and PyTorch."""

from __future__ import annotations

import inspect
from itertools import product

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor, no_grad
from convforge.testing import peers

RNG = np.random.default_rng(0)
NAN, INF = np.nan, np.inf


def row(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 1, -1)


def test_ceil_mode_drops_windows_that_start_beyond_the_padding():
    x = np.zeros((1, 1, 9, 9), np.float32)
    assert F.avg_pool2d(x, 4, 4, 2, ceil_mode=True).shape == (1, 1, 3, 3)
    assert F.max_pool2d(x, 4, 4, 2, ceil_mode=True).shape == (1, 1, 3, 3)


def test_the_divisor_counts_padding_but_not_the_overhang():
    x = np.arange(1, 17, dtype=np.float64).reshape(1, 1, 4, 4)
    y = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=True)
    wanted = [[14 / 9, 30 / 9, 2.0], [57 / 9, 11, 6], [4.5, 7.5, 4]]
    np.testing.assert_allclose(y[0, 0], wanted, rtol=1e-12)


def test_other_divisors():
    x = row(1, 2, 3, 4)
    np.testing.assert_allclose(F.avg_pool1d(x, 2, padding=1), row(0.5, 2.5, 2))
    y = F.avg_pool1d(x, 2, padding=1, count_include_pad=False)
    np.testing.assert_allclose(y, row(1, 2.5, 4))
    y = F.avg_pool2d(x[..., None], (2, 1), divisor_override=4)
    np.testing.assert_allclose(y[..., 0], row(0.75, 1.75))


def test_average_of_same_excludes_the_padding():
    # Keras on its NumPy and JAX backends; window 4, stride 1.
    y = F.avg_pool1d(row(1, 2, 3, 40, 100), 4, 1, padding=((1, 2),), count_include_pad=False)
    np.testing.assert_allclose(y, row(2, 11.5, 36.25, 143 / 3, 70), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("values", [(NAN, 1, 2), (1, NAN, 2), (1, 2, NAN), (NAN, NAN, 1)])
def test_nan_wins_wherever_it_stands_and_the_last_is_the_index(dtype, values):
    y, index = F.max_pool1d(row(*values, dtype=dtype), 3, return_indices=True)
    assert np.isnan(y.item())
    assert index.item() == max(i for i, v in enumerate(values) if np.isnan(v))


def test_ties_infinities_and_zeros():
    for values, index in (((2, 2, 1), 0), ((1, 2, 2), 1), ((-INF, -INF, -INF), 0)):
        y, found = F.max_pool1d(row(*values), 3, return_indices=True)
        assert (y.item(), found.item()) == (max(values), index)
    for values in ((-0.0, 0.0), (0.0, -0.0)):
        y, found = F.max_pool1d(row(*values), 2, return_indices=True)
        assert np.signbit(y.item()) == np.signbit(values[0])
        assert found.item() == 0
    # Padding never wins, not even against the smallest number.
    y, found = F.max_pool1d(row(-128, -128, dtype=np.int8), 2, padding=1, return_indices=True)
    np.testing.assert_array_equal(y, row(-128, -128))
    np.testing.assert_array_equal(found, row(0, 1))


def test_indices_count_one_plane():
    x = RNG.standard_normal((2, 3, 4, 4)).astype(np.float32)
    _, index = F.max_pool2d(x, 4, return_indices=True)
    assert index.dtype == np.int64
    planes = x.reshape(6, 16)
    np.testing.assert_array_equal(index.reshape(6), planes.argmax(1))
    x = RNG.standard_normal((1, 1, 2, 3, 4)).astype(np.float32)
    _, index = F.max_pool3d(x, (2, 3, 4), return_indices=True)
    assert index.item() == x.argmax()


def test_the_first_of_equals_gets_the_gradient_and_overlaps_add():
    x = Tensor(row(1, 1, 1), requires_grad=True)
    F.max_pool1d(x, 2, 1).sum().backward()
    np.testing.assert_array_equal(x.grad, row(1, 1, 0))
    x = Tensor(row(0, 5, 0), requires_grad=True)
    F.max_pool1d(x, 2, 1).sum().backward()
    np.testing.assert_array_equal(x.grad, row(0, 2, 0))


def test_an_average_larger_than_the_image_with_padding():
    x = np.ones((1, 1, 2, 2, 2), np.float32)
    np.testing.assert_allclose(F.avg_pool3d(x, 4, 4, 1).item(), 8 / 64)


def test_tensors():
    x = Tensor(row(1, 3, 2, 4), requires_grad=True)
    y, index = F.max_pool1d(x, 2, return_indices=True)
    assert y.requires_grad
    assert type(index) is Tensor
    assert not index.requires_grad
    np.testing.assert_array_equal(index, row(1, 3))


def test_out_is_for_calls_that_are_not_recorded():
    x, out = Tensor(row(1, 3, 2, 4), requires_grad=True), Tensor(row(0, 0))
    mean = row(0, 0)
    with pytest.raises(ValueError, match="the call is recorded"):
        F.max_pool1d(x, 2, out=out)
    assert not out.data.any()
    version = out._version
    with no_grad():
        y, index = F.max_pool1d(x, 2, return_indices=True, out=out)
        assert F.avg_pool1d(x, 2, out=mean) is mean
    assert y is out
    assert out._version > version
    np.testing.assert_array_equal(out, row(3, 4))
    np.testing.assert_array_equal(index, row(1, 3))
    np.testing.assert_array_equal(mean, row(2, 3))
    assert F.max_pool1d(x.data, 2, out=out) is out


def test_arguments_stand_in_the_order_of_pytorch():
    maximum = "input kernel_size stride padding dilation ceil_mode return_indices"
    average = "input kernel_size stride padding ceil_mode count_include_pad"
    for rank in (1, 2, 3):
        for name, wanted in (
            (f"max_pool{rank}d", maximum),
            (f"avg_pool{rank}d", average + " divisor_override" * (rank > 1)),
        ):
            parameters = inspect.signature(getattr(F, name)).parameters.items()
            positional = [n for n, p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
            assert positional == wanted.split()


CASES = list(product([1, 2, 3], [2, 3], [1, 2, 3], [0, 1], [False, True]))


@pytest.mark.peer
@pytest.mark.parametrize(("rank", "window", "stride", "padding", "ceil"), CASES)
def test_torch_agrees_forward_and_back(rank, window, stride, padding, ceil):
    torch = peers.require("torch")
    x = RNG.integers(-4, 5, (2, 3, *(9, 8, 7)[:rank])).astype(np.float64)
    calls = [
        (f"max_pool{rank}d", (window, stride, padding, dilation, ceil)) for dilation in (1, 2)
    ] + [
        (f"avg_pool{rank}d", (window, stride, padding, ceil, include)) for include in (False, True)
    ]
    if rank > 1:
        calls.append((f"avg_pool{rank}d", (window, stride, padding, ceil, True, 5)))
    for name, arguments in calls:
        theirs = torch.tensor(x, requires_grad=True)
        ours = Tensor(x, requires_grad=True)
        wanted = getattr(torch.nn.functional, name)(theirs, *arguments)
        y = getattr(F, name)(ours, *arguments)
        dy = RNG.standard_normal(wanted.shape)
        wanted.backward(torch.tensor(dy))
        y.backward(dy)
        np.testing.assert_allclose(y, wanted.detach(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.peer
def test_torch_agrees_on_indices_of_ties_and_nans():
    torch = peers.require("torch")
    x = RNG.integers(-1, 2, (3, 2, 9, 9)).astype(np.float32)
    x[RNG.random(x.shape) < 0.1] = NAN
    for arguments in ((2,), (3, 2, 1), (3, 1, 1, 2)):
        wanted = torch.nn.functional.max_pool2d(torch.tensor(x), *arguments, return_indices=True)
        for own, their in zip(
            F.max_pool2d(x, *arguments, return_indices=True), wanted, strict=True
        ):
            np.testing.assert_array_equal(own, their)
