"""Functions of arrays in PyTorch's graph of gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from convforge.arrays import Array, as_numpy, home_of
from convforge.autograd import Tensor, enable_grad


def is_left(tensor: Any) -> bool:
    """Whether Keras itself computes: for a shape alone, and within PyTorch's transforms."""
    return (
        tensor.is_meta
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def is_recorded(*tensors: Any) -> bool:
    """Whether gradients of what these tensors make are recorded."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def array_of(tensor: Any) -> Array:
    """A tensor's elements, over the same memory."""
    return as_numpy(tensor.detach(), "tensor")


def version_of(tensor: Any) -> int:
    """How often a tensor was written to, as far as PyTorch counts."""
    return 0 if tensor.is_inference() else tensor._version


@torch.compiler.disable
def run(function: Callable[..., Any], *tensors: Any) -> Any:
    """Call a function of arrays with tensors, recorded where PyTorch records.

    Args:
        function: Takes arrays, or Tensors and records what it does with them; returns one.
        tensors: Tensors in host memory, or None.
    """
    if is_recorded(*tensors):
        return _Recorded.apply(function, *tensors)
    result = function(*[None if t is None else array_of(t) for t in tensors])
    return home_of(tensors[0])(result)


class _Recorded(torch.autograd.Function):
    """One node of PyTorch's graph, inside which our own tape records."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *tensors: Any) -> Any:
        leaves = [
            None if t is None else Tensor(array_of(t), requires_grad=needed)
            for t, needed in zip(tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        with enable_grad():
            result = function(*leaves)
        ctx.leaves, ctx.result = leaves, result
        # PyTorch raises if one of them is written to before the way back reads it.
        ctx.save_for_backward(*tensors)
        return home_of(tensors[0])(result.data)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:
        if torch.autograd.forward_ad._current_level >= 0:
            raise NotImplementedError(
                "forward-mode derivatives of a gradient: call the layer within "
                "torch.autograd.forward_ad.dual_level() too, and Keras computes both"
            )
        tensors = ctx.saved_tensors
        # PyTorch may come again, and drops the node when it will not.
        ctx.result.backward(array_of(grad), retain_graph=True)
        grads: list[Any] = []
        for tensor, leaf in zip(tensors, ctx.leaves, strict=True):
            if leaf is None or leaf.grad is None:
                grads.append(None)
                continue
            grads.append(home_of(tensor)(leaf.grad.data))
            leaf.grad = None
        return None, *grads
