"""Packed weights: kept while they hold, and dropped when the weights change."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from convforge import Tensor, nn, no_grad, ops, optim
from convforge.nn.packed import PackedWeights

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 16, 12, 12)).astype(np.float32)


class CountingPlan:
    """A plan that wants prepared weights, and counts how often it makes them."""

    def __init__(self, plan):
        self.plan = plan
        self.made = 0
        self.weight_format = type("Format", (), {"id": "test"})

    def prepare(self, w):
        self.made += 1
        return w.copy()


@pytest.fixture
def packed():
    weight = nn.Parameter(RNG.standard_normal((8, 4, 3, 3)).astype(np.float32))
    return PackedWeights(), weight, CountingPlan(None)


def test_a_form_is_made_once_for_each_format(packed):
    keep, weight, plan = packed
    first = keep.of(weight)(plan, weight.data)
    assert keep.of(weight)(plan, weight.data) is first
    other = CountingPlan(None)
    other.weight_format = type("Format", (), {"id": "other"})
    assert keep.of(weight)(other, weight.data) is not first
    assert (plan.made, other.made) == (1, 1)
    in_place = CountingPlan(None)
    in_place.weight_format = None
    assert keep.of(weight)(in_place, weight._data) is weight._data


@pytest.mark.parametrize(
    "write",
    [
        lambda w, view: w.copy_(w.data + 1),
        lambda w, view: setattr(w, "data", w.data + 1),
        lambda w, view: setattr(w, "data", w.data.copy()),
        lambda w, view: view.fill(3),
        lambda w, view: view[0].fill(3),
        lambda w, view: np.multiply(view, 2, out=view),
    ],
)
def test_writes_are_seen(packed, write):
    keep, weight, plan = packed
    view = weight.data
    keep.of(weight)(plan, weight.data)
    write(weight, view)
    form = keep.of(weight)(plan, weight.data)
    assert plan.made == 2
    np.testing.assert_array_equal(form, weight.data)


def test_frozen_trusts_old_views_but_not_the_tensor(packed):
    keep, weight, plan = packed
    keep.frozen = True
    view = weight.data
    keep.of(weight)(plan, weight.data)
    view.fill(3)
    keep.of(weight)(plan, weight.data)
    assert plan.made == 1
    weight.copy_(np.ones(weight.shape))
    keep.of(weight)(plan, weight.data)
    assert plan.made == 2


def test_data_is_read_only_while_kept(packed):
    keep, weight, plan = packed
    keep.of(weight)
    weight.data[0] = 1  # nothing is packed yet
    keep.of(weight)(plan, weight.data)
    for array in (weight.data, weight.numpy(), weight.detach().data, np.asarray(weight)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    keep.release()
    weight.data[0] = 1
    keep.of(weight)(plan, weight.data)
    keep = None
    gc.collect()


def test_a_layer_that_is_gone_keeps_nothing(packed):
    _, weight, plan = packed
    keep = PackedWeights()
    keep.of(weight)(plan, weight.data)
    del keep
    gc.collect()
    weight.data[0] = 1


LAYERS = [
    lambda: nn.Conv2d(16, 16, 3, padding=1),
    lambda: nn.ConvTranspose2d(16, 16, 3, padding=1),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16 * 144, 8)),
]


@pytest.mark.parametrize("make", LAYERS)
def test_layers_follow_their_weights(make):
    net = make()
    layer = net[1] if isinstance(net, nn.Sequential) else net
    net.eval()

    def plain():
        return net.train()(X).data

    wanted, y = plain(), net.eval()(X)
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(net(X), y)
    layer.weight.copy_(layer.weight.data * 2)
    np.testing.assert_allclose(net(X), plain(), rtol=1e-4, atol=1e-4)
    net.eval()
    before = net(X)
    net.train()
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    net(X).sum().backward()
    with no_grad():
        net(X)
    optimizer.step()
    net.eval()
    after = net(X)
    assert not np.allclose(after, before)
    np.testing.assert_allclose(after, plain(), rtol=1e-3, atol=1e-3)


def test_refresh_after_a_write_that_cannot_be_seen():
    layer = nn.Conv2d(16, 16, 3).eval()
    view = layer.weight._data
    layer.freeze()
    y = layer(X)
    view *= 2
    layer.refresh()
    np.testing.assert_allclose(
        layer(X), 2 * y - layer.bias.data.reshape(-1, 1, 1), rtol=1e-4, atol=1e-4
    )
    assert not layer.training
    layer.train()
    assert not layer._packed.frozen


def test_all_sizes_share_one_form():
    layer = nn.Conv2d(16, 16, 3, padding=1).eval()
    for size in (12, 13, 20):
        layer(np.zeros((1, 16, size, size), np.float32))
    kept = layer._packed._kept
    plan = ops.conv_call(ops.conv_arguments(2, padding=1), X, layer.weight._data, None, None).plan
    if plan.weight_format is not None:
        assert len(kept.forms) <= 2
        assert sum(form.nbytes for form in kept.forms.values()) > 0


def test_tensors_in_eval_mode_are_recorded_with_plain_weights():
    layer = nn.Conv2d(16, 16, 3).eval()
    x = Tensor(X, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    layer.weight.data[0] = 0  # nothing is kept
