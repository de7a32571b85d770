"""What is left to PyTorch, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from convforge.contract import UnsupportedProblem
from convforge.integrations.torch.policies import names_algorithm

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_COMPLEX = (torch.complex64, torch.complex128)
_INTS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

REALS = (torch.float32, torch.bfloat16, torch.float64, torch.float16)
FLOATS = (*REALS, *_COMPLEX)
MAXIMA = (*REALS, *_INTS)
NUMBERS = (*REALS, *_COMPLEX, *_INTS)


class Report:
    """How often calls were left to PyTorch, by function and reason; ``str()`` is a table.

    Attributes:
        counts: From ``(function, reason)`` to a number. Calls within compiled code are not
            counted, they were decided when it was compiled.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def clear(self) -> None:
        """Forget them."""
        self.counts.clear()

    def __len__(self) -> int:
        return len(self.counts)

    def __str__(self) -> str:
        lines = [f"{n:8}  {name}: {why}" for (name, why), n in self.counts.most_common()]
        return "\n".join(lines) or "nothing was left to PyTorch"

    __repr__ = __str__


_report = Report()


def report() -> Report:
    """How often calls were left to PyTorch, and why; ``report().clear()`` starts anew."""
    return _report


def refusal(dtypes: tuple[Any, ...], *tensors: Any) -> str | None:
    """Why operators do not take these tensors, or None."""
    if not torch.compiler.is_compiling():
        if torch._C._get_tracing_state() is not None:
            return "torch.jit.trace is at work"
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return "a transform of torch.func is at work"
        if torch.autograd.forward_ad._current_level >= 0:
            return "forward-mode derivatives are being taken"
    place = None
    for tensor in tensors:
        if tensor is None:
            continue
        kind = type(tensor)
        if kind not in _PLAIN and not _is_traced(kind):
            return f"{kind.__module__}.{kind.__qualname__} is not a plain tensor"
        if tensor.dtype not in dtypes:
            return f"{tensor.dtype} is not computed here"
        if tensor.layout is not torch.strided or tensor.is_nested:
            return "the tensor is sparse, nested or in a layout of its own"
        if tensor.device.type not in ("cpu", "meta"):
            return f"the tensor is on {tensor.device.type}"
        if place is not None and tensor.device.type != place:
            return f"tensors are on {place} and {tensor.device.type}"
        place = tensor.device.type
        if tensor.numel() == 0:
            return "a tensor is empty"
    return None


def fall_through(
    function: Callable[..., Any], why: str, word: str, *args: Any, **keywords: Any
) -> Any:
    """Let PyTorch do it, which is also how its own errors come about.

    Raises:
        UnsupportedProblem: An algorithm was named, and that is never replaced.
    """
    if names_algorithm(word):
        raise UnsupportedProblem(f"{function.__name__} by {word}: {why}")
    if not torch.compiler.is_compiling():
        _report.counts[function.__name__, why] += 1
    return function(*args, **keywords)


def _is_traced(kind: type) -> bool:
    """Stand-ins of tensors, which the compilers of PyTorch follow functions with."""
    return kind.__module__.startswith("torch._subclasses.")
