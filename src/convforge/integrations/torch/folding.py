"""Windows as columns and back, each the gradient of the other, with PyTorch's signatures."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

import convforge.functional as numpy_functions
from convforge.integrations.torch.fallback import FLOATS, fall_through, refusal
from convforge.integrations.torch.memory import array_of, empty, tensor_of
from convforge.integrations.torch.operator import Operator
from convforge.integrations.torch.settings import each

_SETTINGS = "int[] kernel, int[] dilation, int[] padding, int[] stride"


def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """:func:`torch.nn.functional.unfold`."""
    why = refusal(FLOATS, input)
    if why is None and input.dim() not in (3, 4):
        why = "the shape is no image's"
    if why is None:
        try:
            settings = _settings(kernel_size, dilation, padding, stride)
            if input.dim() == 4:
                return _unfold(input, *settings)
            return _unfold(input.unsqueeze(0), *settings).squeeze(0)
        except (TypeError, ValueError) as error:
            why = str(error)
    return fall_through(F.unfold, why, "", input, kernel_size, dilation, padding, stride)


def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Any:
    """:func:`torch.nn.functional.fold`."""
    why = refusal(FLOATS, input)
    if why is None and input.dim() not in (2, 3):
        why = "the shape is no columns'"
    if why is None:
        try:
            size = each(output_size, 2)
            settings = _settings(kernel_size, dilation, padding, stride)
            if input.dim() == 3:
                return _fold(input, size, *settings)
            return _fold(input.unsqueeze(0), size, *settings).squeeze(0)
        except (TypeError, ValueError) as error:
            why = str(error)
    settings = kernel_size, dilation, padding, stride
    return fall_through(F.fold, why, "", input, output_size, *settings)


def _settings(*given: Any) -> tuple[tuple[int, ...], ...]:
    return tuple([each(value, 2) for value in given])


def _run_unfold(x: Any, *settings: Any) -> Any:
    return tensor_of(numpy_functions.unfold(array_of(x), *map(list, settings)))


def _run_fold(columns: Any, size: Any, *settings: Any) -> Any:
    return tensor_of(numpy_functions.fold(array_of(columns), list(size), *map(list, settings)))


def _fake_unfold(x: Any, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    count = 1
    for n, k, d, p, s in zip(x.shape[2:], kernel, dilation, padding, stride, strict=True):
        count = count * ((n + 2 * p - d * (k - 1) - 1) // s + 1)
    return empty(x, (x.shape[0], x.shape[1] * kernel[0] * kernel[1], count), False)


def _fake_fold(columns: Any, size: Any, kernel: Any, *_rest: Any) -> Any:
    C = columns.shape[1] // (kernel[0] * kernel[1])
    return empty(columns, (columns.shape[0], C, *size), False)


def _keep_unfold(ctx: Any, inputs: Any, output: Any) -> None:
    x, *settings = inputs
    ctx.size, ctx.settings = x.shape[2:], settings


def _differentiate_unfold(ctx: Any, grad: Any) -> tuple[Any, ...]:
    return _fold(grad, ctx.size, *ctx.settings), None, None, None, None


def _keep_fold(ctx: Any, inputs: Any, output: Any) -> None:
    _, _, *settings = inputs
    ctx.settings = settings


def _differentiate_fold(ctx: Any, grad: Any) -> tuple[Any, ...]:
    return _unfold(grad, *ctx.settings), None, None, None, None, None


_unfold = Operator(
    f"unfold(Tensor x, {_SETTINGS}) -> Tensor",
    1, _run_unfold, _fake_unfold, _keep_unfold, _differentiate_unfold,
)  # fmt: skip
_fold = Operator(
    f"fold(Tensor columns, SymInt[] size, {_SETTINGS}) -> Tensor",
    1, _run_fold, _fake_fold, _keep_fold, _differentiate_fold,
)  # fmt: skip
