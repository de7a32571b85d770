"""Dropout (Srivastava et al. 2014, Journal of Machine Learning Research 15)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.autograd import Function
from convforge.random import default_generator, uniform


def dropout(
    input: Any,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: np.random.Generator | None = None,
) -> Any:
    """Set elements to 0 with probability ``p`` and divide the others by ``1 - p``.

    Args:
        input: Any shape.
        p: Probability of an element to be dropped.
        training: Outside training the input is returned.
        generator: Where the randomness comes from; by default what
            :func:`convforge.manual_seed` seeds. A device draws by a rule of its own, see
            :func:`convforge.random.uniform`: other elements are dropped than on the host.

    Raises:
        ValueError: ``p`` is no probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is {p}; wanted a probability, 0 to 1")
    if not training or p == 0:
        return input
    return _Dropout(p, generator or default_generator())(input)


class _Dropout(Function):
    """Elements dropped at random."""

    reads_operands = False

    def __init__(self, p: float, generator: np.random.Generator) -> None:
        self.p = p
        self.generator = generator

    def forward(self, input: Array) -> Any:
        kept = uniform(self.generator, input) >= self.p
        self.factor = kept.astype(input.dtype) * input.dtype.type(
            1 / (1 - self.p) if self.p < 1 else 0
        )
        return input * self.factor

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad * self.factor,)
