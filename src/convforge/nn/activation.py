"""Layers without parameters: activations, Flatten, Identity."""

# forward and extra_repr mean what Module says.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any

from convforge import functional
from convforge.nn.module import Module


class _Pointwise(Module):
    """An activation. ``inplace`` is taken for PyTorch's sake and ignored: results are new."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU(_Pointwise):
    """``max(input, 0)``; ``inplace`` is ignored."""

    def forward(self, input: Any) -> Any:
        return functional.relu(input)


class ReLU6(_Pointwise):
    """``min(max(input, 0), 6)``; ``inplace`` is ignored."""

    def forward(self, input: Any) -> Any:
        return functional.relu6(input)


class SiLU(_Pointwise):
    """``input * sigmoid(input)``; ``inplace`` is ignored."""

    def forward(self, input: Any) -> Any:
        return functional.silu(input)


class Sigmoid(Module):
    """``1 / (1 + exp(-input))``."""

    def forward(self, input: Any) -> Any:
        return functional.sigmoid(input)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Any) -> Any:
        return functional.tanh(input)


class GELU(Module):
    """``input`` times the normal distribution function of it; ``approximate`` none or tanh."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        return functional.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softmax(Module):
    """Exponentials along ``dim``, divided by their sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return functional.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """Logarithm of softmax along ``dim``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Any) -> Any:
        return functional.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Flatten(Module):
    """Make one axis of those from ``start_dim`` to ``end_dim``; the batch stays by default."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Any) -> Any:
        return functional.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """The input itself."""

    def forward(self, input: Any) -> Any:
        return input
