"""An operator of PyTorch: a kernel, its shape rule and its gradient, called the shortest way.

PyTorch's dispatcher finds an operator written in Python in 7 microseconds, and in 25 more if it
is to record a gradient that is registered with it (pytorch/pytorch#139500). So a call with plain
tensors goes to the kernel itself, or through an ``autograd.Function``; the dispatcher is asked
where somebody listens: compilers, exporters, modes.
"""

from __future__ import annotations

from collections.abc import Callable
from types import new_class
from typing import Any

import torch

LIBRARY = torch.library.Library("convforge", "DEF")


class Operator:
    """``torch.ops.convforge.<name>``, tensors first.

    Args:
        schema: Its signature in PyTorch's words.
        tensors: How many of the first arguments are tensors, or None.
        kernel: Computes on CPU tensors.
        fake: Makes results of the right shape, type and strides, without numbers.
        setup: ``setup(ctx, inputs, output)`` keeps what the gradient needs.
        backward: ``backward(ctx, *grads)``, made of operators that have gradients themselves.
    """

    def __init__(
        self,
        schema: str,
        tensors: int,
        kernel: Callable[..., Any],
        fake: Callable[..., Any],
        setup: Callable[[Any, Any, Any], None],
        backward: Callable[..., Any],
    ) -> None:
        name = schema.partition("(")[0]
        LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, kernel, "CPU")
        qualified = f"convforge::{name}"
        torch.library.register_fake(qualified, fake, lib=LIBRARY)
        torch.library.register_autograd(qualified, backward, setup_context=setup, lib=LIBRARY)
        self.tensors = tensors
        self.kernel = kernel
        self.dispatched = getattr(torch.ops.convforge, name).default
        self.recorded = _function(name, kernel, setup, backward).apply

    def __call__(self, *args: Any) -> Any:
        """Compute, and record if a tensor requires grad."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return self.dispatched(*args)
        if torch.autograd.forward_ad._current_level >= 0:
            # The functions have left their calls to PyTorch; this is the way back of one before.
            raise NotImplementedError(
                "forward-mode derivatives of a gradient: call the function within "
                "torch.autograd.forward_ad.dual_level() too, and PyTorch computes both"
            )
        recorded = False
        for tensor in args[: self.tensors]:
            if tensor is None:
                continue
            if type(tensor) not in _PLAIN or tensor.device.type != "cpu":
                return self.dispatched(*args)
            recorded = recorded or tensor.requires_grad
        if recorded and torch.is_grad_enabled():
            return self.recorded(*args)
        return self.kernel(*args)

    def is_direct(self, *tensors: Any) -> bool:
        """Whether a call with these would go to the kernel itself."""
        if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return False
        recording = torch.is_grad_enabled()
        return all(
            t is None
            or (
                type(t) in _PLAIN and t.device.type == "cpu" and not (recording and t.requires_grad)
            )
            for t in tensors
        )


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _function(
    name: str,
    kernel: Callable[..., Any],
    setup: Callable[[Any, Any, Any], None],
    backward: Callable[..., Any],
) -> Any:
    """The same as an ``autograd.Function``."""

    def forward(ctx: Any, *args: Any) -> Any:
        output = kernel(*args)
        setup(ctx, args, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    bases = (torch.autograd.Function,)
    return new_class(name, bases, exec_body=lambda namespace: namespace.update(members))
