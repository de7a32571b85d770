"""What is done to a sum before it is stored: bias, residual, activations, in their order."""

from __future__ import annotations

import math
from collections.abc import Callable

from convforge.kernels.cuda_numba._element import inlined, loader, number_type, storer
from convforge.problem import ConvProblem, PostOp

_OPS = (
    PostOp.BIAS,
    PostOp.RESIDUAL,
    PostOp.RELU,
    PostOp.RELU6,
    PostOp.SILU,
    PostOp.GELU,
    PostOp.GELU_TANH,
)
_BIAS, _RESIDUAL, _RELU, _RELU6, _SILU, _GELU = range(1, 7)


def post_code(problem: ConvProblem) -> int:
    """The ops as one integer that kernels take apart: three bits each, the first one lowest."""
    return sum((1 + _OPS.index(op)) << 3 * i for i, op in enumerate(problem.post))


def finisher(dtype: str, acc: str) -> Callable[..., None]:
    """``finish(sum, post, accumulate, target, at, bias, channel, residual)`` stores a result.

    ``at`` is its place in the target and the residual, ``channel`` that in the bias.
    """
    number, load, store = number_type(acc), loader(dtype, acc), storer(dtype)
    half, six = number(0.5), number(6)
    root_half, cubic = number(math.sqrt(0.5)), number(0.044715)
    root_two_by_pi = number(math.sqrt(2 / math.pi))

    @inlined
    def finish(value, post, accumulate, target, at, bias, channel, residual):
        ops = post
        while ops != 0:
            op = ops & 7
            ops >>= 3
            if op == _BIAS:
                value += load(bias, channel)
            elif op == _RESIDUAL:
                value += load(residual, at)
            elif op == _RELU:
                value = number(0) if value < 0 else value
            elif op == _RELU6:
                value = number(0) if value < 0 else (six if value > six else value)
            elif op == _SILU:
                value = value / (number(1) + math.exp(-value))
            elif op == _GELU:
                value = half * value * (number(1) + math.erf(value * root_half))
            else:
                inner = root_two_by_pi * (value + cubic * value * value * value)
                value = half * value * (number(1) + math.tanh(inner))
        if accumulate != 0:
            value += load(target, at)
        store(target, at, value)

    return finish
