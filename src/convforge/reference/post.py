"""What is applied to a convolution's sums: bias, residual, activation, in the listed order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convforge.problem import PostOp

Array = NDArray[Any]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_SMOOTH = (PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH)


def apply(post: tuple[PostOp, ...], y: Array, bias: Array | None, residual: Array | None) -> Array:
    """Apply ``post`` to y ``(N, channels, *spatial)``; bias is ``(channels,)``, residual like y.

    Raises:
        ValueError: An activation that the type of y has no meaning for.
    """
    for op in post:
        if op is PostOp.BIAS:
            assert bias is not None
            y = y + bias.reshape(-1, *(1 for _ in y.shape[2:]))
        elif op is PostOp.RESIDUAL:
            y = y + residual
        else:
            y = _activate(op, y)
    return y


def _activate(op: PostOp, y: Array) -> Array:
    if y.dtype.kind == "c" or (op in _SMOOTH and y.dtype.kind != "f"):
        raise ValueError(f"{op} has no meaning for {y.dtype}")
    # np.maximum and np.minimum hand NaN on.
    match op:
        case PostOp.RELU:
            return np.maximum(y, 0)
        case PostOp.RELU6:
            return np.minimum(np.maximum(y, 0), 6)
        case PostOp.SILU:
            return y * _sigmoid(y)
        case PostOp.GELU:
            return np.asarray(y * _erfc(-y / math.sqrt(2)) / 2)
        case PostOp.GELU_TANH:
            # (1 + tanh(u)) / 2 = sigmoid(2 u), which does not cancel for negative u.
            return y * _sigmoid(math.sqrt(8 / math.pi) * (y + 0.044715 * y**3))
    raise ValueError(f"{op} is not an activation")


def _sigmoid(u: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-u)))
