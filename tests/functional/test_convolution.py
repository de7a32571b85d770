"""The meaning of convolution functions: golden values, frameworks, Tensors."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import convforge.functional as F
from convforge import Tensor, no_grad
from convforge.testing import peers

RNG = np.random.default_rng(0)


def row(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 1, -1)


def test_the_operation_is_cross_correlation():
    y = F.conv1d(row(0, 0, 1, 0, 0), row(1, 2, 3))
    np.testing.assert_array_equal(y, row(3, 2, 1))


def test_complex_filters_are_not_conjugated():
    x = row(1j, 0, dtype=np.complex64)
    np.testing.assert_array_equal(F.conv1d(x, row(1j, dtype=np.complex64)), row(-1, 0))


def test_same_puts_the_odd_one_at_the_end():
    # Impulse response: with 4 taps, 1 goes before and 2 go after.
    x, w = row(0, 0, 1, 0, 0), row(1, 2, 3, 4)
    np.testing.assert_array_equal(F.conv1d(x, w, padding="same"), row(4, 3, 2, 1, 0)[..., :5])
    lower = F.conv1d(x, w, padding="same_lower")
    np.testing.assert_array_equal(lower, row(0, 4, 3, 2, 1))


def test_same_of_any_stride_depends_on_the_size():
    # Keras, TensorFlow, JAX and ONNX SAME_UPPER give these for n = 4, k = 3, s = 2.
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    w = np.ones((1, 1, 3, 3), np.float32)
    upper = F.conv2d(x, w, stride=2, padding="same_upper")
    np.testing.assert_array_equal(upper.reshape(-1), [45, 39, 66, 50])
    lower = F.conv2d(x, w, stride=2, padding="same_lower")
    np.testing.assert_array_equal(lower.reshape(-1), [10, 24, 51, 90])


def test_causal_sees_nothing_of_what_comes():
    x = row(1, 2, 3, 4)
    y = F.conv1d(x, row(10, 1), padding="causal", dilation=2)
    np.testing.assert_array_equal(y, row(1, 2, 13, 24))


def test_asymmetric_padding():
    x = np.ones((1, 1, 2, 2), np.float32)
    y = F.conv2d(x, np.ones((1, 1, 2, 2), np.float32), padding=((1, 0), (0, 2)))
    np.testing.assert_array_equal(y[0, 0], [[2, 1, 0], [4, 2, 0]])


def test_depthwise_channels_are_grouped_by_their_input():
    x = np.ones((1, 2, 1, 1), np.float32) * np.array([1, 10], np.float32).reshape(1, 2, 1, 1)
    w = np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1, 1)
    np.testing.assert_array_equal(F.conv2d(x, w, groups=2).reshape(-1), [1, 2, 30, 40])


def test_transposed_golden_values():
    x, w = row(1, 2, 3), row(1, 10, 100)
    scatter = F.conv_transpose1d(x, w, stride=2)
    np.testing.assert_array_equal(scatter, row(1, 10, 102, 20, 203, 30, 300))
    cropped = F.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1)
    np.testing.assert_array_equal(cropped, row(10, 102, 20, 203, 30, 300))
    # The end alone is cropped: "same" of Keras, TensorFlow and JAX.
    end = F.conv_transpose1d(x, w, stride=2, padding=((0, 1),))
    np.testing.assert_array_equal(end, row(1, 10, 102, 20, 203, 30))
    # A filter shorter than the stride: 11 here, 12 in Keras.
    assert F.conv_transpose1d(x, w, stride=4).shape[-1] == 11
    assert F.conv_transpose1d(x, w, stride=4, output_padding=1).shape[-1] == 12


def test_output_padding_of_a_stride_or_more():
    x, w = row(1, 2), row(1, 10)
    y = F.conv_transpose1d(x, w, dilation=3, output_padding=2)
    np.testing.assert_array_equal(y, row(1, 2, 0, 10, 20, 0, 0))
    last = F.conv_transpose1d(x.transpose(0, 2, 1), w, dilation=3, output_padding=2, layout="nwc")
    np.testing.assert_array_equal(last, y.transpose(0, 2, 1))
    with pytest.raises(ValueError, match=r"output_padding is 3; .*its stride or its dilation"):
        F.conv_transpose1d(x, w, dilation=3, output_padding=3)


def test_epilogue_is_bias_then_residual_then_activation():
    x, w = row(1, -1, 2), row(1)
    y = F.conv1d(x, w, np.float32([1]), residual=row(-3, 3, 4), activation="relu")
    np.testing.assert_array_equal(y, row(0, 3, 7))
    y = F.conv1d(x, w, np.float32([1]), residual=row(-3, 3, 4), activation="relu6")
    np.testing.assert_array_equal(y, row(0, 3, 6))
    y = F.conv_transpose1d(x, w, np.float32([1]), residual=row(-3, 3, 4), activation="relu")
    np.testing.assert_array_equal(y, row(0, 3, 7))


@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_a_fused_activation_is_the_function(name):
    x, w = RNG.standard_normal((2, 3, 5, 5)), RNG.standard_normal((4, 3, 3, 3))
    alone = {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda y: F.gelu(y, "tanh")}[name]
    wanted = alone(F.conv2d(x, w))
    np.testing.assert_allclose(F.conv2d(x, w, activation=name), wanted, rtol=1e-12, atol=1e-12)
    recorded = F.conv2d(Tensor(x, requires_grad=True), w, activation=name)
    np.testing.assert_allclose(recorded, wanted, rtol=1e-12, atol=1e-12)


def test_arguments_stand_in_the_order_of_pytorch():
    conv = "input weight bias stride padding dilation groups"
    transposed = "input weight bias stride padding output_padding groups dilation"
    added = ["layout", "activation", "residual", "algorithm", "policy", "out", "out_dtype"]
    for rank in (1, 2, 3):
        parameters = inspect.signature(getattr(F, f"conv{rank}d")).parameters
        assert list(parameters) == [*conv.split(), *added]
        assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in added)
        positional = [
            name
            for name, p in inspect.signature(
                getattr(F, f"conv_transpose{rank}d")
            ).parameters.items()
            if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        assert positional == transposed.split()


def test_tensors_give_recorded_tensors_and_arrays_give_arrays():
    x, w = row(1, 2, 3), row(1, 1)
    assert type(F.conv1d(x, w)) is np.ndarray
    assert type(F.conv1d(Tensor(x), w)) is Tensor
    assert not F.conv1d(Tensor(x), w).requires_grad
    assert F.conv1d(x, Tensor(w, requires_grad=True)).requires_grad
    assert F.conv1d(x, w, Tensor(np.float32([1]), requires_grad=True)).requires_grad
    assert F.conv1d(x, w, residual=Tensor(row(1, 1), requires_grad=True)).requires_grad
    with no_grad():
        assert not F.conv1d(x, Tensor(w, requires_grad=True)).requires_grad


def test_out_is_for_calls_that_are_not_recorded():
    x, w = row(1, 2, 3), Tensor(row(1, 1), requires_grad=True)
    out = np.zeros((1, 1, 2), np.float32)
    with pytest.raises(ValueError, match="out is given, but the call is recorded"):
        F.conv1d(x, w, out=out)
    assert not out.any()
    with no_grad():
        assert F.conv1d(x, w, out=out) is out
        np.testing.assert_array_equal(out, row(3, 5))
        tensor = Tensor(np.zeros((1, 1, 2), np.float32))
        assert F.conv1d(x, w, out=tensor) is tensor
        np.testing.assert_array_equal(tensor, row(3, 5))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_keywords_are_those_of_the_signature(rank):
    plain, transposed = (getattr(F, f"{name}{rank}d") for name in ("conv", "conv_transpose"))
    keywords, same = (
        [n for n, p in inspect.signature(f).parameters.items() if p.kind is p.KEYWORD_ONLY]
        for f in (plain, transposed)
    )
    assert keywords == same
    assert keywords[-2:] == ["out", "out_dtype"]
    message = rf"conv_transpose{rank}d\(\) got an unexpected keyword argument 'foo'"
    with pytest.raises(TypeError, match=message):
        transposed(None, None, foo=1)


def test_out_that_overlaps_a_bias_or_itself():
    x, w, memory = np.ones((1, 4, 6, 6), "f"), np.ones((4, 4, 1, 1), "f"), np.full(144, 7, "f")
    out = memory.reshape(1, 4, 6, 6)
    for function in (F.conv2d, F.conv_transpose2d):
        with pytest.raises(ValueError, match="out shares memory with bias"):
            function(x, w, memory[:4], out=out)
        with pytest.raises(ValueError, match="out overlaps itself"):
            function(x, w, out=as_strided(memory, (1, 4, 6, 6), (0, 4, 4, 4)))
        with no_grad(), pytest.raises(ValueError, match="out shares memory with bias"):
            function(Tensor(x), Tensor(w), Tensor(memory[:4]), out=Tensor(out))
    assert (memory == 7).all()


def test_gradients_choose_their_own_algorithm():
    x, w = Tensor(row(1, 2, 3), requires_grad=True), row(1, 1)
    F.conv1d(x, w, algorithm="cpu.reference").sum().backward()
    np.testing.assert_array_equal(x.grad, row(1, 2, 1))


@pytest.mark.peer
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("last", [False, True])
def test_torch_agrees_forward_and_back(rank, transposed, dtype, last):
    torch = peers.require("torch")

    def draw(*shape):
        values = RNG.standard_normal(shape)
        if np.dtype(dtype).kind == "c":
            values = values + 1j * RNG.standard_normal(shape)
        return values.astype(dtype)

    size = (7, 6, 5)[:rank]
    stride, padding, dilation = (2, 1, 3)[:rank], (1, 0, 2)[:rank], (1, 2, 1)[:rank]
    x, w = draw(2, 4, *size), draw(*(4, 3) if transposed else (6, 2), *(3, 2, 3)[:rank])
    bias = draw(6)
    extra = ((1, 1, 0)[:rank],) if transposed else ()
    name = f"conv_transpose{rank}d" if transposed else f"conv{rank}d"
    rest = (stride, padding, *extra, 2, dilation) if transposed else (stride, padding, dilation, 2)
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, w, bias)]
    wanted = getattr(torch.nn.functional, name)(*theirs, *rest)
    dy = draw(*wanted.shape)
    wanted.backward(torch.tensor(dy))
    if last:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    ours = [Tensor(a, requires_grad=True) for a in (x, w, bias)]
    y = getattr(F, name)(*ours, *rest)
    y.backward(dy)
    tolerance = 1e-4 if dtype is np.float32 else 1e-10
    np.testing.assert_allclose(y, wanted.detach(), rtol=tolerance, atol=tolerance)
    for own, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(own.grad, their.grad, rtol=tolerance, atol=tolerance)
        assert own.grad.data.strides == own.data.strides


@pytest.mark.peer
def test_torch_tensors_come_back_as_torch_tensors():
    torch = peers.require("torch")
    x = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    w = torch.randn(4, 3, 3, 3)
    y = F.conv2d(x, w, padding=1)
    assert isinstance(y, torch.Tensor)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, torch.nn.functional.conv2d(x, w, padding=1))
    half = F.conv2d(x.bfloat16(), w.bfloat16(), padding=1)
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=0.05, atol=0.1)
    out = torch.empty_like(y)
    assert F.conv2d(x, w, padding=1, out=out) is out
    torch.testing.assert_close(out, y)
    for function in (
        F.relu,
        F.flatten,
        lambda t: F.max_pool2d(t, 2),
        lambda t: F.linear(t, w[0, 0, :, 0].repeat(5, 2)[:, :5]),
    ):
        assert isinstance(function(x), torch.Tensor)
