"""The way back from a maximum's positions, with PyTorch's signatures."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from convforge.integrations.torch.autocast import widened
from convforge.integrations.torch.fallback import MAXIMA, fall_through, refusal
from convforge.integrations.torch.memory import array_of, empty, in_format, is_last, tensor_of
from convforge.integrations.torch.operator import Operator
from convforge.integrations.torch.pool_operators import take
from convforge.integrations.torch.settings import each
from convforge.ops.planes import Images
from convforge.ops.unpooling import Places, unpooled_size


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    """:func:`torch.nn.functional.max_unpool1d`."""
    return _unpooled(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    """:func:`torch.nn.functional.max_unpool2d`.

    Where indices are equal, the last element in row-major order is taken.
    """
    return _unpooled(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    """:func:`torch.nn.functional.max_unpool3d`."""
    return _unpooled(3, input, indices, kernel_size, stride, padding, output_size)


_TORCHS = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


def _unpooled(
    rank: int,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Any:
    why = refusal(MAXIMA, input, indices)
    if why is None and not (input.shape == indices.shape and rank + 1 <= input.dim() <= rank + 2):
        why = "the shapes make no unpooling"
    if why is None:
        try:
            size = unpooled_size(
                tuple(input.shape[-rank:]),
                each(kernel_size, rank),
                None if stride is None else each(stride, rank),
                each(padding, rank),
                None if output_size is None else tuple(output_size),
            )
            x = widened(input)
            if input.dim() == rank + 2:
                return _unpool(x, indices, size)
            return _unpool(x.unsqueeze(0), indices.unsqueeze(0), size).squeeze(0)
        except (TypeError, ValueError) as error:
            why = str(error)
    settings = kernel_size, stride, padding, output_size
    return fall_through(_TORCHS[rank], why, "", input, indices, *settings)


def _run(x: Any, places: Any, size: Any) -> Any:
    array = array_of(in_format(x, is_last(x)))
    images = Images.of("input", array, len(size), None)
    return tensor_of(Places(images, array, array_of(places), tuple(size)).put(array))


def _fake(x: Any, places: Any, size: Any) -> Any:
    return empty(x, (*x.shape[:2], *size), is_last(x))


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[1])


def _differentiate(ctx: Any, grad: Any) -> tuple[Any, ...]:
    (places,) = ctx.saved_tensors
    return take(grad, places), None, None


_unpool = Operator(
    "max_unpool(Tensor x, Tensor places, SymInt[] size) -> Tensor",
    2, _run, _fake, _keep, _differentiate,
)  # fmt: skip
