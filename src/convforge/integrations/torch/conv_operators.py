"""Convolution as three operators, each of which is a gradient of the other two.

``<dy, fprop(x, w)> = <dgrad(dy, w), x> = <wgrad(x, dy), w>``, so that there are gradients of
gradients of any order. A transposed convolution is dgrad.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from convforge import ops
from convforge.integrations.torch.memory import array_of, empty, in_format, is_last, tensor_of
from convforge.integrations.torch.operator import Operator
from convforge.integrations.torch.policies import policy_of, without_algorithm
from convforge.ops import ConvArguments, Prepare, conv_arguments
from convforge.problem import Order

_SETTINGS = "int[] stride, int[] padding, int[] dilation, int groups, str mode, str policy"


@lru_cache(maxsize=4096)
def _arguments(
    rank: int,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    mode: str,
    policy: str,
    extra: tuple[int, ...] | None = None,
) -> ConvArguments:
    """Of a convolution, or of a transposed one that makes so many pixels more."""
    return conv_arguments(
        rank, stride, tuple(zip(padding[::2], padding[1::2], strict=True)), dilation, groups,
        padding_mode=mode, policy=policy_of(policy),
        transposed=extra is not None, output_padding=extra or 0,
    )  # fmt: skip


def run_fprop(
    x: Any,
    w: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    mode: str,
    policy: str,
    prepare: Prepare | None = None,
) -> Any:
    """The kernel of ``fprop``; ``prepare`` gives a plan the weights that a layer keeps."""
    args = _arguments(
        x.dim() - 2, tuple(stride), tuple(padding), tuple(dilation), groups, mode, policy
    )
    source = array_of(in_format(x, is_last(x) or is_last(w)))
    filters = array_of(w)
    b = None if bias is None else array_of(bias)
    call = ops.conv_call(args, source, filters, b, None)
    return tensor_of(call.forward(source, filters, b, prepare=prepare))


def _run_dgrad(
    dy: Any,
    w: Any,
    bias: Any,
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    mode: str,
    policy: str,
) -> Any:
    rank = dy.dim() - 2
    source = array_of(in_format(dy, is_last(dy) or is_last(w)))
    filters = array_of(w)
    settings = rank, tuple(stride), tuple(padding), tuple(dilation), groups, mode, policy
    if mode != "zeros":
        shape = (dy.shape[0], w.shape[1] * groups, *size)
        return tensor_of(ops.conv_dgrad(_arguments(*settings), source, filters, shape))
    # The pixels that no window reached are there too.
    least = (
        (n - 1) * s - padding[2 * i] - padding[2 * i + 1] + d * (k - 1) + 1
        for i, (n, s, d, k) in enumerate(
            zip(dy.shape[2:], stride, dilation, w.shape[2:], strict=True)
        )
    )
    extra = tuple(n - m for n, m in zip(size, least, strict=True))
    b = None if bias is None else array_of(bias)
    call = ops.conv_call(_arguments(*settings, extra), source, filters, b, None)
    return tensor_of(call.forward(source, filters, b))


def _run_wgrad(
    x: Any,
    dy: Any,
    size: Any,
    last: bool,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    mode: str,
    policy: str,
) -> Any:
    args = _arguments(
        x.dim() - 2, tuple(stride), tuple(padding), tuple(dilation), groups, mode, policy
    )
    order = Order.CHANNELS_LAST if last else Order.CHANNELS_FIRST
    images = array_of(in_format(x, is_last(x) or is_last(dy)))
    shape = (dy.shape[1], x.shape[1] // groups, *size)
    return tensor_of(ops.conv_wgrad(args, images, array_of(dy), shape, order=order))


def _fake_fprop(
    x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, *_rest: Any
) -> Any:
    size = [
        (n + padding[2 * i] + padding[2 * i + 1] - d * (k - 1) - 1) // s + 1
        for i, (n, s, d, k) in enumerate(
            zip(x.shape[2:], stride, dilation, w.shape[2:], strict=True)
        )
    ]
    return empty(x, (x.shape[0], w.shape[0], *size), is_last(x) or is_last(w))


def _fake_dgrad(
    dy: Any, w: Any, bias: Any, size: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    mode: str, policy: str,
) -> Any:  # fmt: skip
    return empty(dy, (dy.shape[0], w.shape[1] * groups, *size), is_last(dy) or is_last(w))


def _fake_wgrad(
    x: Any, dy: Any, size: Any, last: bool, stride: Any, padding: Any, dilation: Any, groups: int,
    mode: str, policy: str,
) -> Any:  # fmt: skip
    return empty(x, (dy.shape[1], x.shape[1] // groups, *size), last)


def _of_gradient(settings: Any) -> tuple[Any, ...]:
    *geometry, policy = settings
    return *geometry, without_algorithm(policy)


def _conjugate(tensor: Any) -> Any:
    return tensor.conj() if tensor.is_complex() else tensor


def _dbias(dy: Any) -> Any:
    return dy.sum((0, *range(2, dy.dim())))


def _keep(ctx: Any, a: Any, b: Any) -> None:
    """Two factors, each of which only the other's gradient reads; and their extents."""
    ctx.save_for_backward(
        a if ctx.needs_input_grad[1] else None, b if ctx.needs_input_grad[0] else None
    )
    ctx.sizes, ctx.last = (a.shape[2:], b.shape[2:]), is_last(b)


