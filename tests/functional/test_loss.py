"""Losses: bad input, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor
from convforge.testing import peers

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((6, 4)).astype(np.float32)
CLASSES = np.array([0, 3, 1, 1, 2, 0])


def test_certainty_costs_nothing_and_large_scores_do_not_overflow():
    scores = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    assert F.cross_entropy(scores, np.array([0, 1])).item() == 0
    assert F.cross_entropy(scores, np.array([1, 0])).item() == 1000


def test_arrays_give_arrays_and_tensors_tensors():
    assert isinstance(F.cross_entropy(SCORES, CLASSES), np.ndarray)
    assert F.cross_entropy(SCORES, CLASSES).dtype == np.float32
    assert isinstance(F.cross_entropy(Tensor(SCORES), CLASSES), Tensor)
    assert F.cross_entropy(Tensor(SCORES), Tensor(CLASSES), reduction="none").shape == (6,)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((SCORES, CLASSES.astype("f")), {}, TypeError, "target has dtype float32; wanted integers"),
        ((SCORES, CLASSES[:5]), {}, ValueError, r"target has shape \(5,\); wanted \(6,\)"),
        ((SCORES, CLASSES + 1), {}, ValueError, "target holds 4; wanted 0 to 3"),
        ((SCORES, CLASSES - 1), {}, ValueError, "target holds -1"),
        ((SCORES, CLASSES, np.ones(3)), {}, ValueError, r"weight has shape \(3,\); wanted \(4,\)"),
        ((SCORES, CLASSES), {"reduction": "avg"}, ValueError, "reduction is 'avg'; wanted one of"),
        ((SCORES, CLASSES), {"label_smoothing": 2}, ValueError, "label_smoothing is 2"),
        ((SCORES.tolist(), CLASSES), {}, TypeError, "input is of type list"),
    ],
)
def test_bad_input(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        F.cross_entropy(*arguments, **keywords)


@pytest.mark.parametrize("target", [1, np.int64(1), np.array(1)])
def test_a_class_may_be_a_plain_number(target):
    scores = np.array([1.0, 2.0])
    wanted = F.cross_entropy(scores[None], np.array([1]))
    assert F.cross_entropy(scores, target) == wanted
    with pytest.raises(ValueError, match="target holds 1; wanted 0 to 0"):
        F.cross_entropy(scores[:1], target)


def test_shapes_of_a_squared_error_must_be_one():
    with pytest.raises(ValueError, match=r"target has shape \(4,\); wanted \(3, 4\)"):
        F.mse_loss(np.zeros((3, 4)), np.zeros(4))


@pytest.mark.peer
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (3, 5, 2, 2), (5,), (0, 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_torch_agrees_forward_and_back(reduction, shape, weighted):
    torch = peers.require("torch")
    scores = RNG.standard_normal(shape)
    classes = RNG.integers(0, 5, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    dim = 0 if len(shape) == 1 else 1
    weight = RNG.random(5) + 0.5 if weighted else None
    for ignore_index, smoothing in ((-100, 0.0), (2, 0.0), (-100, 0.3), (2, 0.3)):
        theirs = torch.tensor(scores, requires_grad=True)
        ours = Tensor(scores, requires_grad=True)
        keywords = {"ignore_index": ignore_index, "reduction": reduction}
        their_weight = None if weight is None else torch.tensor(weight)
        pairs = [
            (
                F.cross_entropy(ours, classes, weight, label_smoothing=smoothing, **keywords),
                torch.nn.functional.cross_entropy(
                    theirs, torch.tensor(classes), their_weight,
                    label_smoothing=smoothing, **keywords,
                ),
            ),
            (
                F.nll_loss(F.log_softmax(ours, dim), classes, weight, **keywords),
                torch.nn.functional.nll_loss(
                    torch.log_softmax(theirs, dim), torch.tensor(classes), their_weight, **keywords
                ),
            ),
        ]  # fmt: skip
        for own, their in pairs:
            np.testing.assert_allclose(own, their.detach(), rtol=1e-12, atol=1e-12)
            ours.grad = theirs.grad = None
            own.backward(np.ones(own.shape))
            their.backward(torch.ones_like(their))
            np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.peer
def test_torch_agrees_when_every_target_is_ignored():
    torch = peers.require("torch")
    ignored = np.full(6, -100)
    wanted = torch.nn.functional.cross_entropy(torch.tensor(SCORES), torch.tensor(ignored))
    np.testing.assert_array_equal(F.cross_entropy(SCORES, ignored), wanted)
