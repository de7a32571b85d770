"""Dropout."""

# forward and extra_repr mean what Module says.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any

from convforge import functional
from convforge.nn.module import Module


class Dropout(Module):
    """In training, set elements to 0 with probability ``p`` and divide the others by ``1 - p``.

    ``inplace`` is taken for PyTorch's sake and ignored.

    Raises:
        ValueError: ``p`` is no probability.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}; wanted a probability, 0 to 1")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        return functional.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
