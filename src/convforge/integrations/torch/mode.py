"""PyTorch's own functions, run here for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from convforge.integrations.torch import (
    convolution,
    folding,
    fractional,
    lp_pooling,
    padding,
    pooling,
    unpooling,
)
from convforge.integrations.torch.policies import word_of
from convforge.ops.arguments import policy_with

if TYPE_CHECKING:
    from convforge.policy import Policy


def use(policy: Policy | None = None, *, algorithm: str | None = None) -> Any:
    """A block in which this thread runs functions of ``torch.nn.functional``, and layers, here.

    Blocks nest; the inner one's policy counts. What is not run here falls through to PyTorch, as
    :func:`~convforge.torch.report` says. Every other function of PyTorch takes about a microsecond
    more in such a block; :func:`~convforge.torch.convert` costs nothing elsewhere.

    Raises:
        TypeError, ValueError: Not a policy.
    """
    word_of(policy, algorithm)
    return _Use(policy if algorithm is None else policy_with(policy, algorithm))


class _Use(TorchFunctionMode):
    """Sends calls of PyTorch's functions to those of the same name here."""

    def __init__(self, policy: Policy | None) -> None:
        super().__init__()
        self.policy = policy

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        ours = _OURS.get(func)
        if ours is None:
            return func(*args, **(kwargs or {}))
        run, limited = ours
        if limited and self.policy is not None:
            kwargs = {**(kwargs or {}), "policy": self.policy}
        return run(*args, **(kwargs or {}))


def _with_indices(run: Callable[..., Any]) -> Callable[..., Any]:
    def always(*args: Any, **kwargs: Any) -> Any:
        # PyTorch's functions of two results still have the argument that says so.
        kwargs["return_indices"] = True
        names = _PLACES[run.__name__]
        return run(*args[:names], **kwargs)

    return always


_PLACES = {
    **{f"max_pool{rank}d": 6 for rank in (1, 2, 3)},
    **{f"adaptive_max_pool{rank}d": 2 for rank in (1, 2, 3)},
    **{f"fractional_max_pool{rank}d": 4 for rank in (2, 3)},
}
"""How many arguments come before ``return_indices``."""


def _table() -> dict[Any, tuple[Callable[..., Any], bool]]:
    """From PyTorch's functions, under each of their names, to ours; and whether it has a policy."""
    found: dict[Any, tuple[Callable[..., Any], bool]] = {}
    for module in (convolution, pooling, lp_pooling, folding, padding, unpooling, fractional):
        limited = module in (convolution, pooling, lp_pooling)
        for name, run in vars(module).items():
            theirs = getattr(F, name, None)
            if (
                name.startswith("_")
                or theirs is None
                or getattr(run, "__module__", "") != module.__name__
            ):
                continue
            for place in (F, torch, torch._C._nn):
                if hasattr(place, name):
                    found[getattr(place, name)] = run, limited
            two = getattr(F, f"{name}_with_indices", None)
            if two is not None:
                found[two] = _with_indices(run), limited
    return found


_OURS = _table()
