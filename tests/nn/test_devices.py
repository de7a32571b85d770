"""Layers, losses, optimisers and the tape on arrays of a device: the same code and numbers."""

from __future__ import annotations

import copy
from contextlib import contextmanager

import numpy as np
import pytest

import convforge
from convforge import Tensor, nn, no_grad, optim
from convforge import functional as F
from convforge.arrays import device_of
from convforge.ops.arguments import ConvArguments
from convforge.ops.convolution import conv_dbias

try:
    from convforge.testing.device import EmulatedArray, emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from convforge.testing.device import EmulatedDevice
from convforge.testing.device_arrays import EmulatedNamespace

PLACE = "emulated:0"


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def network():
    convforge.manual_seed(3)
    return nn.Sequential(
        # A bias before a normalisation has no gradient but rounding, which Adam makes large.
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 3 * 4, 5),
    )


IMAGES = normal(3, 2, 6, 8)
LABELS = np.array([4, 0, 2])
OPTIMISERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda params: optim.Adam(params, lr=0.01, weight_decay=0.01),
    "adamw": lambda params: optim.AdamW(params, lr=0.01),
}


def train(place, optimiser, steps, *, model=None, moves=()):
    """Losses of a few steps, and the model; ``moves`` says where the model goes after a step."""
    model = model or network()
    model.to(place)
    update = OPTIMISERS[optimiser](model.parameters())
    losses = []
    for step in range(steps):
        x, labels = Tensor(IMAGES).to(place), Tensor(LABELS).to(place)
        update.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        update.step()
        losses.append(loss.item())
        if step < len(moves):
            place = moves[step]
            model.to(place)
    return losses, model


def assert_same_state(model, other):
    ours, theirs = model.to("cpu").state_dict(), other.to("cpu").state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_training_on_the_device_is_training_on_the_host(device, optimiser):
    before = len(device.launches)
    losses, model = train(PLACE, optimiser, 3 if optimiser == "sgd" else 2)
    assert {p.device for p in model.parameters()} == {PLACE}
    assert {b.device for b in model.buffers()} == {PLACE}
    ran = set(device.launches[before:])
    assert any("conv" in name for name in ran) and any("pool" in name for name in ran)
    wanted, host = train("cpu", optimiser, len(losses))
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    assert losses[-1] < losses[0]
    assert_same_state(model, host)


def test_what_an_optimiser_remembers_follows_the_parameters(device):
    losses, model = train("cpu", "sgd", 3, moves=[PLACE, "cpu"])
    wanted, host = train("cpu", "sgd", 3)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    assert_same_state(model, host)


def test_arrays_are_made_where_their_device_is_current(device, monkeypatch):
    """The functions of CuPy make arrays on the current GPU, wherever their operands lie."""
    _, model = train(PLACE, "sgd", 1)
    update = OPTIMISERS["sgd"](model.parameters())
    for p in model.parameters():
        p.grad = Tensor(device.asarray(normal(*p.shape)))
    update.step()
    dy = device.asarray(normal(2, 3, 4, 4))
    inside, made = [], []

    @contextmanager
    def current(self):
        inside.append(self)
        yield
        inside.pop()

    def guarded(call):
        def checked(*arguments, **keywords):
            assert inside, call
            made.append(call)
            return call(*arguments, **keywords)

        return checked

    monkeypatch.setattr(EmulatedDevice, "current", current)
    monkeypatch.setattr(EmulatedNamespace, "__getattr__", guarded(EmulatedNamespace.__getattr__))
    for name in ("astype", "sum"):
        monkeypatch.setattr(EmulatedArray, name, guarded(getattr(EmulatedArray, name)))
    for act in (
        lambda: update.load_state_dict(update.state_dict()),
        model.state_dict,
        model.double,
        lambda: next(model.parameters()).__reduce__(),
        lambda: conv_dbias(ConvArguments(rank=2), dy),
    ):
        before = len(made)
        act()
        assert len(made) > before


def test_gradients_go_along(device):
    layer = nn.Linear(3, 2)
    layer(Tensor(normal(4, 3))).sum().backward()
    before = layer.weight.grad.numpy().copy()
    layer.to(PLACE)
    assert layer.weight.grad.device == PLACE
    np.testing.assert_array_equal(layer.weight.grad.cpu().numpy(), before)


