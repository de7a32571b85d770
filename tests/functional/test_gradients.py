"""Every gradient is the gradient: against finite differences of the function itself.

One random direction is enough (Baydin et al., and the check_vjp of the autograd package): the
slope of ``<v, f(x + t u)>`` at t = 0 must be ``<J^T v, u>``.
"""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor

RNG = np.random.default_rng(0)
STEP = 1e-6


def normal(*shape):
    return RNG.standard_normal(shape)


def distinct(*shape):
    """Values far enough from each other that a step exchanges no maximum."""
    return RNG.permutation(np.prod(shape)).reshape(shape) / 7 - 3.01


def check_gradients(function, *arrays, atol=2e-7):
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = function(*tensors)
    v = normal(*y.shape)
    y.backward(v)
    plain = function(*arrays)
    np.testing.assert_allclose(np.asarray(plain), np.asarray(y), rtol=1e-12, atol=1e-12)
    for i, tensor in enumerate(tensors):
        u = normal(*tensor.shape)

        def along(t, i=i, u=u):
            moved = [a + t * u if j == i else a for j, a in enumerate(arrays)]
            return (np.asarray(function(*moved)) * v).sum()

        slope = (along(STEP) - along(-STEP)) / (2 * STEP)
        assert tensor.grad is not None, i
        np.testing.assert_allclose(
            (tensor.grad.data * u).sum(), slope, rtol=1e-6, atol=atol * v.size
        )


@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_convolution(activation, layout):
    def function(x, w, bias, residual):
        return F.conv2d(
            x, w, bias, (2, 1), ((1, 0), (2, 1)), (1, 2), 2,
            layout=layout, activation=activation, residual=residual,
        )  # fmt: skip

    x = normal(2, 4, 7, 6)
    x = x if layout == "nchw" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    shape = function(x, normal(6, 2, 3, 2), normal(6), None).shape
    check_gradients(function, x, normal(6, 2, 3, 2), normal(6), normal(*shape))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("batched", [True, False])
def test_convolution_of_every_rank(rank, batched):
    shape = (2, 3, *(5, 6, 4)[:rank])[0 if batched else 1 :]
    name = f"conv{rank}d"
    check_gradients(getattr(F, name), normal(*shape), normal(4, 3, *(2,) * rank), normal(4))


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution(rank, activation):
    def function(x, w, bias):
        call = getattr(F, f"conv_transpose{rank}d")
        return call(x, w, bias, 2, 1, 1, 2, 3, activation=activation)

    check_gradients(
        function, normal(2, 4, *(4, 3, 2)[:rank]), normal(4, 3, *(2,) * rank), normal(6)
    )


def test_output_padding_of_a_stride_or_more():
    check_gradients(
        lambda x, w: F.conv_transpose2d(x, w, None, 1, 0, (2, 1), 1, 3),
        normal(2, 3, 4, 3), normal(3, 2, 2, 2),
    )  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling(rank):
    x = distinct(2, 3, *(7, 6, 5)[:rank])
    for name, arguments in (
        (f"max_pool{rank}d", (3, 2, 1)),
        (f"max_pool{rank}d", (2, 1, 0, 2, True)),
        (f"avg_pool{rank}d", (3, 2, 1, True)),
        (f"avg_pool{rank}d", (3, 2, 1, True, False)),
    ):
        check_gradients(lambda x, n=name, a=arguments: getattr(F, n)(x, *a), x)
    for name, arguments in (
        (f"adaptive_avg_pool{rank}d", (4,)),
        (f"adaptive_max_pool{rank}d", (4,)),
        (f"lp_pool{rank}d", (2, 3, 2)),
        (f"lp_pool{rank}d", (2, 3, 2, True)),
    ):
        check_gradients(lambda x, n=name, a=arguments: getattr(F, n)(x, *a), x)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding(mode):
    check_gradients(lambda x: F.pad(x, (1, 2, 0, 3, -1, 1), mode), normal(2, 4, 5, 6))


def test_folding():
    check_gradients(lambda x: F.unfold(x, 3, 2, 1, 2), normal(2, 3, 7, 8))
    check_gradients(lambda x: F.fold(x, (4, 5), 2, 1, 1, (2, 1)), normal(2, 12, 18))


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        F.relu6,
        F.silu,
        F.gelu,
        lambda x: F.gelu(x, "tanh"),
        F.sigmoid,
        F.tanh,
        lambda x: F.softmax(x, 1),
        lambda x: F.log_softmax(x, 0),
        lambda x: F.flatten(x, 1),
        lambda x: F.pad(x, (1, 2, 0, 3), value=5),
        lambda x: F.cross_entropy(x, np.arange(12).reshape(4, 3) % 5),
        lambda x: F.cross_entropy(
            x, np.arange(12).reshape(4, 3) % 5, np.arange(1.0, 6), ignore_index=2,
            reduction="none", label_smoothing=0.3,
        ),
        lambda x: F.nll_loss(x, np.arange(12).reshape(4, 3) % 5, reduction="sum"),
    ],
)  # fmt: skip
def test_functions_of_one_array(function):
    check_gradients(function, distinct(4, 5, 3) / 2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_squared_error(reduction):
    check_gradients(lambda a, b: F.mse_loss(a, b, reduction=reduction), normal(3, 4), normal(3, 4))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (0,)])
def test_linear(lead):
    check_gradients(F.linear, normal(*lead, 5), normal(3, 5), normal(3))
    check_gradients(lambda x, w: F.linear(x, w, activation="gelu"), normal(*lead, 5), normal(3, 5))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm(training, shape):
    mean, var = normal(3), normal(3) ** 2 + 1

    def function(x, weight, bias):
        return F.batch_norm(x, mean.copy(), var.copy(), weight, bias, training)

    check_gradients(function, normal(*shape), normal(3), normal(3), atol=1e-6)


def test_dropout():
    def function(x):
        return F.dropout(x, 0.4, generator=np.random.default_rng(3))

    check_gradients(function, normal(4, 5))


def test_tensor_arithmetic():
    positive = np.abs(normal(3, 1)) + 1
    check_gradients(lambda a, b: a + b * 2 - 3 / b, normal(2, 3, 4), positive)
    check_gradients(lambda a, b: (a - b) / b, normal(2, 3, 4), positive)
    check_gradients(lambda a, b: b - a, normal(4), positive)
    check_gradients(lambda a: -(a**3), normal(4))
    for a, b in (((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)),
                 ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)),
                 ((4, 1, 2, 3), (5, 3, 2))):  # fmt: skip
        check_gradients(lambda x, y: x @ y, normal(*a), normal(*b))


@pytest.mark.parametrize(
    "method",
    [
        lambda x: x.sum(),
        lambda x: x.sum(1),
        lambda x: x.sum((0, -1), keepdim=True),
        lambda x: x.mean(),
        lambda x: x.mean(0),
        lambda x: x.reshape(3, 8),
        lambda x: x.reshape((-1,)),
        lambda x: x.flatten(1),
        lambda x: x.transpose(0, 2),
        lambda x: x.permute(2, 0, 1),
        lambda x: x[1:, ::2],
        lambda x: x[np.array([0, 0, 1]), 1],
        lambda x: x[0, 1, 2],
        lambda x: x.exp(),
        lambda x: (x * x + 1).log(),
    ],
)
def test_tensor_methods(method):
    check_gradients(lambda x: method(x if isinstance(x, Tensor) else Tensor(x)), normal(2, 3, 4))
