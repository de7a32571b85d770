"""Modules: names, walks, state, modes, text, copies."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

from convforge import Tensor, manual_seed, nn, no_grad
from convforge.nn import Module, Parameter
from convforge.testing import peers

RNG = np.random.default_rng(0)


class Net(Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(4 * 4 * 4, 10)

    def forward(self, x):
        # A method that arrays have too, but with another meaning.
        return self.head(self.features(x).flatten(1))


X = RNG.standard_normal((3, 1, 8, 8)).astype(np.float32)
NAMES = [
    "features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias",
    "features.1.running_mean", "features.1.running_var", "features.1.num_batches_tracked",
    "head.weight", "head.bias",
]  # fmt: skip


def test_names_and_walks():
    net = Net()
    assert list(net.state_dict()) == NAMES
    learned = [n for n in NAMES if "running" not in n and "num" not in n]
    assert [name for name, _ in net.named_parameters()] == learned
    assert [name for name, _ in net.named_buffers()] == [n for n in NAMES if n not in learned]
    assert [name for name, _ in net.named_children()] == ["features", "head"]
    assert [name for name, _ in net.named_modules()] == [
        "", "features", "features.0", "features.1", "features.2", "features.3", "head",
    ]  # fmt: skip
    assert len(list(net.parameters())) == 6
    assert len(list(net.head.parameters(recurse=False))) == 2
    seen = []
    assert net.apply(seen.append) is net
    assert seen[-1] is net
    assert len(seen) == 7


def test_shared_parameters_are_walked_once_and_saved_twice():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3
    assert len(net.state_dict()) == 4


def test_attributes():
    net = Module()
    net.p = Parameter(np.zeros(2, np.float32))
    net.m = nn.ReLU()
    net.register_buffer("b", np.zeros(3))
    net.plain = 3
    assert net.p.requires_grad
    assert (net.plain, net.b.shape) == (3, (3,))
    with pytest.raises(TypeError, match=r"p is a ndarray; wanted a Parameter .*p\.copy_"):
        net.p = np.zeros(2)
    with pytest.raises(TypeError, match="m is a int; wanted a Module"):
        net.m = 3
    net.b = Tensor(np.ones(3))
    net.p = None
    assert list(net.state_dict()) == ["b"]
    del net.m
    with pytest.raises(AttributeError, match="Module has no attribute 'm'"):
        net.m  # noqa: B018

    class Forgetful(Module):
        def __init__(self):
            self.layer = nn.ReLU()

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\) in Forgetful"):
        Forgetful()
    with pytest.raises(NotImplementedError, match=r"Module\.forward"):
        Module()(X)


def test_a_state_is_a_snapshot():
    net = Net()
    state = net.state_dict()
    net.head.bias.copy_(np.full(10, 7.0))
    assert not (state["head.bias"] == 7).any()
    assert net.load_state_dict(state) == ([], [])
    np.testing.assert_array_equal(net.head.bias, state["head.bias"])


def test_a_state_that_does_not_fit_changes_nothing():
    net = Net()
    state = {name: value + 1 for name, value in net.state_dict().items()}
    before = net.state_dict()
    bad = {**state, "head.bias": np.zeros(3), "extra": np.zeros(1)}
    del bad["head.weight"]
    with pytest.raises(ValueError, match=(
        r"does not fit Net: head\.bias has shape \(3,\); wanted \(10,\); missing: head\.weight; "
        "unexpected: extra"
    )):  # fmt: skip
        net.load_state_dict(bad)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    bad["head.bias"] = state["head.bias"]
    keys = net.load_state_dict(bad, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == (["head.weight"], ["extra"])
    np.testing.assert_array_equal(net.head.bias, state["head.bias"])


def test_modes():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())


def test_zero_grad_and_requires_grad():
    net = Net()
    net(X).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(X).requires_grad


def test_arrays_in_eval_mode_give_arrays_and_tensors_tensors():
    net = Net()
    assert isinstance(net(X), Tensor)
    assert net(X).requires_grad
    with no_grad():
        assert type(net(X)) is np.ndarray
    net.eval()
    y = net(X)
    assert type(y) is np.ndarray
    assert net(Tensor(X)).requires_grad
    with no_grad():
        assert not net(Tensor(X)).requires_grad
    np.testing.assert_allclose(net(Tensor(X)), y, rtol=1e-5, atol=1e-6)
    y, index = nn.MaxPool2d(2, return_indices=True).eval()(X)
    assert type(y) is type(index) is np.ndarray


def test_a_part_in_eval_mode_inside_a_training_net_still_learns():
    net = Net()
    net.features.eval()
    net(X).sum().backward()
    assert net.features[0].weight.grad is not None


@pytest.mark.peer
def test_torch_tensors_in_eval_mode_give_torch_tensors():
    torch = peers.require("torch")
    net = Net().eval()
    y = net(torch.tensor(X))
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y, net(X))


def test_to_other_types():
    net = Net().double()
    assert {v.dtype.name for v in net.state_dict().values()} == {"float64", "int64"}
    assert net(X.astype(np.float64)).dtype == np.float64
    assert net.float().head.weight.dtype == np.float32


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
@pytest.mark.parametrize("frozen", [False, True])
def test_copies_are_independent(twin_of, frozen):
    net = Net().eval()
    net = net.freeze() if frozen else net
    y = net(X)
    twin = twin_of(net)
    np.testing.assert_array_equal(twin(X), y)
    assert not twin.training
    twin.head.bias.copy_(twin.head.bias.data + 1)
    np.testing.assert_allclose(twin(X), y + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(net(X), y)


def test_threads_share_a_net():
    net = Net().eval()
    wanted, results = net(X), []

    def work():
        for _ in range(10):
            results.append(np.array_equal(net(X), wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 40


def test_containers():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    assert len(net) == 3
    assert isinstance(net[1], nn.ReLU)
    assert net[-1] is net[2]
    assert [name for name, _ in net[1:].named_parameters()] == ["2.weight", "2.bias"]
    named = nn.Sequential({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    assert list(named.state_dict()) == ["a.weight", "a.bias"]
    assert len(net.append(nn.ReLU())) == 4
    with pytest.raises(TypeError, match="module 1 is a function; wanted a Module"):
        nn.Sequential(nn.ReLU(), lambda x: x)
    modules = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    assert len(list(modules.parameters())) == 6
    assert [type(m) for m in modules] == [nn.Linear] * 3


@pytest.mark.peer
def test_repr_is_that_of_torch():
    torch = peers.require("torch")

    def build(nn):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=2, groups=1, bias=False),
            nn.Conv1d(4, 8, 3, padding="same", groups=2, padding_mode="circular"),
            nn.ConvTranspose3d(4, 2, (1, 2, 3), output_padding=(0, 1, 1), stride=2),
            nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.SiLU()),
            nn.MaxPool2d(2), nn.MaxPool1d(3, 2, 1, ceil_mode=True), nn.AvgPool2d((2, 3)),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(3, 4), nn.Linear(3, 4, bias=False),
            nn.GELU(), nn.GELU("tanh"), nn.Softmax(dim=1), nn.CrossEntropyLoss(), nn.MSELoss(),
            nn.Identity(), nn.Tanh(), nn.ReLU6(),
        )  # fmt: skip

    assert repr(build(nn)) == repr(build(torch.nn))


def test_repr_shows_what_we_add():
    # PyTorch shows the bias since 2.13.
    assert repr(nn.BatchNorm1d(3, momentum=None, affine=False)) == (
        "BatchNorm1d(3, eps=1e-05, momentum=None, affine=False, bias=False, "
        "track_running_stats=True)"
    )
    assert repr(nn.Conv2d(1, 2, 3, layout="nhwc", activation="relu", algorithm="conv_direct")) == (
        "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), layout=nhwc, activation=relu, "
        "algorithm=conv_direct)"
    )


def test_seeds_repeat_initial_weights():
    manual_seed(3)
    first = Net().state_dict()
    manual_seed(3)
    for name, value in Net().state_dict().items():
        np.testing.assert_array_equal(value, first[name])
