"""The affine layer."""

# forward and extra_repr mean what Module says.
# ruff: noqa: D102

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from convforge.functional.affine import multiply
from convforge.nn import init
from convforge.nn.arguments import count, require_choice
from convforge.nn.module import Module, Parameter
from convforge.nn.packed import PackedWeights
from convforge.ops.arguments import activation_word

if TYPE_CHECKING:
    from convforge.policy import Policy


class Linear(Module):
    """``input @ weight.T + bias``.

    Args:
        in_features: Length of an input row.
        out_features: Length of an output row.
        bias: Whether to learn a bias.
        activation: Applied to the result: relu, relu6, silu, gelu or gelu_tanh.
        algorithm: A name or glob of :func:`convforge.algorithms`; never replaced.
        policy: Limits within which an algorithm is chosen.
        dtype: Type of the parameters.

    Attributes:
        weight: Shape ``(out_features, in_features)``.
        bias: Shape ``(out_features,)``, or None.

    Raises:
        TypeError, ValueError: An argument that makes no matrix, or names no algorithm.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        activation: str | None = None,
        algorithm: str | None = None,
        policy: Policy | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        require_choice(algorithm, policy)
        self.in_features = count("in_features", in_features)
        self.out_features = count("out_features", out_features)
        self.activation = activation_word(activation)
        self.algorithm = algorithm
        self.policy = policy
        self.weight = Parameter(np.zeros((self.out_features, self.in_features), dtype))
        self.register_parameter(
            "bias", Parameter(np.zeros(self.out_features, dtype)) if bias else None
        )
        self._packed = PackedWeights()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values by PyTorch's rule: uniform within ``1 / sqrt(in_features)``."""
        reset_weight_and_bias(self)

    def forward(self, input: Any) -> Any:
        return multiply(
            input,
            self.weight,
            self.bias,
            prepare=self._prepare(self.weight),
            activation=self.activation,
            algorithm=self.algorithm,
            policy=self.policy,
        )

    def extra_repr(self) -> str:
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        text += f", bias={self.bias is not None}"
        return text + (f", activation={self.activation!r}" if self.activation else "")


def reset_weight_and_bias(layer: Module) -> None:
    """The rule of PyTorch's linear and convolution layers."""
    init.kaiming_uniform_(layer.weight, a=math.sqrt(5))
    if layer.bias is not None:
        bound = 1 / math.sqrt(max(init.fans(layer.weight)[0], 1))
        init.uniform_(layer.bias, -bound, bound)
