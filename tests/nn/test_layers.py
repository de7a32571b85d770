"""Layers against PyTorch's, with its state loaded; their arguments; their initial values."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from convforge import Tensor, manual_seed, nn
from convforge.nn import init
from convforge.testing import peers

RNG = np.random.default_rng(0)

LAYERS = {
    "Conv1d": ((4, 6, 3), {"padding": 2, "dilation": 2, "groups": 2}, (2, 4, 9)),
    "Conv2d": ((4, 6, (3, 2)), {"stride": 2, "padding": (1, 0)}, (2, 4, 9, 8)),
    "Conv2d same": ((4, 6, 4), {"padding": "same", "bias": False}, (2, 4, 9, 8)),
    "Conv2d reflect": ((4, 6, 3), {"padding": 2, "padding_mode": "reflect"}, (2, 4, 9, 8)),
    "Conv2d replicate": ((4, 6, 3), {"padding": 1, "padding_mode": "replicate"}, (2, 4, 9, 8)),
    "Conv3d": ((2, 4, 3), {"padding": 1, "padding_mode": "circular"}, (2, 2, 4, 5, 6)),
    "ConvTranspose1d": ((4, 6, 3), {"stride": 3, "output_padding": 2}, (2, 4, 5)),
    "ConvTranspose2d": ((4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 5, 6)),
    "ConvTranspose3d": ((2, 3, 2), {"stride": (1, 2, 2), "dilation": 2}, (1, 2, 3, 4, 3)),
    "MaxPool1d": ((3,), {"stride": 2, "padding": 1}, (2, 3, 9)),
    "MaxPool2d": ((3, 2), {"dilation": 2, "ceil_mode": True}, (2, 3, 9, 8)),
    "MaxPool3d": ((2,), {}, (2, 3, 4, 5, 6)),
    "AvgPool1d": ((3, 2), {"count_include_pad": False, "padding": 1}, (2, 3, 9)),
    "AvgPool2d": ((3,), {"divisor_override": 4}, (2, 3, 9, 8)),
    "AvgPool3d": ((2, 1), {"ceil_mode": True}, (2, 3, 4, 5, 6)),
    "AdaptiveAvgPool1d": ((4,), {}, (2, 3, 9)),
    "AdaptiveAvgPool2d": (((None, 3),), {}, (2, 3, 9, 8)),
    "AdaptiveAvgPool3d": ((2,), {}, (2, 3, 4, 5, 6)),
    "AdaptiveMaxPool1d": ((4,), {}, (2, 3, 9)),
    "AdaptiveMaxPool2d": (((3, 3),), {}, (2, 3, 9, 8)),
    "AdaptiveMaxPool3d": (((2, None, 4),), {}, (2, 3, 4, 5, 6)),
    "LPPool1d": ((2, 3), {"ceil_mode": True}, (2, 3, 9)),
    "LPPool2d": ((2, (3, 2)), {"stride": 2}, (2, 3, 9, 8)),
    "LPPool3d": ((4.0, 2), {}, (2, 3, 4, 5, 6)),
    "Unfold": ((3,), {"padding": (1, 2), "stride": 2}, (2, 3, 9, 8)),
    "Fold": (((4, 5), 2), {"padding": 1}, (2, 12, 30)),
    "Linear": ((8, 5), {}, (2, 3, 8)),
    "BatchNorm1d": ((3,), {"momentum": None}, (4, 3, 5)),
    "BatchNorm2d": ((3,), {"eps": 0.1, "momentum": 0.3}, (4, 3, 5, 2)),
    "BatchNorm3d": ((3,), {"track_running_stats": False, "affine": False}, (4, 3, 5, 2, 2)),
    "Flatten": ((), {"start_dim": 2}, (2, 3, 4, 5)),
    "GELU": (("tanh",), {}, (3, 4)),
    "Softmax": ((), {"dim": 1}, (3, 4)),
    "LogSoftmax": ((), {"dim": 1}, (3, 4)),
    "Sigmoid": ((), {}, (3, 4)),
    "Tanh": ((), {}, (3, 4)),
    "SiLU": ((), {}, (3, 4)),
    "ReLU6": ((), {}, (3, 4)),
}


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's, of its own copy
@pytest.mark.parametrize("case", LAYERS)
def test_torch_agrees_with_its_state_loaded(case):
    torch = peers.require("torch")
    name, (arguments, keywords, shape) = case.split()[0], LAYERS[case]
    their = getattr(torch.nn, name)(*arguments, **keywords).double()
    own = getattr(nn, name)(*arguments, **keywords).double()
    assert list(own.state_dict()) == list(their.state_dict())
    own.load_state_dict(their.state_dict())
    for _ in range(2):
        x = RNG.standard_normal(shape)
        theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
        wanted, y = their(theirs), own(ours)
        dy = RNG.standard_normal(wanted.shape)
        wanted.backward(torch.tensor(dy))
        y.backward(dy)
        np.testing.assert_allclose(y, wanted.detach(), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-10)
        for p, q in zip(own.parameters(), their.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad, rtol=1e-10, atol=1e-10)
    for own_value, their_value in zip(
        own.state_dict().values(), their.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(own_value, their_value, rtol=1e-10)
    wanted = their.eval()(torch.tensor(x)).detach()
    np.testing.assert_allclose(own.eval()(x), wanted, rtol=1e-10, atol=1e-10)
    # Our state is one of theirs.
    their.load_state_dict({k: torch.tensor(v) for k, v in own.state_dict().items()})


@pytest.mark.peer
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_and_random_windows_are_those_of_torch(rank):
    torch = peers.require("torch")
    x = RNG.standard_normal((2, 3, *(9, 8, 7)[:rank]))
    y, places = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)(x)
    own, their = (getattr(each, f"MaxUnpool{rank}d")(2) for each in (nn, torch.nn))
    assert repr(own) == repr(their)
    wanted = their(torch.tensor(y), torch.tensor(places), output_size=x.shape)
    np.testing.assert_array_equal(own(y, places, output_size=x.shape), wanted)
    if rank > 1:
        samples = RNG.random((2, 3, rank))
        name, keywords = f"FractionalMaxPool{rank}d", {"output_ratio": 0.6}
        own = getattr(nn, name)(2, _random_samples=samples, **keywords)
        their = getattr(torch.nn, name)(2, _random_samples=torch.tensor(samples), **keywords)
        assert repr(own) == repr(their)
        np.testing.assert_array_equal(own(x), their(torch.tensor(x)))


PRINTED = [case for case in LAYERS if "Pool" in case or case.endswith("old")]


@pytest.mark.peer
@pytest.mark.parametrize("case", PRINTED)
def test_layers_are_printed_as_those_of_torch(case):
    torch = peers.require("torch")
    arguments, keywords, _ = LAYERS[case]
    own, their = (getattr(each, case)(*arguments, **keywords) for each in (nn, torch.nn))
    assert repr(own) == repr(their)


@pytest.mark.peer
@pytest.mark.parametrize("name", sorted({case.split()[0] for case in LAYERS}))
def test_positional_arguments_are_those_of_torch(name):
    torch = peers.require("torch")

    def positional(cls):
        return [
            p.name
            for p in inspect.signature(cls).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("device", "dtype")
        ]

    theirs = positional(getattr(torch.nn, name))
    ours = positional(getattr(nn, name))
    # An optional "inplace" of theirs may be missing.
    assert ours == [n for n in theirs if n in ours]
    assert set(theirs) - set(ours) <= {"inplace"}


@pytest.mark.peer
@pytest.mark.parametrize("size", [(9, 11), (10, 12), [2, 6, 9, 12]])
def test_output_size_chooses_the_output_padding(size):
    torch = peers.require("torch")
    their = torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)
    own = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)
    own.load_state_dict(their.state_dict())
    x = RNG.standard_normal((2, 4, 5, 6)).astype(np.float32)
    wanted = their(torch.tensor(x), output_size=size).detach()
    np.testing.assert_allclose(own(x, output_size=size), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"\(11, 11\); wanted \(9, 11\) to \(10, 12\)"):
        own(x, (11, 11))


def test_layouts_of_layers():
    x = RNG.standard_normal((2, 4, 6, 6)).astype(np.float32)
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.AvgPool2d(2))
    for module in net:
        y = module(Tensor(x)).data
        module.layout = "nhwc"
        last = module(Tensor(np.ascontiguousarray(np.moveaxis(x, 1, -1)))).data
        np.testing.assert_allclose(np.moveaxis(last, -1, 1), y, rtol=1e-4, atol=1e-5)
        x = y


def test_a_fused_activation():
    fused = nn.Conv2d(3, 4, 3, activation="silu")
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())
    plain[0].load_state_dict(fused.state_dict())
    x = Tensor(RNG.standard_normal((2, 3, 5, 5)).astype(np.float32))
    np.testing.assert_allclose(fused(x), plain(x), rtol=1e-5, atol=1e-6)
    fused(x).sum().backward()
    plain(x).sum().backward()
    for p, q in zip(fused.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-4, atol=1e-4)


def test_dropout_drops_in_training_only():
    layer, x = nn.Dropout(0.5), np.ones((50, 50), np.float32)
    assert (layer(x) == 0).numpy().any()
    assert layer.eval()(x) is x
    with pytest.raises(ValueError, match="p is -1"):
        nn.Dropout(-1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups is 2; wanted a divisor of"),
        (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size is 0; wanted at least 1"),
        (lambda: nn.Conv2d(3, 4, 3, stride=(1, 0)), ValueError, r"stride is \(1, 0\)"),
        (lambda: nn.Conv2d(3, 4, (3,)), ValueError, r"kernel_size is \(3,\); wanted"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full"), ValueError, "padding is 'full'"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode is 'mirror'"),
        (lambda: nn.Conv2d(3, 4, 3, activation="swish"), ValueError, "activation is 'swish'"),
        (lambda: nn.Conv2d(3, 4, 3, layout="hwc"), ValueError, "layout is 'hwc'"),
        (lambda: nn.Conv2d(3, 4, 1.5), TypeError, r"kernel_size is 1\.5"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), ValueError, "padding is 'same'"),
        (
            lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"),
            ValueError,
            "padding_mode is 'reflect'; a transposed convolution has 'zeros' only",
        ),
        (lambda: nn.BatchNorm2d(3)(np.zeros((2, 3))), ValueError, "BatchNorm2d wants 4 axes"),
        (lambda: nn.CrossEntropyLoss(reduction="x")(np.zeros((1, 2)), np.zeros(1, int)), ValueError,
         "reduction is 'x'"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_initial_values_follow_the_rules():
    manual_seed(0)
    for layer, fan_in in (
        (nn.Linear(400, 300), 400),
        (nn.Conv2d(16, 64, (3, 5), groups=2), 8 * 15),
        (nn.ConvTranspose2d(16, 64, 3, groups=2), 32 * 9),
    ):
        bound = 1 / math.sqrt(fan_in)
        weight = layer.weight.data
        assert np.abs(weight).max() <= bound
        assert abs(weight.std() / (bound / math.sqrt(3)) - 1) < 0.05
        assert np.abs(layer.bias.data).max() <= bound
        assert layer.bias.data.any()
    weight = nn.Parameter(np.zeros((300, 100, 3), np.float32))
    for draw, std in (
        (lambda w: init.kaiming_normal_(w, nonlinearity="relu"), math.sqrt(2 / 300)),
        (
            lambda w: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
            math.sqrt(2 / 900),
        ),
        (init.xavier_uniform_, math.sqrt(2 / 1200)),
        (lambda w: init.normal_(w, 0, 0.3), 0.3),
        (lambda w: init.uniform_(w, -1, 1), 1 / math.sqrt(3)),
    ):
        assert abs(draw(weight).data.std() / std - 1) < 0.02
    assert (init.ones_(weight).data == 1).all()
    assert not init.zeros_(weight).data.any()


@pytest.mark.peer
def test_initial_rules_are_those_of_torch():
    torch = peers.require("torch")
    for shape in ((8, 5), (8, 5, 3, 2)):
        their = torch.nn.init._calculate_fan_in_and_fan_out(torch.zeros(shape))
        assert init.fans(Tensor(np.zeros(shape))) == their
    for name, param in (("relu", None), ("tanh", None), ("leaky_relu", 0.3), ("conv2d", None)):
        assert init.calculate_gain(name, param) == torch.nn.init.calculate_gain(name, param)
    with pytest.raises(ValueError, match="nonlinearity is 'swish'"):
        init.calculate_gain("swish")
    with pytest.raises(ValueError, match="wanted at least two axes"):
        init.fans(Tensor(np.zeros(3)))
    with pytest.raises(ValueError, match="mode is 'fan'"):
        init.kaiming_uniform_(Tensor(np.zeros((3, 3))), mode="fan")


@pytest.mark.peer
def test_losses_as_modules():
    torch = peers.require("torch")
    x, target, weight = RNG.standard_normal((6, 4)), RNG.integers(0, 4, 6), RNG.random(4)
    for own, their, other in (
        (nn.CrossEntropyLoss(weight, label_smoothing=0.1),
         torch.nn.CrossEntropyLoss(torch.tensor(weight), label_smoothing=0.1), target),
        (nn.NLLLoss(weight, reduction="sum"),
         torch.nn.NLLLoss(torch.tensor(weight), reduction="sum"), target),
        (nn.MSELoss(), torch.nn.MSELoss(), RNG.standard_normal((6, 4))),
    ):  # fmt: skip
        wanted = their(torch.tensor(x), torch.tensor(other))
        np.testing.assert_allclose(own(x, other), wanted, rtol=1e-12)
        assert own(Tensor(x, requires_grad=True), other).requires_grad
