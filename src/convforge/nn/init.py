"""Initial values, by the rules of torch.nn.init: in place, returning the Tensor.

The distributions are PyTorch's, the numbers are not: they come from the generator that
:func:`convforge.manual_seed` seeds.
"""

from __future__ import annotations

import math

import numpy as np

from convforge.autograd import Tensor
from convforge.random import default_generator

_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, *, generator: np.random.Generator | None = None
) -> Tensor:
    """Draw from ``a`` to ``b``."""
    return tensor.copy_((generator or default_generator()).uniform(a, b, tensor.shape))


def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Draw from a normal distribution."""
    return tensor.copy_((generator or default_generator()).normal(mean, std, tensor.shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set every element."""
    return tensor.copy_(np.full(tensor.shape, val))


def zeros_(tensor: Tensor) -> Tensor:
    """Set every element to 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Set every element to 1."""
    return constant_(tensor, 1.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much an activation shrinks values; ``param`` is the slope of leaky_relu.

    Raises:
        ValueError: An unknown activation.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope * slope))
    if nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"nonlinearity is {nonlinearity!r}; wanted leaky_relu or one of {', '.join(_GAINS)}"
        )
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many numbers of the input meet in one of the output, and the reverse.

    Raises:
        ValueError: Fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ValueError(f"the tensor has shape {tensor.shape}; wanted at least two axes")
    taps = math.prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Draw uniformly so that variance is kept (He et al. 2015, arXiv:1502.01852)."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator=generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Draw normally so that variance is kept (He et al. 2015, arXiv:1502.01852)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator=generator)


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, *, generator: np.random.Generator | None = None
) -> Tensor:
    """Draw uniformly so that variance is kept both ways (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6 / max(sum(fans(tensor)), 1))
    return uniform_(tensor, -bound, bound, generator=generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is {mode!r}; wanted 'fan_in' or 'fan_out'")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))
