"""Losses as modules."""

# forward and extra_repr mean what Module says.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any

from convforge import functional
from convforge.nn.module import Module


class CrossEntropyLoss(Module):
    """See :func:`convforge.functional.cross_entropy`."""

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """Loss of scores ``(N, C, ...)`` against classes ``(N, ...)``."""
        return functional.cross_entropy(
            input,
            target,
            None if self.weight is None else self.weight.data,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Module):
    """See :func:`convforge.functional.nll_loss`."""

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """Loss of log-probabilities ``(N, C, ...)`` against classes ``(N, ...)``."""
        return functional.nll_loss(
            input,
            target,
            None if self.weight is None else self.weight.data,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class MSELoss(Module):
    """See :func:`convforge.functional.mse_loss`."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        return functional.mse_loss(input, target, reduction=self.reduction)
