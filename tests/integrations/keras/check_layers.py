"""Layers against Keras's own, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

import convforge
from convforge import keras as ours

TORCH = keras.config.backend() == "torch"
MOST_UNITS = 8
SIZES = {1: (9,), 2: (9, 8), 3: (6, 5, 7)}
FORMATS = ("channels_last", "channels_first")


def image(rank, data_format, channels=4, size=None):
    size = size or SIZES[rank]
    return (2, *size, channels) if data_format == "channels_last" else (2, channels, *size)


def numbers(layer, x):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x)))


def check(name, shape, *, dtype="float32", seed=0, **arguments):
    """Our layer gives what Keras's of the same weights gives, at most a few units off."""
    rng = np.random.default_rng(seed)
    mine = getattr(ours, name)(dtype=dtype, **arguments)
    theirs = getattr(keras.layers, name).from_config(mine.get_config())
    for layer in (mine, theirs):
        layer.build(shape)
    assert [w.name for w in mine.weights] == [w.name for w in theirs.weights]
    values = [rng.standard_normal(w.shape).astype(np.float32) for w in theirs.weights]
    x = rng.standard_normal(shape).astype(dtype)
    mine.set_weights(values)
    theirs.set_weights(values)
    got, wanted = numbers(mine, x), numbers(theirs, x)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert got.shape == tuple(mine.compute_output_shape(shape))
    theirs.set_weights([np.abs(v) for v in values])
    theirs.activation = None  # one that levels off would hide how large the sums are
    scale = np.abs(numbers(theirs, np.abs(x))).max()
    assert np.abs(got - wanted).max() <= MOST_UNITS * np.finfo(wanted.dtype).eps * scale
    assert np.abs(wanted).max() > 0


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": "same", "strides": 2, "activation": "relu"},
        {"kernel_size": 4, "padding": "same", "use_bias": False},
        {"kernel_size": 2, "strides": 3, "groups": 2, "activation": "gelu"},
        {"kernel_size": 3, "dilation_rate": 2, "padding": "same", "activation": "tanh"},
        {"kernel_size": 1, "activation": "relu6"},
    ],
    ids=str,
)
def test_convolution(rank, data_format, arguments):
    check(f"Conv{rank}D", image(rank, data_format), filters=6, data_format=data_format, **arguments)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (1, 3), (2, 1)])
def test_causal_convolution(data_format, strides, dilation):
    check(
        "Conv1D", image(1, data_format), filters=3, kernel_size=3, padding="causal",
        data_format=data_format, strides=strides, dilation_rate=dilation,
    )  # fmt: skip


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "same"), (2, "valid")])
def test_depthwise_and_separable(rank, data_format, strides, padding):
    given = {"kernel_size": 3, "strides": strides, "padding": padding, "data_format": data_format}
    shape = image(rank, data_format)
    check(f"DepthwiseConv{rank}D", shape, depth_multiplier=2, activation="silu", **given)
    check(f"SeparableConv{rank}D", shape, filters=5, activation="sigmoid", **given)


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("kernel", "strides", "extra"), [(3, 2, None), (3, 2, 1), (2, 2, 0), (2, 3, None), (3, 1, None)]
)
def test_transposed(rank, data_format, padding, kernel, strides, extra):
    check(
        f"Conv{rank}DTranspose", image(rank, data_format, size=(4, 3, 5)[:rank]), filters=3,
        kernel_size=kernel, strides=strides, padding=padding, output_padding=extra,
        data_format=data_format, activation="relu",
    )  # fmt: skip


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling(rank, data_format):
    shape = image(rank, data_format)
    for window, strides in itertools.product((2, 3), (None, 1, 2)):
        given = {"pool_size": window, "strides": strides, "data_format": data_format}
        check(f"MaxPooling{rank}D", shape, padding="same", **given)
        check(f"MaxPooling{rank}D", shape, **given)
        check(f"AveragePooling{rank}D", shape, **given)
        if not TORCH:  # there Keras repeats the border where the padding is uneven
            check(f"AveragePooling{rank}D", shape, padding="same", **given)
    for keepdims in (False, True):
        given = {"keepdims": keepdims, "data_format": data_format}
        check(f"GlobalMaxPooling{rank}D", shape, **given)
        check(f"GlobalAveragePooling{rank}D", shape, **given)


# Keras's numpy backend computes float64 in JAX's float32.
@pytest.mark.parametrize("dtype", ["float64", "float16"] if TORCH else ["float16"])
def test_element_types(dtype):
    check("Conv2D", image(2, "channels_last"), filters=3, kernel_size=3, dtype=dtype)
    check("MaxPooling2D", image(2, "channels_last"), dtype=dtype)


def test_mixed_precision_computes_in_the_narrow_type():
    layer = ours.Conv2D(4, 3, dtype="mixed_bfloat16")
    layer.build((1, 6, 6, 3))
    for value in (1, 2):
        layer.set_weights([np.full(w.shape, value, np.float32) for w in layer.weights])
        y = layer(keras.ops.ones((1, 6, 6, 3)))
        assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
        y = keras.ops.convert_to_numpy(keras.ops.cast(y, "float32"))
        assert (y == value * (27 + 1)).all()


def column(*values):
    return np.float32(values).reshape(1, -1, 1)


def with_kernel(layer, shape, kernel):
    layer.build(shape)
    layer.set_weights([np.float32(kernel).reshape(layer.weights[0].shape)])
    return layer