def test_a_model_is_evaluated_on_the_device(device):
    _, model = train("cpu", "sgd", 1)
    model.eval()
    wanted = model(IMAGES)
    got = model.to(PLACE)(device.asarray(IMAGES))
    assert isinstance(got, EmulatedArray)
    np.testing.assert_allclose(got.get(), wanted, rtol=1e-5, atol=1e-6)
    # A write by another view of a weight's memory is seen at the next call.
    weight = model._modules["5"].weight
    weight.data[...] = 0
    after = model(device.asarray(IMAGES)).get()
    np.testing.assert_array_equal(after, np.tile(model._modules["5"].bias.cpu().numpy(), (3, 1)))
    np.testing.assert_array_equal(model.freeze()(device.asarray(IMAGES)).get(), after)


def test_frozen_layers_pack_their_weights_once(device):
    layer = nn.Conv2d(8, 8, 3, padding=1, algorithm="conv_winograd3x3*").eval()
    images = normal(1, 8, 8, 8)
    wanted = layer(images)
    layer.to(PLACE)

    def launched():
        before = len(device.launches)
        np.testing.assert_allclose(layer(device.asarray(images)).get(), wanted, atol=1e-4)
        return len(device.launches) - before

    every_time = launched()
    assert launched() == every_time
    layer.freeze()
    assert launched() == every_time
    assert launched() == every_time - 1
    layer.weight.copy_(layer.weight * 2)
    wanted = layer.to("cpu").eval()(images)
    layer.to(PLACE).freeze()
    assert launched() == every_time


def test_states_go_between_places(device):
    model, other = network().to(PLACE), network()
    with no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + 1)
    state = model.state_dict()
    assert {device_of(value) for value in state.values()} == {device}
    other.load_state_dict(state)
    assert {p.device for p in other.parameters()} == {"cpu"}
    assert_same_state(copy.deepcopy(model), other)
    assert model._modules["0"].weight.device == PLACE


def test_a_place_and_a_type_at_once(device):
    model = network().to(PLACE, np.float64)
    kinds = {(p.device, p.dtype) for p in model.parameters()}
    assert kinds == {(PLACE, np.dtype(np.float64))}
    assert {p.dtype for p in model.to("float32").parameters()} == {np.dtype(np.float32)}
    assert {p.device for p in model.cpu().parameters()} == {"cpu"}
    with pytest.raises(ValueError, match="device is 'cuda:x'; wanted 'cpu', 'cuda' or 'cuda:0'"):
        pytest.importorskip("cupy")
        model.to("cuda:x")


@pytest.mark.parametrize("on_host", ["images", "labels", "model"])
def test_a_mixture_is_refused(device, on_host):
    model = network().to("cpu" if on_host == "model" else PLACE)
    x = Tensor(IMAGES).to("cpu" if on_host == "images" else PLACE)
    labels = Tensor(LABELS).to("cpu" if on_host == "labels" else PLACE)
    before = len(device.launches)
    with pytest.raises(TypeError, match=r"in host memory.*never moved silently.*\.to\('cuda'\)"):
        F.cross_entropy(model(x), labels)
    assert len(device.launches) == before or on_host == "labels"


def test_running_values_must_be_where_the_input_is(device):
    x = device.asarray(IMAGES)
    ones = np.ones(2, np.float32)
    with pytest.raises(TypeError, match="running_mean is in host memory"):
        F.batch_norm(x, ones, ones)
    assert (
        F.batch_norm(x, device.asarray(0 * ones), device.asarray(ones), eps=0.0).get() == (IMAGES)
    ).all()


def test_tensors_know_where_they_are(device):
    x = Tensor(IMAGES, requires_grad=True)
    y = x.to(PLACE)
    assert (x.device, y.device, x.to("cpu") is x, y.to(PLACE) is y) == ("cpu", PLACE, True, True)
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    np.testing.assert_allclose(x.grad.numpy(), 2 * IMAGES, rtol=1e-6)
    with pytest.raises(TypeError, match=rf"on {PLACE}, where NumPy does not reach: cpu\(\)"):
        y.numpy()
    with pytest.raises(TypeError, match="where NumPy does not reach"):
        np.asarray(y)
    assert f"device='{PLACE}'" in repr(y) and "device" not in repr(x)
    np.testing.assert_array_equal(copy.deepcopy(y.detach()).cpu().numpy(), IMAGES)
    assert (y == y).cpu().numpy().all() and not (y > 100.0).cpu().numpy().any()
    with pytest.raises(TypeError, match="never moved silently"):
        y == x.detach()  # noqa: B015
    assert y.argmax().item() == IMAGES.argmax()


def apart(x):
    """A shape that matrices multiply."""
    return x.reshape(18, 16)


