"""Arithmetic and shapes: the operations behind the methods of Tensor.

Gradients follow PyTorch's convention for complex numbers: the gradient of a product conjugates
the other factor.
"""

# forward and backward mean what Function says.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from convforge.arrays import Array, device_named, device_of, move, namespace
from convforge.autograd.tape import NUMBERS, Function

Dims = int | tuple[int, ...] | None


def unbroadcast(grad: Array, operand: Any) -> Array | None:
    """Sum a gradient over the axes along which NumPy had repeated the operand."""
    if isinstance(operand, NUMBERS):
        return None
    extra = grad.ndim - operand.ndim
    repeated = tuple(
        axis + extra
        for axis, size in enumerate(operand.shape)
        if size == 1 and grad.shape[axis + extra] != 1
    )
    summed = grad.sum(axis=(*range(extra), *repeated), keepdims=True) if extra or repeated else grad
    return summed.reshape(operand.shape)


class Add(Function):
    """``a + b``."""

    reads_operands = False

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return a + b

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return unbroadcast(grad, self.a), unbroadcast(grad, self.b)


class Sub(Function):
    """``a - b``."""

    reads_operands = False

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return a - b

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return unbroadcast(grad, self.a), unbroadcast(-grad, self.b)


class Mul(Function):
    """``a * b``."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return a * b

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (
            unbroadcast(grad * conj(self.b), self.a) if self.needs[0] else None,
            unbroadcast(grad * conj(self.a), self.b) if self.needs[1] else None,
        )


class Div(Function):
    """``a / b``."""

    def forward(self, a: Any, b: Any) -> Any:
        self.a, self.b = a, b
        return a / b

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        share = grad / conj(self.b)
        return (
            unbroadcast(share, self.a) if self.needs[0] else None,
            unbroadcast(-share * conj(self.a / self.b), self.b) if self.needs[1] else None,
        )


class Pow(Function):
    """``a ** exponent`` for a number."""

    def __init__(self, exponent: float) -> None:
        if not isinstance(exponent, int | float):
            raise TypeError(f"the exponent is {exponent!r}; wanted a number")
        self.exponent = exponent

    def forward(self, a: Array) -> Array:
        self.a = a
        return a**self.exponent

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        if self.exponent == 0:
            return (namespace(grad).zeros_like(grad),)
        return (grad * conj(self.exponent * self.a ** (self.exponent - 1)),)


class MatMul(Function):
    """``a @ b`` with NumPy's rules for vectors and stacks of matrices."""

    def forward(self, a: Array, b: Array) -> Array:
        self.a, self.b = a, b
        return a @ b

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        xp = namespace(grad)
        a = self.a if self.a.ndim > 1 else self.a[None]
        b = self.b if self.b.ndim > 1 else self.b[:, None]
        if self.a.ndim == 1:
            grad = xp.expand_dims(grad, -2 if self.b.ndim > 1 else -1)
        if self.b.ndim == 1:
            grad = xp.expand_dims(grad, -1)
        da = unbroadcast(grad @ conj(b).swapaxes(-1, -2), a) if self.needs[0] else None
        db = unbroadcast(conj(a).swapaxes(-1, -2) @ grad, b) if self.needs[1] else None
        return (
            None if da is None else da.reshape(self.a.shape),
            None if db is None else db.reshape(self.b.shape),
        )


class Neg(Function):
    """``-a``."""

    reads_operands = False

    def forward(self, a: Array) -> Array:
        return -a

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (-grad,)


class Exp(Function):
    """The exponential."""

    reads_operands = False

    def forward(self, a: Array) -> Any:
        self.y = namespace(a).exp(a)
        return self.y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad * conj(self.y),)


class Log(Function):
    """Natural logarithm."""

    def forward(self, a: Array) -> Any:
        self.a = a
        return namespace(a).log(a)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad / conj(self.a),)


class Sum(Function):
    """Sum over axes, or over everything."""

    reads_operands = False

    def __init__(self, dim: Dims = None, keepdim: bool = False) -> None:
        self.dim = tuple(dim) if isinstance(dim, list) else dim
        self.keepdim = keepdim

    def forward(self, a: Array) -> Any:
        self.shape = a.shape
        # A dtype: NumPy would widen small integers by the platform's rule.
        return a.sum(axis=self.dim, keepdims=self.keepdim, dtype=_sum_dtype(a))

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        if self.dim is not None and not self.keepdim:
            grad = namespace(grad).expand_dims(grad, self.dim)
        return (namespace(grad).broadcast_to(grad, self.shape),)


class Mean(Sum):
    """Mean over axes, or over everything."""

    def forward(self, a: Array) -> Array:
        total = super().forward(a)
        self.count = a.size // max(total.size, 1) or np.nan  # the mean of nothing is NaN
        mean: Array = total / self.count
        return mean if a.dtype.kind in "iub" else mean.astype(a.dtype, copy=False)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return super().backward((grad / self.count).astype(grad.dtype, copy=False))


def _sum_dtype(a: Array) -> Any:
    return np.int64 if a.dtype.kind in "iub" else a.dtype


class Reshape(Function):
    """The same elements in another shape."""

    reads_operands = False

    def __init__(self, shape: Iterable[int]) -> None:
        self.shape = tuple(shape)

    def forward(self, a: Array) -> Array:
        self.before = a.shape
        return a.reshape(self.shape)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad.reshape(self.before),)


class Permute(Function):
    """The axes in another order."""

    reads_operands = False

    def __init__(self, axes: Iterable[int]) -> None:
        self.axes = tuple(axes)

    def forward(self, a: Array) -> Array:
        return a.transpose(self.axes)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad.transpose(np.argsort([axis % grad.ndim for axis in self.axes]).tolist()),)


class Index(Function):
    """``a[index]`` for any index of NumPy."""

    reads_operands = False

    def __init__(self, index: Any) -> None:
        self.index = index

    def forward(self, a: Array) -> Array:
        self.shape = a.shape
        found: Array = a[self.index]
        return found

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        xp = namespace(grad)
        whole: Array = xp.zeros(self.shape, grad.dtype)
        if _takes_each_once(self.index):
            whole[self.index] = grad
        else:
            xp.add.at(whole, self.index, grad)
        return (whole,)


def _takes_each_once(index: Any) -> bool:
    """Whether an index is of numbers and slices alone, so that no element is taken twice."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = (int, slice, type(None), type(Ellipsis))
    return all(isinstance(part, plain) and not isinstance(part, bool) for part in parts)


class Move(Function):
    """The same elements in another place, and the gradient back where they came from."""

    reads_operands = False

    def __init__(self, place: str) -> None:
        self.there = device_named(place)

    def forward(self, a: Array) -> Array:
        self.here = device_of(a)
        return move(a, self.there)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (move(grad, self.here),)


def conj(a: Any) -> Any:
    """The conjugate of an array or a number; of what is real it is the same."""
    return a.conj() if hasattr(a, "conj") else a.conjugate()


def flat_shape(shape: tuple[int, ...], start_dim: int, end_dim: int) -> tuple[int, ...]:
    """The shape with the axes from ``start_dim`` to ``end_dim`` made one.

    Raises:
        ValueError: Not axes of this shape, or in the wrong order.
    """
    rank = max(len(shape), 1)
    if not (-rank <= start_dim < rank and -rank <= end_dim < rank):
        raise ValueError(
            f"start_dim={start_dim} and end_dim={end_dim} are not axes of shape {shape}"
        )
    start, end = start_dim % rank, end_dim % rank
    if start > end:
        raise ValueError(f"start_dim={start_dim} stands after end_dim={end_dim} in shape {shape}")
    return (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])
