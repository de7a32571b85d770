"""Keras's rules as golden values, and ``keras.ops`` with the same arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convforge import Tensor
from convforge.conventions import keras as ours

FEW = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
NAN = np.nan


def row(*values):
    return np.array(values, np.float32).reshape(1, -1, 1)


COUNT = np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4, 1)
ONES = np.ones((3, 3, 1, 1), np.float32)


def test_same_depends_on_the_size_and_puts_the_odd_one_at_the_end():
    y = ours.conv(COUNT, ONES, strides=2, padding="same")
    np.testing.assert_array_equal(y.ravel(), [54, 45, 72, 54])
    taps = np.float32([1, 2, 3, 4]).reshape(4, 1, 1)
    y = ours.conv(row(0, 0, 1, 0, 0), taps, padding="same")
    np.testing.assert_array_equal(y, row(4, 3, 2, 1, 0))


def test_causal_sees_nothing_of_what_comes():
    y = ours.conv(row(1, 2, 3, 4), np.float32([10, 1]).reshape(2, 1, 1), 1, "causal", None, 2)
    np.testing.assert_array_equal(y, row(1, 2, 13, 24))


@pytest.mark.parametrize(
    ("strides", "padding", "extra", "wanted"),
    [
        (2, "valid", None, [1, 10, 102, 20, 203, 30, 300]),
        (2, "same", None, [1, 10, 102, 20, 203, 30]),
        (2, "same", 0, [10, 102, 20, 203, 30]),
        (2, "same", 1, [1, 10, 102, 20, 203, 30]),
        (2, "valid", 3, [1, 10, 102, 20, 203, 30, 300, 0, 0, 0]),
        (4, "valid", None, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]),
        (4, "same", None, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]),
    ],
)
def test_transposed(strides, padding, extra, wanted):
    kernel = np.float32([1, 10, 100]).reshape(3, 1, 1)
    y = ours.conv_transpose(row(1, 2, 3), kernel, strides, padding, extra)
    np.testing.assert_array_equal(y, row(*wanted))


def test_depthwise_channels_are_grouped_by_their_input():
    x = np.float32([1, 10]).reshape(1, 1, 1, 2)
    kernel = np.float32([1, 2, 3, 4]).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(ours.depthwise_conv(x, kernel).ravel(), [1, 2, 30, 40])


def test_no_images():
    assert ours.conv(COUNT[:0], ONES).shape == (0, 2, 2, 1)


def test_averages_of_same_leave_the_padding_out():
    y = ours.average_pool(row(1, 2, 3, 40, 100), 4, 1, "same")
    np.testing.assert_allclose(y, row(2, 11.5, 36.25, 143 / 3, 70), rtol=1e-6)


def test_windows_are_their_own_extent_apart():
    assert ours.max_pool(COUNT, 2).shape == ours.average_pool(COUNT, 2).shape == (1, 2, 2, 1)
    assert ours.max_pool(row(1, 2, 3), 2, padding="same").shape == (1, 2, 1)
    assert ours.max_pool(row(1, 2, 3), 2).shape == (1, 1, 1)


@pytest.mark.parametrize("values", [(NAN, 1, 2), (1, NAN, 2), (1, 2, NAN)])
def test_the_maximum_hands_nan_on_wherever_it_stands(values):
    assert np.isnan(ours.max_pool(row(*values), 3).item())


def test_adaptive_windows_overlap():
    y = ours.adaptive_average_pool(row(0, 1, 2, 3, 4), 3)
    np.testing.assert_array_equal(y, row(0.5, 2, 3.5))
    assert ours.adaptive_max_pool(row(1, 2, 3), 5).shape == (1, 5, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.conv(COUNT, ONES, padding=1), "padding is 1; wanted one of valid, same, cau"),
        (lambda: ours.max_pool(COUNT, 2, padding="causal"), "'causal'; wanted one of valid, same;"),
        (lambda: ours.conv(COUNT, ONES, padding="causal"), "'causal' is for 1 spatial axis"),
        (lambda: ours.conv(COUNT, ONES, data_format="nhwc"), "data_format is 'nhwc'; wanted one"),
        (lambda: ours.conv(COUNT[:, :2], ONES), "filter is larger than the padded input"),
        (lambda: ours.max_pool(COUNT[:, :2], 3), "filter is larger than the padded input"),
        (lambda: ours.conv(COUNT, ONES, strides=0), "stride of axis h is 0"),
        (
            lambda: ours.conv(COUNT, np.ones((3, 3, 2, 4), np.float32)),
            "inputs have 1 channels; the kernel's 2 must divide them",
        ),
        (
            lambda: ours.conv_transpose(COUNT, ONES, 2, output_padding=-1),
            "output_padding is -1; wanted at least 0",
        ),
    ],
)
def test_what_cannot_be_says_what_can(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_gradients(adjoint):
    def transposed(x, w):
        return ours.conv_transpose(x, w, (2, 3), "same", (1, 4))

    adjoint(lambda x, w: ours.conv(x, w, 2, "same"), (2, 6, 5, 4), (3, 2, 2, 6))
    adjoint(transposed, (2, 3, 4, 4), (3, 2, 5, 4))
    adjoint(lambda x, w: ours.depthwise_conv(x, w, padding="same"), (2, 6, 5, 3), (3, 2, 3, 2))
    x, kernels = Tensor(COUNT, requires_grad=True), (ONES, np.ones((1, 1, 1, 2), np.float32))
    ours.separable_conv(x, *kernels).sum().backward()
    assert x.grad.sum().item() == 2 * 9 * 4


RANKS = {1: (7,), 2: (8, 7), 3: (5, 4, 6)}
CALLS = st.fixed_dictionaries(
    {"strides": st.integers(1, 4), "padding": st.sampled_from(["valid", "same"])}
)


def compare(agree, keras, name, *shapes, exact=True, whole=False, **given_):
    def theirs(*arrays):
        return keras.ops.convert_to_numpy(getattr(keras.ops, name)(*arrays, **given_))

    own = getattr(ours, name)
    agree(lambda *a: own(*a, **given_), theirs, *shapes, exact=exact, whole=whole)


def image(format_, size, C):
    return (2, *size, C) if format_ == "channels_last" else (2, C, *size)


FORMATS = st.sampled_from(["channels_last", "channels_first"])


@pytest.mark.peer
@pytest.mark.parametrize("rank", RANKS)
@given(given_=CALLS, format_=FORMATS, dilation=st.integers(1, 2), groups=st.sampled_from([1, 2]))
@FEW
def test_keras_agrees_on_convolution(keras, agree, rank, given_, format_, dilation, groups):
    shapes = image(format_, RANKS[rank], 4), (*(3, 2, 2)[:rank], 4 // groups, 6)
    given_ |= {"data_format": format_, "dilation_rate": dilation}
    compare(agree, keras, "conv", *shapes, **given_)


@pytest.mark.peer
@pytest.mark.parametrize("rank", RANKS)
@given(
    given_=CALLS, format_=FORMATS, extra=st.sampled_from([None, 0, 1, 2, 5]), k=st.integers(1, 4)
)
@FEW
def test_keras_agrees_on_transposed_convolution(keras, agree, rank, given_, format_, extra, k):
    shapes = image(format_, (4, 3, 5)[:rank], 4), (*(k, 2, 3)[:rank], 3, 4)
    given_ |= {"data_format": format_, "output_padding": extra}
    compare(agree, keras, "conv_transpose", *shapes, whole=True, **given_)


@pytest.mark.peer
@given(given_=CALLS, multiplier=st.integers(1, 2))
@FEW
def test_keras_agrees_on_separable_convolution(keras, agree, given_, multiplier):
    shapes = (2, 8, 7, 5), (3, 2, 5, multiplier), (1, 1, 5 * multiplier, 4)
    compare(agree, keras, "depthwise_conv", *shapes[:2], **given_)
    compare(agree, keras, "separable_conv", *shapes, **given_)


@pytest.mark.peer
@pytest.mark.parametrize("rank", RANKS)
@given(given_=CALLS, window=st.integers(1, 4), format_=FORMATS)
@FEW
def test_keras_agrees_on_pooling(keras, agree, rank, given_, window, format_):
    given_ |= {"pool_size": window, "data_format": format_}
    shape = image(format_, RANKS[rank], 3)
    compare(agree, keras, "max_pool", shape, **given_)
    if keras.config.backend() == "torch" and given_["padding"] == "same":
        return  # Keras on PyTorch repeats the border where the padding is uneven
    compare(agree, keras, "average_pool", shape, exact=False, **given_)


@pytest.mark.peer
@pytest.mark.parametrize("size", [1, 3, (9, 4)])
def test_keras_agrees_on_adaptive_pooling(keras, agree, size):
    if not hasattr(keras.ops, "adaptive_max_pool"):
        pytest.skip("comparison not run: keras is older than its adaptive poolings")
    compare(agree, keras, "adaptive_max_pool", (2, 8, 7, 3), output_size=size)
    compare(agree, keras, "adaptive_average_pool", (2, 8, 7, 3), exact=False, output_size=size)