CALLS = {
    "arithmetic": lambda x: ((2 - x) * x / (x * x + 1.5) - (-x)) ** 2,
    "broadcast": lambda x: x * x.mean((0, 2), keepdim=True) + x.sum(1, keepdim=True),
    "exponentials": lambda x: (x.exp() + 1).log(),
    "matrices": lambda x: apart(x) @ apart(x).transpose(0, 1),
    "vectors": lambda x: x.flatten() @ x.flatten(),
    "slices": lambda x: x[1:, ..., ::-1].permute(0, 2, 3, 1),
    "picked": lambda x: x[[0, 2, 0]],
    "relu6": lambda x: F.relu6(4 * x),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, "tanh"),
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "flatten": lambda x: F.flatten(x, 1),
    "avg": lambda x: F.avg_pool2d(x, 2),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "lp2": lambda x: F.lp_pool2d(x, 2, 2),
    "lp3": lambda x: F.lp_pool2d(x * x + 1.0, 3, 2),
    "lp1.5": lambda x: F.lp_pool2d(x * x + 1.0, 1.5, 2),
    "mse": lambda x: F.mse_loss(x, x * 0.5),
    "batch_norm": lambda x: F.batch_norm(x, training=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_and_their_gradients(device, name):
    call = CALLS[name]

    def both(place):
        x = Tensor(IMAGES, requires_grad=True)
        y = call(x.to(place))
        assert y.device == place
        (y * y).sum().backward()
        return y.cpu().detach().numpy(), x.grad.numpy()

    for got, wanted in zip(both(PLACE), both("cpu"), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


LOSSES = {
    "weighted": lambda x, t, w: F.cross_entropy(x, t, w, label_smoothing=0.1),
    "each": lambda x, t, w: F.cross_entropy(x, t, w, reduction="none"),
    "ignored": lambda x, t, w: F.cross_entropy(x, t, ignore_index=1, reduction="sum"),
    "nll": lambda x, t, w: F.nll_loss(F.log_softmax(x, 1), t, w),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(device, name):
    scores, classes, weights = normal(4, 3), np.array([0, 2, 1, 1]), np.array([1, 2, 0.5], "f")

    def both(place):
        x = Tensor(scores, requires_grad=True)
        loss = LOSSES[name](x.to(place), Tensor(classes).to(place), Tensor(weights).to(place).data)
        loss.sum().backward()
        return loss.cpu().detach().numpy(), x.grad.numpy()

    for got, wanted in zip(both(PLACE), both("cpu"), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="target holds 3; wanted 0 to 2"):
        F.cross_entropy(device.asarray(scores), device.asarray(np.array([0, 3, 1, 1])))


def test_dropout_draws_on_the_device(device):
    x = device.asarray(np.ones((50, 40), np.float32))
    first = F.dropout(x, 0.3, generator=np.random.default_rng(1)).get()
    again = F.dropout(x, 0.3, generator=np.random.default_rng(1)).get()
    other = F.dropout(x, 0.3, generator=np.random.default_rng(2)).get()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert set(np.unique(first)) == {0, np.float32(1 / 0.7)}
    assert abs((first == 0).mean() - 0.3) < 0.04
    kept = Tensor(x, requires_grad=True)
    dropped = F.dropout(kept, 0.5)
    dropped.sum().backward()
    np.testing.assert_array_equal(kept.grad.cpu().numpy(), dropped.detach().cpu().numpy())
    assert (F.dropout(x, 1.0).get() == 0).all()


def test_numbers_of_a_device_are_splitmix64s(device):
    generator = np.random.default_rng(5)
    state = int(np.random.default_rng(5).integers(0, 2**64, dtype=np.uint64))
    got = convforge.random.uniform(generator, device.asarray(np.zeros((2, 3)))).get()
    for number in got.reshape(-1):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        assert number == np.float32(((z ^ z >> 31) >> 40) * 2.0**-24)


HOST_ONLY = {
    "pad": lambda x: F.pad(x, (1, 1)),
    "unfold": lambda x: F.unfold(x, 2),
    "fractional": lambda x: F.fractional_max_pool2d(x, 2, output_size=2),
    "unpool": lambda x: F.max_unpool2d(x, np.zeros(x.shape, np.int64), 2),
}


@pytest.mark.parametrize("name", HOST_ONLY)
@pytest.mark.parametrize("wrapped", [False, True])
def test_operators_of_the_host_say_so(device, name, wrapped):
    x = device.asarray(IMAGES)
    with pytest.raises(TypeError, match="in the memory of a device; this operator runs on the CPU"):
        HOST_ONLY[name](Tensor(x) if wrapped else x)


def test_a_number_alone_keeps_its_gradient():
    """NumPy's arithmetic makes numbers of arrays without axes."""
    x = Tensor(normal(3), requires_grad=True)
    ((-x.sum()) * 2).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(3, -2, np.float32))
