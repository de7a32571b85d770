"""Models for inference: layers fused, channels last between them, weights prepared."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from convforge.integrations.torch.optimize_graph import Summary
from convforge.integrations.torch.optimize_trace import Traced
from convforge.integrations.torch.policies import word_of

if TYPE_CHECKING:
    from convforge.policy import Policy


def optimize(model: Any, example: Any, policy: Policy | None = None) -> Optimized:
    """Make a faster model that computes the same, for inference.

    Batch normalisation is folded into weights, activations and sums are computed by the kernel
    before them, images keep their channels last in between, weights are prepared once. What has
    no kernel here stays PyTorch's. The model itself is not changed; its weights are shared and
    must not change any more.

    A graph is traced for each shape that comes, in about a second at its first call, and its
    results are compared with the model's.

    Args:
        model: A module in evaluation mode, on the CPU.
        example: An input, or a tuple of all inputs, or a dict of named ones.
        policy: Limits within which algorithms are chosen.

    Returns:
        A module that is called as the model is.

    Raises:
        TypeError, ValueError: Not a module, not in evaluation mode, not on the CPU.
        RuntimeError: The results were not the model's; see :data:`TOLERANCE`.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is of type {type(model).__name__}; wanted a torch.nn.Module")
    training = [name or "the model" for name, each in model.named_modules() if each.training]
    if training:
        raise ValueError(
            f"{training[0]} is in training mode; inference alone is optimised: call model.eval(), "
            "or convforge.torch.convert to train"
        )
    tensors = list(chain(model.parameters(), model.buffers()))
    elsewhere = {str(tensor.device) for tensor in tensors} - {"cpu"}
    if elsewhere:
        raise ValueError(f"the model has tensors on {', '.join(sorted(elsewhere))}; wanted the CPU")
    word_of(policy)  # refuses what is none
    # Modules of its own, over the same tensors.
    own = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    optimized = Optimized(Traced(own, "", policy))
    if isinstance(example, dict):
        optimized(**example)
    else:
        optimized(*(example if isinstance(example, tuple) else (example,)))
    return optimized


class Optimized(torch.nn.Module):
    """What :func:`optimize` returns. It has no parameters, and is neither trained nor moved."""

    def __init__(self, traced: Traced) -> None:
        super().__init__()
        self._traced = traced
        self.training = False

    @torch.compiler.disable
    def forward(self, *args: Any, **keywords: Any) -> Any:
        """Call the model, recording nothing."""
        if torch.is_grad_enabled():
            for each in chain(args, keywords.values()):
                if isinstance(each, torch.Tensor) and each.requires_grad:
                    raise RuntimeError(
                        "an optimised model has no gradients: call it under torch.no_grad(), or "
                        "use convforge.torch.convert"
                    )
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError(
                "an optimised model computes in the types of its weights: leave autocast, and "
                "optimise model.to(torch.bfloat16) for these"
            )
        if torch.autograd.forward_ad._current_level >= 0:
            raise RuntimeError(
                "an optimised model has no derivatives: leave "
                "torch.autograd.forward_ad.dual_level(), or use convforge.torch.convert"
            )
        with torch.no_grad():
            return self._traced(*args, **keywords)

    def summary(self) -> Summary:
        """What was fused, what was left to PyTorch and why; ``str()`` is a table."""
        total = Summary(left=Counter())
        for traced in self._traced.everything():
            # Graphs of other shapes have the same layers.
            for each in traced.summaries[:1]:
                total.fused += each.fused
                total.left += each.left
                total.split += each.split
        return total

    @property
    def prepared_bytes(self) -> int:
        """Memory of prepared weights, beyond the model's own."""
        return sum(
            weights.nbytes
            for traced in self._traced.everything()
            for weights in traced.weights.values()
        )

    def train(self, mode: bool = True) -> Optimized:
        """Refuse."""
        if mode:
            raise RuntimeError("an optimised model cannot be trained: train the model it is of")
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        raise RuntimeError(
            "an optimised model cannot be moved or cast: move the model it is of, and optimise that"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("an optimised model is not copied: optimise the model where it is wanted")
