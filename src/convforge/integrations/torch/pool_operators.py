"""Pooling as operators: forward, and the way back.

An average is linear: it and its gradient are each other's gradients. A maximum passes gradients
to the places it was found at, and the gradient of that takes them from there.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import torch

from convforge import ops
from convforge.integrations.torch.memory import array_of, empty, in_format, is_last, tensor_of
from convforge.integrations.torch.operator import Operator
from convforge.integrations.torch.policies import policy_of, without_algorithm
from convforge.ops import PoolArguments, adaptive_arguments, pool_arguments
from convforge.problem import PoolKind

_SETTINGS = (
    "int[] kernel, int[] stride, int[] padding, int[] dilation, bool ceil, bool count_pad, "
    "int? divisor, SymInt[] out, str policy"
)


@lru_cache(maxsize=4096)
def _arguments(
    kind: PoolKind,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil: bool,
    count_pad: bool,
    divisor: int | None,
    out: tuple[int, ...],
    policy: str,
) -> PoolArguments:
    """Of windows of given extents, or of adaptive ones, where ``out`` is not empty."""
    if out:
        return adaptive_arguments(kind, len(out), out, policy=policy_of(policy))
    return pool_arguments(
        kind, len(kernel), kernel, stride, padding, dilation, ceil, count_pad, divisor,
        policy=policy_of(policy),
    )  # fmt: skip


def _canonical(settings: Any) -> tuple[Any, ...]:
    kernel, stride, padding, dilation, ceil, count_pad, divisor, out, policy = settings
    return (
        tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil, count_pad, divisor,
        tuple(out), policy,
    )  # fmt: skip


def _run(kind: PoolKind, x: Any, settings: Any, indices: bool) -> Any:
    args = _arguments(kind, *_canonical(settings))
    source = array_of(in_format(x, is_last(x)))
    y, places = ops.pool_call(args, source, indices=indices).forward(source)
    return tensor_of(y) if places is None else (tensor_of(y), tensor_of(places))


def _run_average(x: Any, *settings: Any) -> Any:
    return _run(PoolKind.AVG, x, settings, False)


def _run_maximum(x: Any, *settings: Any) -> Any:
    return _run(PoolKind.MAX, x, settings, False)


def _run_maximum_places(x: Any, *settings: Any) -> Any:
    return _run(PoolKind.MAX, x, settings, True)


def _run_average_dgrad(dy: Any, size: Any, *settings: Any) -> Any:
    return _run_dgrad(PoolKind.AVG, dy, None, size, settings)


def _run_maximum_dgrad(dy: Any, places: Any, size: Any, *settings: Any) -> Any:
    return _run_dgrad(PoolKind.MAX, dy, places, size, settings)


def _run_dgrad(kind: PoolKind, dy: Any, places: Any, size: Any, settings: Any) -> Any:
    last = is_last(dy)
    grad = array_of(in_format(dy, last))
    # All that is asked of the input is how it lay in memory.
    like = array_of(empty(dy, (*dy.shape[:2], *size), last))
    call = ops.pool_call(_arguments(kind, *_canonical(settings)), like, indices=places is not None)
    return tensor_of(call.input_gradient(grad, None if places is None else array_of(places)))


def _size(x: Any, settings: Any) -> tuple[Any, ...]:
    kernel, stride, padding, dilation, ceil, _, _, out, _ = settings
    if len(out):
        return tuple(out)
    size = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        count = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= n + p:
            count = count - 1
        size.append(count)
    return tuple(size)


def _fake(x: Any, *settings: Any) -> Any:
    return empty(x, (*x.shape[:2], *_size(x, settings)), is_last(x))


def _fake_places(x: Any, *settings: Any) -> Any:
    shape, last = (*x.shape[:2], *_size(x, settings)), is_last(x)
    return empty(x, shape, last), empty(x, shape, last, torch.int64)


def _fake_average_dgrad(dy: Any, size: Any, *settings: Any) -> Any:
    return empty(dy, (*dy.shape[:2], *size), is_last(dy))


def _fake_maximum_dgrad(dy: Any, places: Any, size: Any, *settings: Any) -> Any:
    return empty(dy, (*dy.shape[:2], *size), is_last(dy))


def _of_gradient(settings: Any) -> tuple[Any, ...]:
    return *settings[:-1], without_algorithm(settings[-1])


def _keep_average(ctx: Any, inputs: Any, output: Any) -> None:
    x, *settings = inputs
    ctx.size, ctx.settings = x.shape[2:], _of_gradient(settings)


def _differentiate_average(ctx: Any, dy: Any) -> tuple[Any, ...]:
    return average_dgrad(dy, ctx.size, *ctx.settings), *[None] * len(ctx.settings)


def _keep_average_dgrad(ctx: Any, inputs: Any, output: Any) -> None:
    _, _, *settings = inputs
    ctx.settings = settings


def _differentiate_average_dgrad(ctx: Any, dx: Any) -> tuple[Any, ...]:
    return average(dx, *ctx.settings), None, *[None] * len(ctx.settings)


def _keep_places(ctx: Any, inputs: Any, output: Any) -> None:
    x, *settings = inputs
    _, places = output
    ctx.save_for_backward(places)
    ctx.mark_non_differentiable(places)
    ctx.set_materialize_grads(False)
    ctx.size, ctx.settings = x.shape[2:], _of_gradient(settings)


def _differentiate_places(ctx: Any, dy: Any, _places: Any) -> tuple[Any, ...]:
    (places,) = ctx.saved_tensors
    dx = None if dy is None else maximum_dgrad(dy, places, ctx.size, *ctx.settings)
    return dx, *[None] * len(ctx.settings)


def _keep_maximum(ctx: Any, inputs: Any, output: Any) -> None:
    x, *settings = inputs
    ctx.save_for_backward(x)
    ctx.settings = _of_gradient(settings)


def _differentiate_maximum(ctx: Any, dy: Any) -> tuple[Any, ...]:
    # Asked only where somebody calls this operator by its own name.
    (x,) = ctx.saved_tensors
    _, places = maximum_places(x, *ctx.settings)
    dx = maximum_dgrad(dy, places, x.shape[2:], *ctx.settings)
    return dx, *[None] * len(ctx.settings)


def _keep_maximum_dgrad(ctx: Any, inputs: Any, output: Any) -> None:
    _, places, _, *settings = inputs
    ctx.save_for_backward(places)
    ctx.count = len(settings)


def _differentiate_maximum_dgrad(ctx: Any, dx: Any) -> tuple[Any, ...]:
    (places,) = ctx.saved_tensors
    return take(dx, places), None, None, *[None] * ctx.count


def take(images: Any, places: Any) -> Any:
    """The elements of images at places of their planes, by PyTorch's operators."""
    return images.flatten(2).gather(2, places.flatten(2)).view(places.shape)


