"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array, namespace
from convforge.autograd import Function
from convforge.functional.activation import log_probabilities

_REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Negative log-probability that the softmax of ``input`` gives to the right classes.

    Args:
        input: Scores before softmax, shape ``(N, C)``, ``(N, C, ...)`` or ``(C,)``.
        target: Class of each, integers of shape ``(N,)``, ``(N, ...)`` or ``()``.
        weight: Weight of each class, shape ``(C,)``.
        ignore_index: A target that counts nothing.
        reduction: ``"mean"`` (over the weights of the targets), ``"sum"`` or ``"none"``.
        label_smoothing: Share of the target that is spread over all classes, 0 to 1.

    Returns:
        One number, or with ``"none"`` one for each target.

    Raises:
        TypeError: Targets that are not integers.
        ValueError: Shapes that do not go together, a class out of range, an unknown reduction.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; wanted 0 to 1")
    loss = _ClassLoss(ignore_index, reduction, label_smoothing, from_scores=True)
    return loss(input, target, weight)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """:func:`cross_entropy` of log-probabilities, as :func:`log_softmax` gives them."""
    return _ClassLoss(ignore_index, reduction, 0.0, from_scores=False)(input, target, weight)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Squared difference of two arrays of one shape, reduced by mean, sum or none.

    Raises:
        ValueError: Two shapes, or an unknown reduction.
    """
    return _SquaredError(reduction)(input, target)


def _require_reduction(reduction: str) -> str:
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; wanted one of {', '.join(_REDUCTIONS)}")
    return reduction


class _ClassLoss(Function):
    """``-sum_c q[i, c] log p[i, c]``: q is the smoothed and weighted indicator of target i."""

    reads_operands = False

    def __init__(
        self, ignore_index: int, reduction: str, label_smoothing: float, *, from_scores: bool
    ) -> None:
        self.ignore_index = ignore_index
        self.reduction = _require_reduction(reduction)
        self.smoothing = label_smoothing
        self.from_scores = from_scores

    def forward(self, input: Array, target: Any, weight: Array | None) -> Any:
        xp = namespace(input)
        target = xp.asarray(target)  # of one row of scores the class may be a plain number
        self._check(input, target, weight)
        self.dtype, self.target_shape = input.dtype, target.shape
        self.shape = input.shape if input.ndim > 1 else (1, *input.shape)
        classes = self.shape[1]
        wide = np.float32 if input.dtype.itemsize == 2 else input.dtype
        # One row for each target, classes last.  # [targets, C]
        rows = xp.moveaxis(input.reshape(self.shape), 1, -1).reshape(-1, classes)
        log_p = rows.astype(wide, copy=False)
        if self.from_scores:
            log_p = log_probabilities(log_p, 1)
        label = target.reshape(-1)
        counts = label != self.ignore_index
        label = xp.where(counts, label, 0)
        weights = xp.ones(classes, wide) if weight is None else weight.astype(wide, copy=False)
        own = xp.where(counts, weights[label], 0).astype(wide)
        # Targets in rows, classes in columns.
        spread = weights * wide_number(self.smoothing / max(classes, 1), log_p)
        chosen = xp.arange(classes) == label[:, None]
        q = counts[:, None] * spread + chosen * ((1 - self.smoothing) * own)[:, None]
        losses: Array = -xp.where(q == 0, 0, q * log_p).sum(axis=1)
        self.total = own.sum() if self.reduction == "mean" else wide_number(1, log_p)
        self.q, self.log_p = q, log_p
        if self.reduction == "none":
            return losses.reshape(self.target_shape).astype(self.dtype)
        with np.errstate(invalid="ignore"):
            return (losses.sum() / self.total).astype(self.dtype)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        with np.errstate(divide="ignore", invalid="ignore"):  # no target counted: NaN
            scale = grad.reshape(-1, 1) / self.total
        rows = -self.q
        if self.from_scores:
            rows = rows + namespace(grad).exp(self.log_p) * self.q.sum(axis=1, keepdims=True)
        lead, classes, *rest = self.shape
        images = (rows * scale).reshape(lead, *rest, classes)
        dx = namespace(grad).moveaxis(images, -1, 1).astype(self.dtype, copy=False)
        return dx.reshape(self.shape if self.target_shape else self.shape[1:]), None, None

    def _check(self, input: Array, target: Array, weight: Array | None) -> None:
        if input.ndim < 1:
            raise ValueError("input is one number; wanted (N, C), (N, C, ...) or (C,)")
        wanted = (input.shape[0], *input.shape[2:]) if input.ndim > 1 else ()
        classes = input.shape[1] if input.ndim > 1 else input.shape[0]
        if target.dtype.kind not in "iu":
            raise TypeError(
                f"target has dtype {target.dtype}; wanted integers, the classes' numbers: "
                "pass target.astype(np.int64)"
            )
        if target.shape != wanted:
            raise ValueError(
                f"target has shape {target.shape}; wanted {wanted} for input of shape {input.shape}"
            )
        if weight is not None and weight.shape != (classes,):
            raise ValueError(f"weight has shape {weight.shape}; wanted ({classes},)")
        wrong = target[((target < 0) | (target >= classes)) & (target != self.ignore_index)]
        if wrong.size:
            raise ValueError(
                f"target holds {wrong[0].item()}; wanted 0 to {classes - 1}, or "
                f"ignore_index={self.ignore_index}"
            )


def wide_number(value: float, like: Array) -> Any:
    """A number in an array's type, so that it does not widen what it multiplies."""
    return like.dtype.type(value)


class _SquaredError(Function):
    """Squared difference."""

    reads_operands = False

    def __init__(self, reduction: str) -> None:
        self.reduction = _require_reduction(reduction)

    def forward(self, input: Array, target: Array) -> Any:
        if input.shape != target.shape:
            raise ValueError(
                f"target has shape {target.shape}; wanted {input.shape}, the shape of input"
            )
        self.difference = input - target
        squares: Array = self.difference * self.difference
        if self.reduction == "none":
            return squares
        return squares.mean() if self.reduction == "mean" else squares.sum()

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        count = self.difference.size if self.reduction == "mean" else 1
        dx = self.difference * (grad * (2 / max(count, 1)))
        return dx, -dx
