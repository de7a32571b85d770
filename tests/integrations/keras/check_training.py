"""Gradients on the torch backend, against PyTorch's of Keras's own layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

from convforge.integrations.keras import Conv2D, convert, restore

L = keras.layers
LAYERS = {
    "conv1d": (lambda: L.Conv1D(5, 3, padding="causal", activation="relu"), (2, 9, 4)),
    "conv2d": (lambda: L.Conv2D(6, 3, strides=2, padding="same", groups=2), (2, 9, 8, 4)),
    "conv2d_silu": (lambda: L.Conv2D(6, 3, activation="silu"), (2, 9, 8, 4)),
    "conv3d": (lambda: L.Conv3D(3, 2, activation="tanh"), (2, 5, 6, 4, 3)),
    "depthwise": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (2, 9, 8, 4)),
    "separable": (lambda: L.SeparableConv2D(5, 3, padding="same"), (2, 9, 8, 4)),
    "transposed": (
        lambda: L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="gelu"),
        (2, 4, 5, 3),
    ),
    "max": (lambda: L.MaxPooling2D(3, 2, "same"), (2, 9, 8, 4)),
    "average": (lambda: L.AveragePooling2D(3, 2), (2, 9, 8, 4)),
    "global_max": (lambda: L.GlobalMaxPooling2D(), (2, 9, 8, 4)),
    "global_average": (lambda: L.GlobalAveragePooling2D(), (2, 9, 8, 4)),
}


def gradients(layer, x, direction=None):
    """Of a random combination of the results, by the input and every weight."""
    x = torch.tensor(x, requires_grad=True)
    y = layer(x)
    rng = np.random.default_rng(1)
    direction = torch.tensor(rng.standard_normal(y.shape, dtype=np.float32))
    return torch.autograd.grad((y * direction).sum(), [x, *[w.value for w in layer.weights]])


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_pytorch(name):
    make, shape = LAYERS[name]
    layer, rng = make(), np.random.default_rng(0)
    x = rng.standard_normal(shape, dtype=np.float32)
    layer.build(shape)
    layer.set_weights([rng.standard_normal(w.shape, dtype=np.float32) for w in layer.weights])
    wanted = gradients(layer, x)
    assert convert(layer)
    for got, want in zip(gradients(layer, x), wanted, strict=True):
        assert got.shape == want.shape
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()
        assert want.abs().max() > 0


def test_half_precision_trains_in_mixed_policies():
    layer = Conv2D(4, 3, dtype="mixed_bfloat16")
    y = layer(torch.ones(1, 6, 6, 3))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.kernel.value.grad.dtype == torch.float32
    assert (layer.kernel.value.grad == 16).all()


def test_the_way_back_may_be_gone_twice():
    layer = Conv2D(2, 3)
    x = torch.ones(1, 5, 5, 2, requires_grad=True)
    y = layer(x).sum()
    y.backward(retain_graph=True)
    once = x.grad.clone()
    y.backward()
    assert torch.equal(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_writes_between_there_and_back_are_noticed():
    layer = Conv2D(2, 3)
    y = layer(torch.ones(1, 5, 5, 2)).sum()
    with torch.no_grad():
        layer.kernel.value.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_gradients_of_gradients_are_refused():
    x = torch.ones(1, 5, 5, 2, requires_grad=True)
    (dx,) = torch.autograd.grad(Conv2D(2, 3)(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            L.Conv2D(8, 3, activation="relu"),
            L.BatchNormalization(),
            L.MaxPooling2D(),
            L.Conv2D(8, 3, use_bias=False),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def test_training_goes_the_same_way():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 12, 12, 1), dtype=np.float32)
    y = (x.mean((1, 2, 3)) > 0).astype(np.int64)

    def losses(model):
        return model.fit(x, y, 16, epochs=4, shuffle=False, verbose=0).history["loss"]

    theirs = losses(network())
    model = network()
    assert len(convert(model)) == 4
    np.testing.assert_allclose(losses(model), theirs, rtol=1e-3)
    assert theirs[-1] < theirs[0]
    # What was kept for inference is not what the next step leaves.
    ours = model.predict(x, verbose=0)
    losses(model)
    moved = model.predict(x, verbose=0)
    restore(model)
    np.testing.assert_allclose(moved, model.predict(x, verbose=0), rtol=1e-4, atol=1e-4)
    assert np.abs(moved - ours).max() > 0.01
