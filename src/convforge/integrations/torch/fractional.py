"""Fractional max pooling, with PyTorch's signatures and PyTorch's random numbers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from convforge.integrations.torch.autocast import widened
from convforge.integrations.torch.fallback import REALS, fall_through, refusal
from convforge.integrations.torch.memory import array_of, empty, in_format, is_last, tensor_of
from convforge.integrations.torch.operator import Operator
from convforge.integrations.torch.pool_operators import add
from convforge.integrations.torch.settings import each
from convforge.ops.fractional import fractional_max, fractional_size
from convforge.ops.planes import Images


def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """:func:`torch.nn.functional.fractional_max_pool2d`; the same seed, the same windows."""
    wanted = output_size, output_ratio, return_indices, _random_samples
    return _fractional(2, input, kernel_size, *wanted)


def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """:func:`torch.nn.functional.fractional_max_pool3d`."""
    wanted = output_size, output_ratio, return_indices, _random_samples
    return _fractional(3, input, kernel_size, *wanted)


_TORCHS = {2: F.fractional_max_pool2d, 3: F.fractional_max_pool3d}


def _fractional(
    rank: int,
    input: Any,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: bool,
    samples: Any,
) -> Any:
    why = refusal(REALS, input, samples)
    if why is None and not rank + 1 <= input.dim() <= rank + 2:
        why = "the shape is no image's"
    if why is None:
        try:
            x, samples = widened(input), None if samples is None else widened(samples)
            x = x if input.dim() == rank + 2 else x.unsqueeze(0)
            window = each(kernel_size, rank)
            size = fractional_size(tuple(x.shape[2:]), window, output_size, output_ratio)
            if samples is None:
                drawn = torch.rand(*x.shape[:2], rank, dtype=x.dtype, device=x.device)
            else:
                drawn = samples
                if drawn.shape != (*x.shape[:2], rank) or drawn.dtype != x.dtype:
                    raise ValueError(f"samples of {drawn.dtype} and shape {tuple(drawn.shape)}")
            y, places = _pool(x, drawn, window, size)
            if input.dim() == rank + 1:
                y, places = y.squeeze(0), places.squeeze(0)
            return (y, places) if return_indices else y
        except (TypeError, ValueError) as error:
            why = str(error)
    settings = kernel_size, output_size, output_ratio, return_indices, samples
    return fall_through(_TORCHS[rank], why, "", input, *settings)


def _run(x: Any, samples: Any, window: Any, size: Any) -> Any:
    array = array_of(in_format(x, is_last(x)))
    images = Images.of("input", array, len(size), None)
    found = fractional_max(images, array, tuple(window), tuple(size), array_of(samples))
    return tuple(map(tensor_of, found))


def _fake(x: Any, samples: Any, window: Any, size: Any) -> Any:
    shape, last = (*x.shape[:2], *size), is_last(x)
    return empty(x, shape, last), empty(x, shape, last, torch.int64)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.size = inputs[0].shape[2:]
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, grad: Any, _places: Any) -> tuple[Any, ...]:
    (places,) = ctx.saved_tensors
    return add(grad, places, ctx.size), None, None, None


_pool = Operator(
    "fractional_max_pool(Tensor x, Tensor samples, int[] window, SymInt[] size) "
    "-> (Tensor, Tensor)",
    2, _run, _fake, _keep, _differentiate,
)  # fmt: skip