@pytest.mark.parametrize(
    ("layer", "x", "kernel", "wanted"),
    [
        (
            lambda: ours.Conv2D(1, 3, strides=2, padding="same", use_bias=False),
            np.arange(1, 17, dtype=np.float32).reshape(1, 4, 4, 1), [1] * 9, [54, 45, 72, 54],
        ),
        (
            lambda: ours.Conv1D(1, 4, padding="same", use_bias=False),
            column(0, 0, 1, 0, 0), [1, 2, 3, 4], [4, 3, 2, 1, 0],
        ),
        (
            lambda: ours.Conv1DTranspose(1, 3, strides=2, padding="same", use_bias=False),
            column(1, 2, 3), [1, 10, 100], [1, 10, 102, 20, 203, 30],
        ),
        (
            lambda: ours.Conv1DTranspose(1, 3, strides=4, use_bias=False),
            column(1, 2, 3), [1, 10, 100], [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0],
        ),
    ],
    ids=["same", "same_even", "transposed_same", "transposed_long_steps"],
)  # fmt: skip
def test_rules_as_numbers(layer, x, kernel, wanted):
    y = numbers(with_kernel(layer(), x.shape, kernel), x)
    np.testing.assert_array_equal(y.ravel(), wanted)


def test_averages_leave_the_padding_out_on_every_backend():
    y = numbers(ours.AveragePooling1D(4, 1, "same"), column(1, 2, 3, 40, 100))
    np.testing.assert_allclose(y.ravel(), [2, 11.5, 36.25, 143 / 3, 70], rtol=1e-6)


@pytest.mark.parametrize("values", [(np.nan, 1, 2), (1, np.nan, 2), (1, 2, np.nan)])
def test_maxima_hand_nan_on(values):
    assert np.isnan(numbers(ours.MaxPooling1D(3), column(*values)).item())
    assert np.isnan(numbers(ours.GlobalMaxPooling1D(), column(*values)).item())


def test_masked_steps_do_not_count():
    x, mask = column(1, 2, 30), np.array([[True, True, False]])
    y = ours.GlobalAveragePooling1D()(
        keras.ops.convert_to_tensor(x), mask=keras.ops.convert_to_tensor(mask)
    )
    assert keras.ops.convert_to_numpy(y).item() == 1.5
    model = keras.Sequential([keras.layers.Masking(), ours.GlobalAveragePooling1D()])
    assert numbers(model, column(1, 2, 0)).item() == 1.5


def test_configuration_and_clones_are_layers_of_ours():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), ours.Conv2D(4, 3, activation="relu"), ours.GlobalMaxPooling2D()]
    )
    clone = keras.models.clone_model(model)
    assert [type(layer) for layer in clone.layers] == [ours.Conv2D, ours.GlobalMaxPooling2D]
    again = keras.layers.deserialize(keras.layers.serialize(model.layers[0]))
    assert type(again) is ours.Conv2D
    assert again.get_config() == model.layers[0].get_config()


def test_files_load_as_ours(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), ours.Conv2D(4, 3)])
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3), dtype=np.float32)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is ours.Conv2D
    np.testing.assert_array_equal(numbers(loaded, x), numbers(model, x))


class Standardized(ours.Conv2D):
    def convolution_op(self, inputs, kernel):
        kernel = kernel - keras.ops.mean(kernel, axis=(0, 1, 2))
        return super().convolution_op(inputs, kernel)


def test_subclasses_may_change_the_kernel():
    x = keras.ops.convert_to_tensor(np.full((1, 6, 6, 3), 5, np.float32))
    layer = Standardized(4, 3, use_bias=False, activation="relu")
    assert np.abs(keras.ops.convert_to_numpy(layer(x))).max() < 1e-5


@pytest.mark.parametrize("write", ["set_weights", "assign", "in_place"])
def test_kept_kernels_follow_the_weights(write):
    x = np.ones((1, 5, 5, 2), np.float32)
    layer = with_kernel(ours.Conv2D(3, 3, use_bias=False), x.shape, np.ones((3, 3, 2, 3)))
    no_gradients(layer)
    assert (numbers(layer, x) == 18).all()
    if write == "set_weights":
        layer.set_weights([np.full((3, 3, 2, 3), 2, np.float32)])
    elif write == "assign":
        layer.kernel.assign(2 * layer.kernel)
    else:
        elements(layer.kernel)[...] = 2
    assert (numbers(layer, x) == 36).all()


def elements(variable):
    """Its memory, which nobody sees being written to."""
    return variable.value.detach().numpy() if TORCH else variable.value


def no_gradients(layer):
    """As in inference: what records gradients keeps nothing."""
    layer.trainable = False
    for weight in layer.weights:
        if TORCH:
            weight.value.requires_grad_(False)


def test_lora_adds_to_the_kernel():
    x = np.random.default_rng(0).standard_normal((1, 6, 6, 2), dtype=np.float32)
    layer = ours.Conv2D(3, 3)
    before = numbers(layer, x)
    layer.enable_lora(2)
    np.testing.assert_allclose(numbers(layer, x), before, atol=1e-5)
    layer.lora_kernel_b.assign(keras.ops.ones((2, 3)))
    theirs = keras.layers.Conv2D(3, 3)
    theirs.build(x.shape)
    theirs.set_weights([keras.ops.convert_to_numpy(layer.kernel), np.zeros(3)])
    np.testing.assert_allclose(numbers(layer, x), numbers(theirs, x), atol=1e-4)
    assert not np.allclose(numbers(layer, x), before)


def test_every_layer_has_its_alias():
    assert convforge.keras is ours
    assert set(ours.__all__) <= set(dir(ours))
    assert "keras" in dir(convforge)
