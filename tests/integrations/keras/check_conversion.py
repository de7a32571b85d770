"""Models that exist: converted, restored, saved and loaded without us."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

from convforge.integrations.keras import calls, convert, restore

L = keras.layers
LOAD = """
import sys
sys.modules["convforge"] = None  # importing it raises
import keras, numpy as np
objects = {objects}
model = keras.models.load_model("{path}", custom_objects=objects)
assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
x = np.load("{path}.x.npy")
y = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x)))
np.testing.assert_allclose(y, np.load("{path}.y.npy"), rtol=1e-4, atol=1e-5)
"""


def network():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([L.SeparableConv2D(6, 3, padding="same"), L.MaxPooling2D()])
    x = image = keras.Input((16, 16, 3))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    y = inner(x)
    z = L.AveragePooling2D(2)(L.DepthwiseConv2D(3, padding="same", activation="relu6")(x))
    x = L.Conv2DTranspose(4, 3, strides=2, padding="same")(L.Concatenate()([y, z]))
    return keras.Model(image, L.Dense(5)(L.GlobalAveragePooling2D()(L.Dropout(0.5)(x))))


IMAGES = np.random.default_rng(0).standard_normal((2, 16, 16, 3), dtype=np.float32)


@pytest.fixture
def ran(monkeypatch):
    """How often our kernels ran."""
    seen = []
    run = calls.run
    monkeypatch.setattr(calls, "run", lambda *a: (seen.append(1), run(*a))[1])
    return seen


@pytest.fixture
def keras_cannot(monkeypatch):
    """Keras's own convolutions and poolings raise."""

    def refuse(*args, **keywords):
        raise AssertionError("Keras computes")

    nn = keras.src.backend.nn
    for name in ("conv", "depthwise_conv", "separable_conv", "conv_transpose"):
        monkeypatch.setattr(nn, name, refuse)
    for name in ("max_pool", "average_pool"):
        monkeypatch.setattr(nn, name, refuse)


def test_there_and_back(ran):
    model = network()
    before = model.predict(IMAGES, verbose=0)
    classes = [type(layer) for layer in model.layers]
    names = convert(model)
    assert len(names) == 7 and "conv2d" in names[0]
    assert [type(layer) for layer in model.layers] == classes
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), before, rtol=1e-4, atol=1e-6)
    assert len(ran) == 8  # a separable layer is two
    assert convert(model) == []
    assert restore(model) == names
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), before)
    assert restore(model) == []
    assert len(ran) == 8


def test_keras_computes_nothing(keras_cannot):
    model = network()
    convert(model)
    assert model.predict(IMAGES, verbose=0).shape == (2, 5)
    with pytest.raises(AssertionError, match="Keras computes"):
        restore(model)
        model.predict(IMAGES, verbose=0)


def test_copies_compute_as_keras_does(ran):
    model = network()
    convert(model)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    clone.predict(IMAGES, verbose=0)
    assert not ran
    assert len(convert(clone)) == 7


def test_layers_with_a_call_of_their_own_are_left_alone():
    class Call(L.Conv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    class Op(L.Conv2D):
        def convolution_op(self, inputs, kernel):
            return 2 * super().convolution_op(inputs, kernel)

    class Named(L.Conv2D):
        pass

    model = keras.Sequential([Call(2, 1, name="a"), Op(2, 1, name="b"), Named(2, 1, name="c")])
    assert [name.rpartition("/")[2] for name in convert(model)] == ["c"]


def test_shapes_are_asked_without_elements(ran):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv, self.pool = L.Conv2D(4, 3), L.MaxPooling2D()

        def call(self, inputs):
            return self.pool(self.conv(inputs))

    model = Model()
    convert(model)
    spec = keras.KerasTensor((2, 9, 9, 3))
    assert model(spec).shape == (2, 3, 3, 4)
    assert model(np.ones((2, 9, 9, 3), np.float32)).shape == (2, 3, 3, 4)
    assert len(ran) >= 2


def test_files_load_with_and_without_us(tmp_path, ran):
    model = network()
    convert(model)
    load_without_us(tmp_path, model, "None")
    ours = model.predict(IMAGES, verbose=0)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    del ran[:]
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), ours, rtol=1e-4, atol=1e-6)
    assert not ran
    convert(loaded)
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), ours)


def test_files_of_our_layers_load_as_keras_own_by_name(tmp_path):
    from convforge.integrations.keras import Conv2D

    model = keras.Sequential([keras.Input((16, 16, 3)), Conv2D(4, 3, activation="relu")])
    load_without_us(tmp_path, model, '{"convforge>Conv2D": keras.layers.Conv2D}')


def load_without_us(folder, model, objects):
    path = folder / "model.keras"
    model.save(path)
    np.save(f"{path}.x.npy", IMAGES)
    np.save(f"{path}.y.npy", model.predict(IMAGES, verbose=0))
    program = LOAD.format(path=path, objects=objects)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