def _keep_fprop(ctx: Any, inputs: Any, output: Any) -> None:
    x, w, _, *settings = inputs
    _keep(ctx, x, w)
    ctx.settings = _of_gradient(settings)


def _differentiate_fprop(ctx: Any, dy: Any) -> tuple[Any, ...]:
    x, w = ctx.saved_tensors
    dx = dw = db = None
    if ctx.needs_input_grad[0]:
        dx = dgrad(dy, _conjugate(w), None, ctx.sizes[0], *ctx.settings)
    if ctx.needs_input_grad[1]:
        dw = wgrad(_conjugate(x), dy, ctx.sizes[1], ctx.last, *ctx.settings)
    if ctx.needs_input_grad[2]:
        db = _dbias(dy)
    return dx, dw, db, *[None] * len(ctx.settings)


def _keep_dgrad(ctx: Any, inputs: Any, output: Any) -> None:
    dy, w, _, _, *settings = inputs
    _keep(ctx, dy, w)
    ctx.settings = _of_gradient(settings)


def _differentiate_dgrad(ctx: Any, dx: Any) -> tuple[Any, ...]:
    dy, w = ctx.saved_tensors
    gradient = dw = db = None
    if ctx.needs_input_grad[0]:
        gradient = fprop(dx, _conjugate(w), None, *ctx.settings)
    if ctx.needs_input_grad[1]:
        dw = wgrad(dx, _conjugate(dy), ctx.sizes[1], ctx.last, *ctx.settings)
    if ctx.needs_input_grad[2]:
        db = _dbias(dx)
    return gradient, dw, db, None, *[None] * len(ctx.settings)


def _keep_wgrad(ctx: Any, inputs: Any, output: Any) -> None:
    x, dy, _, _, *settings = inputs
    _keep(ctx, x, dy)
    ctx.settings = _of_gradient(settings)


def _differentiate_wgrad(ctx: Any, dw: Any) -> tuple[Any, ...]:
    x, dy = ctx.saved_tensors
    dx = gradient = None
    if ctx.needs_input_grad[0]:
        dx = dgrad(_conjugate(dy), dw, None, ctx.sizes[0], *ctx.settings)
    if ctx.needs_input_grad[1]:
        gradient = fprop(_conjugate(x), dw, None, *ctx.settings)
    return dx, gradient, None, None, *[None] * len(ctx.settings)


fprop = Operator(
    f"fprop(Tensor x, Tensor w, Tensor? bias, {_SETTINGS}) -> Tensor",
    3, run_fprop, _fake_fprop, _keep_fprop, _differentiate_fprop,
)  # fmt: skip
dgrad = Operator(
    f"dgrad(Tensor dy, Tensor w, Tensor? bias, SymInt[] size, {_SETTINGS}) -> Tensor",
    3, _run_dgrad, _fake_dgrad, _keep_dgrad, _differentiate_dgrad,
)  # fmt: skip
wgrad = Operator(
    f"wgrad(Tensor x, Tensor dy, SymInt[] size, bool last, {_SETTINGS}) -> Tensor",
    2, _run_wgrad, _fake_wgrad, _keep_wgrad, _differentiate_wgrad,
)  # fmt: skip
