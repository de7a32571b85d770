"""Optimisers walk where PyTorch's walk."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from convforge import Tensor, nn, optim
from convforge.testing import peers

RNG = np.random.default_rng(0)
SETTINGS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"lr": 0.05, "betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3}),
]


def slope(p):
    """Something to walk down whose gradient stays small."""
    return ((p * p + 1).log() + p * 0.3).sum()


@pytest.mark.peer
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_torch_walks_the_same_way(name, settings):
    torch = peers.require("torch")
    start = [RNG.standard_normal(shape) for shape in ((3, 4), (5,))]
    ours = [nn.Parameter(a.copy()) for a in start]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in start]
    own = getattr(optim, name)(ours, **settings)
    their = getattr(torch.optim, name)(theirs, **settings)
    for step in range(12):
        own.zero_grad()
        their.zero_grad()
        # The second parameter gets no gradient at every third step.
        used = slice(0, 1) if step % 3 == 2 else slice(0, 2)
        sum(slope(p) for p in ours[used]).backward()
        sum(slope(p) for p in theirs[used]).backward()
        own.step()
        their.step()
        if step == 5:
            own.param_groups[0]["lr"] *= 0.5
            their.param_groups[0]["lr"] *= 0.5
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p, q.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_saved_state_goes_on_where_it_was(name, settings):
    def walk(parameter, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            (parameter * parameter).sum().backward()
            optimizer.step()

    make = getattr(optim, name)
    p = nn.Parameter(np.array([1.0, -2.0]))
    optimizer = make([p], **settings)
    walk(p, optimizer, 3)
    state, middle = copy.deepcopy(optimizer.state_dict()), np.array(p.data)
    walk(p, optimizer, 3)
    q = nn.Parameter(middle)
    again = make([q], lr=9.0)
    again.load_state_dict(state)
    walk(q, again, 3)
    np.testing.assert_array_equal(p, q)
    with pytest.raises(ValueError, match=r"the state has groups of \[1\] parameters; wanted \[2\]"):
        make([p, q], lr=0.1).load_state_dict(state)


def test_groups_have_settings_of_their_own():
    a, b = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1))
    optimizer = optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    (a + b).sum().backward()
    optimizer.step()
    np.testing.assert_allclose([a.item(), b.item()], [0.9, 0.5])
    assert "group 1: 1 parameters, lr=0.5" in repr(optimizer)


def test_a_closure_is_recorded():
    p = nn.Parameter(np.array([3.0]))
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9
    np.testing.assert_allclose(p, [2.4])


def test_types_and_memory_are_kept():
    p = nn.Parameter(np.ones((2, 3), np.float32).T)
    memory = p.data
    for make in (optim.SGD, optim.Adam):
        p.grad = Tensor(np.ones((3, 2), np.float32))
        make([p], lr=0.1).step()
    assert p.dtype == np.float32
    assert p.data is memory


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "params is empty"),
        (lambda p: optim.SGD([np.zeros(2)]), TypeError, "params holds a ndarray"),
        (lambda p: optim.SGD([p, p]), ValueError, "one Tensor twice"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "lr is -1; wanted at least 0"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, r"betas is \(0\.9, 1\.0\)"),
        (lambda p: optim.Adam([p], eps=float("nan")), ValueError, "eps is nan"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(nn.Parameter(np.zeros(2)))


def test_a_small_network_learns():
    from convforge import manual_seed

    manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 1, 6, 6)).astype(np.float32)
    y = (x[:, 0, :3].sum((1, 2)) > x[:, 0, 3:].sum((1, 2))).astype(np.int64)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 2)
    )
    loss, optimizer = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    assert (net.eval()(x).argmax(1) == y).mean() > 0.97
