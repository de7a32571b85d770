"""Activations, softmax, and the gradients that a fused activation needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from convforge.arrays import Array, namespace
from convforge.autograd import Function
from convforge.functional.special import erfc


class Activation(NamedTuple):
    """An activation on arrays.

    Attributes:
        apply: From the input to the result.
        gradient: From the result's gradient and what was saved to the input's gradient.
        from_result: The gradient can be read off the result: that is saved, else the input.
    """

    apply: Callable[[Array], Array]
    gradient: Callable[[Array, Array], Array]
    from_result: bool


def relu(input: Any) -> Any:
    """``max(input, 0)``; the gradient at 0 is 0, and NaN is handed on."""
    return _Activate("relu")(input)


def relu6(input: Any) -> Any:
    """``min(max(input, 0), 6)``."""
    return _Activate("relu6")(input)


def silu(input: Any) -> Any:
    """``input * sigmoid(input)``."""
    return _Activate("silu")(input)


def gelu(input: Any, approximate: str = "none") -> Any:
    """``input`` times the normal distribution function of it.

    Args:
        input: Any shape.
        approximate: ``"none"`` is the definition, by the error function; ``"tanh"`` the formula
            of Hendrycks & Gimpel 2016, arXiv:1606.08415.

    Raises:
        ValueError: Another word.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; wanted 'none' or 'tanh'")
    return _Activate("gelu" if approximate == "none" else "gelu_tanh")(input)


def sigmoid(input: Any) -> Any:
    """``1 / (1 + exp(-input))``."""
    return _Activate("sigmoid")(input)


def tanh(input: Any) -> Any:
    """Hyperbolic tangent."""
    return _Activate("tanh")(input)


def softmax(input: Any, dim: int) -> Any:
    """Exponentials along ``dim``, divided by their sum."""
    return _Softmax(dim)(input)


def log_softmax(input: Any, dim: int) -> Any:
    """Logarithm of :func:`softmax`, without its underflow."""
    return _LogSoftmax(dim)(input)


class _Activate(Function):
    """An activation by its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.activation = ACTIVATIONS[name]

    def forward(self, input: Array) -> Array:
        y = self.activation.apply(input)
        self.saved = y if self.activation.from_result else input
        return y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (self.activation.gradient(grad, self.saved),)

    def __repr__(self) -> str:
        return f"<{self.__dict__.get('name', 'Activate')}>"


class _Softmax(Function):
    """Exponentials divided by their sum."""

    reads_operands = False

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Array) -> Any:
        self.y = namespace(input).exp(log_probabilities(input, self.dim))
        return self.y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (self.y * (grad - (grad * self.y).sum(axis=self.dim, keepdims=True)),)


class _LogSoftmax(Function):
    """Logarithm of softmax."""

    reads_operands = False

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, input: Array) -> Array:
        self.y = log_probabilities(input, self.dim)
        return self.y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad - namespace(grad).exp(self.y) * grad.sum(axis=self.dim, keepdims=True),)


def log_probabilities(x: Array, dim: int) -> Array:
    """Log-softmax of an array."""
    if not x.size:
        return x.copy()
    xp = namespace(x)
    shifted = x - x.max(axis=dim, keepdims=True)
    logarithm: Array = shifted - xp.log(xp.exp(shifted).sum(axis=dim, keepdims=True))
    return logarithm


def _wide(compute: Callable[..., Array]) -> Callable[..., Array]:
    """Compute half types in float32 and round once."""

    def computed(*arrays: Array) -> Array:
        dtype = arrays[0].dtype
        if dtype.itemsize == 2:
            arrays = tuple(array.astype(np.float32) for array in arrays)
        return compute(*arrays).astype(dtype, copy=False)

    return computed


def _sigmoid(x: Array) -> Array:
    # exp of the negative size only: it cannot overflow.
    xp = namespace(x)
    small = xp.exp(-abs(x))
    share: Array = xp.where(x < 0, small, xp.ones_like(small)) / (1 + small)
    return share


def _normal_cdf(x: Array) -> Array:
    return erfc(x / -math.sqrt(2)) / 2


def _gelu_gradient(grad: Array, x: Array) -> Any:
    wide = x.astype(np.float64)
    density = namespace(x).exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    return grad * (_normal_cdf(x) + x * density)


def _silu_gradient(grad: Array, x: Array) -> Any:
    s = _sigmoid(x)
    return grad * (s * (1 + x * (1 - s)))


# (1 + tanh(u)) / 2 is sigmoid(2 u): the tanh form of gelu is x sigmoid(a x + b x^3).
_GELU_A = math.sqrt(8 / math.pi)
_GELU_B = _GELU_A * 0.044715


def _gelu_tanh(x: Array) -> Array:
    return x * _sigmoid(_GELU_A * x + _GELU_B * x**3)


def _gelu_tanh_gradient(grad: Array, x: Array) -> Any:
    s = _sigmoid(_GELU_A * x + _GELU_B * x**3)
    return grad * (s + x * s * (1 - s) * (_GELU_A + 3 * _GELU_B * x**2))


def _zero_where(closed: Array, grad: Array) -> Array:
    return namespace(grad).where(closed, grad.dtype.type(0), grad)  # type: ignore[no-any-return]


def _larger(x: Array, least: int) -> Array:
    # A number in the array's type: what is compared with it is not widened.
    return namespace(x).maximum(x, x.dtype.type(least))  # type: ignore[no-any-return]


# Written so that NaN keeps the gate open: it is neither below nor above.
ACTIVATIONS = {
    "relu": Activation(
        lambda x: _larger(x, 0),
        lambda grad, y: _zero_where(y <= 0, grad),
        from_result=True,
    ),
    "relu6": Activation(
        lambda x: namespace(x).minimum(_larger(x, 0), x.dtype.type(6)),
        lambda grad, y: _zero_where((y <= 0) | (y >= 6), grad),
        from_result=True,
    ),
    "silu": Activation(_wide(lambda x: x * _sigmoid(x)), _wide(_silu_gradient), from_result=False),
    "gelu": Activation(
        _wide(lambda x: x * _normal_cdf(x)), _wide(_gelu_gradient), from_result=False
    ),
    "gelu_tanh": Activation(_wide(_gelu_tanh), _wide(_gelu_tanh_gradient), from_result=False),
    "sigmoid": Activation(
        _wide(_sigmoid), _wide(lambda grad, y: grad * y * (1 - y)), from_result=True
    ),
    "tanh": Activation(
        _wide(lambda x: namespace(x).tanh(x)),
        _wide(lambda grad, y: grad * (1 - y * y)),
        from_result=True,
    ),
}
