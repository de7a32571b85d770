"""The affine map, as a convolution of one image whose pixels are the rows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from convforge.arrays import as_numpy, home_of
from convforge.autograd import Tensor
from convforge.functional.convolution import convolve
from convforge.ops import Prepare, conv_arguments

if TYPE_CHECKING:
    from convforge.policy import Policy


def linear(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    activation: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """Multiply rows by a matrix: ``input @ weight.T + bias``.

    Args:
        input: Rows, shape ``(..., in_features)``.
        weight: Matrix, shape ``(out_features, in_features)``.
        bias: Shape ``(out_features,)``.
        activation: Applied to the result: relu, relu6, silu, gelu or gelu_tanh.
        algorithm: A name or glob of :func:`convforge.algorithms`; never replaced.
        policy: Limits within which an algorithm is chosen.

    Returns:
        Shape ``(..., out_features)``.

    Raises:
        TypeError, ValueError: Arrays that do not go together.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    return multiply(input, weight, bias, activation=activation, algorithm=algorithm, policy=policy)


def multiply(
    input: Any, weight: Any, bias: Any, *, prepare: Prepare | None = None, **keywords: Any
) -> Any:
    """:func:`linear`, with weights that a layer keeps prepared."""
    matrix = weight if isinstance(weight, Tensor) else as_numpy(weight, "weight")
    if matrix.ndim != 2:
        raise ValueError(f"weight has shape {matrix.shape}; wanted (out_features, in_features)")
    K, C = matrix.shape
    x = input if isinstance(input, Tensor) else as_numpy(input, "input")
    if x.ndim < 1 or x.shape[-1] != C:
        raise ValueError(
            f"input has shape {x.shape}; wanted (..., {C}), because weight has shape {matrix.shape}"
        )
    lead = x.shape[:-1]
    rows = prod(lead)
    y = convolve(
        conv_arguments(1, layout="nwc", **keywords),
        # A problem has at least one pixel: no rows are no images of one pixel.
        x.reshape(1, rows, C) if rows else x.reshape(0, 1, C),
        matrix.reshape(K, C, 1),
        bias,
        prepare=prepare,
    ).reshape(*lead, K)
    return y if isinstance(y, Tensor) else home_of(input)(y)
