"""The affine map, as a convolution of one image whose pixels are the rows."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from convforge.arrays import as_array, home_of, may_share_memory
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
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Multiply rows by a matrix: ``input @ weight.T + bias``.

    Args:
        input: Rows, shape ``(..., in_features)``.
        weight: Matrix, shape ``(out_features, in_features)``.
        bias: Shape ``(out_features,)``.
        activation: Applied to the result: relu, relu6, silu, gelu or gelu_tanh.
        residual: Added before the activation; shape and type of the result.
        algorithm: A name or glob of :func:`convforge.algorithms`; never replaced.
        policy: Limits within which an algorithm is chosen.
        out: Where to write; must not share memory with an input. Not for recorded calls.

    Returns:
        Shape ``(..., out_features)``.

    Raises:
        TypeError, ValueError: Arrays that do not go together.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    return multiply(
        input, weight, bias, residual, out=out,
        activation=activation, algorithm=algorithm, policy=policy,
    )  # fmt: skip


def multiply(
    input: Any,
    weight: Any,
    bias: Any,
    residual: Any = None,
    *,
    out: Any = None,
    prepare: Prepare | None = None,
    **keywords: Any,
) -> Any:
    """:func:`linear`, with weights that a layer keeps prepared."""
    matrix = weight if isinstance(weight, Tensor) else as_array(weight, "weight")
    if matrix.ndim != 2:
        raise ValueError(f"weight has shape {matrix.shape}; wanted (out_features, in_features)")
    K, C = matrix.shape
    x = input if isinstance(input, Tensor) else as_array(input, "input")
    if x.ndim < 1 or x.shape[-1] != C:
        raise ValueError(
            f"input has shape {x.shape}; wanted (..., {C}), because weight has shape {matrix.shape}"
        )
    lead = x.shape[:-1]
    rows = prod(lead)
    # A problem has at least one pixel: no rows are no images of one pixel.
    images = (1, rows) if rows else (0, 1)
    y = convolve(
        conv_arguments(1, layout="nwc", **keywords),
        x.reshape(*images, C),
        matrix.reshape(K, C, 1),
        bias,
        _rows("residual", residual, (*lead, K), images),
        out=_target(out, (*lead, K), images),
        prepare=prepare,
    )
    if out is not None:
        if isinstance(out, Tensor):
            out.data = out.data  # written to, which only assigning tells its keepers
        return out
    y = y.reshape(*lead, K)
    return y if isinstance(y, Tensor) else home_of(input)(y)


def _rows(name: str, value: Any, shape: tuple[int, ...], images: tuple[int, int]) -> Any:
    """An array or Tensor of the result's shape as the convolution sees it."""
    if value is None:
        return None
    array = value if isinstance(value, Tensor) else as_array(value, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; wanted {shape}, the result's")
    return array.reshape(*images, shape[-1])


def _target(out: Any, shape: tuple[int, ...], images: tuple[int, int]) -> Any:
    """The memory of ``out`` as the convolution sees it."""
    if out is None:
        return None
    array = out.data if isinstance(out, Tensor) else as_array(out, "out")
    target = _rows("out", array, shape, images)
    if target.size and not may_share_memory(target, array):
        raise ValueError(
            f"out has strides {array.strides}, and its rows cannot be seen as one matrix of "
            f"{images[1]}; wanted an array whose leading axes are contiguous"
        )
    return target
