"""Calls that write to an array of the caller's, where Tensors take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convforge.autograd import Tensor, is_grad_enabled


def write_to(out: Any, operands: Sequence[Any], run: Callable[..., Any]) -> Any:
    """Run a call with the operands' arrays and the array of ``out``; returns what it returns.

    Raises:
        ValueError: The call is recorded.
    """
    if is_grad_enabled() and any(isinstance(o, Tensor) and o.requires_grad for o in operands):
        raise ValueError(
            "out is given, but the call is recorded, and what is recorded must not be "
            "overwritten: leave out away, or call under no_grad()"
        )
    arrays = [o.data if isinstance(o, Tensor) else o for o in operands]
    target = out.data if isinstance(out, Tensor) else out
    result = run(*arrays, out=target)
    if isinstance(out, Tensor):
        out.data = target
    return result