def add(values: Any, places: Any, size: Any) -> Any:
    """Images of zeros, with values added at places of their planes, by PyTorch's operators."""
    plane = values.new_zeros((*values.shape[:2], prod(size)))
    return plane.scatter_add(2, places.flatten(2), values.flatten(2)).view(*values.shape[:2], *size)


average = Operator(
    f"avg_pool(Tensor x, {_SETTINGS}) -> Tensor",
    1, _run_average, _fake, _keep_average, _differentiate_average,
)  # fmt: skip
average_dgrad = Operator(
    f"avg_pool_dgrad(Tensor dy, SymInt[] size, {_SETTINGS}) -> Tensor",
    1, _run_average_dgrad, _fake_average_dgrad, _keep_average_dgrad, _differentiate_average_dgrad,
)  # fmt: skip
maximum = Operator(
    f"max_pool(Tensor x, {_SETTINGS}) -> Tensor",
    1, _run_maximum, _fake, _keep_maximum, _differentiate_maximum,
)  # fmt: skip
maximum_places = Operator(
    f"max_pool_indices(Tensor x, {_SETTINGS}) -> (Tensor, Tensor)",
    1, _run_maximum_places, _fake_places, _keep_places, _differentiate_places,
)  # fmt: skip
maximum_dgrad = Operator(
    f"max_pool_dgrad(Tensor dy, Tensor places, SymInt[] size, {_SETTINGS}) -> Tensor",
    2, _run_maximum_dgrad, _fake_maximum_dgrad, _keep_maximum_dgrad, _differentiate_maximum_dgrad,
)  # fmt: skip
