"""Maximum, average and adaptive pooling, with PyTorch's signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from convforge.contract import UnsupportedProblem
from convforge.integrations.torch.autocast import widened
from convforge.integrations.torch.fallback import MAXIMA, REALS, fall_through, refusal
from convforge.integrations.torch.policies import word_of
from convforge.integrations.torch.pool_operators import average, maximum, maximum_places
from convforge.integrations.torch.settings import each

if TYPE_CHECKING:
    from convforge.policy import Policy


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.max_pool1d`; see :func:`max_pool2d`."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(1, input, window, return_indices, word_of(policy, algorithm))


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.max_pool2d`.

    Args:
        input: A tensor of floating-point numbers or integers.
        kernel_size, stride, padding, dilation, ceil_mode, return_indices: As in PyTorch.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced.
        policy: Limits within which an algorithm is chosen.

    Returns:
        A tensor in the memory format of ``input``; with ``return_indices`` a pair.

    Raises:
        RuntimeError: PyTorch's own errors, by PyTorch: what is not taken here is left to it.
        UnsupportedProblem: The named algorithm cannot run it.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(2, input, window, return_indices, word_of(policy, algorithm))


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.max_pool3d`; see :func:`max_pool2d`."""
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(3, input, window, return_indices, word_of(policy, algorithm))


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.avg_pool1d`; see :func:`max_pool2d`."""
    window = kernel_size, stride, padding, ceil_mode, count_include_pad, None
    return avg_pool(1, input, window, word_of(policy, algorithm))


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.avg_pool2d`; see :func:`max_pool2d`."""
    window = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return avg_pool(2, input, window, word_of(policy, algorithm))


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.avg_pool3d`; see :func:`max_pool2d`."""
    window = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return avg_pool(3, input, window, word_of(policy, algorithm))


def adaptive_max_pool1d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.adaptive_max_pool1d`; see :func:`max_pool2d`."""
    word = word_of(policy, algorithm)
    return adaptive_max_pool(1, input, output_size, return_indices, word)


def adaptive_max_pool2d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.adaptive_max_pool2d`; see :func:`max_pool2d`."""
    word = word_of(policy, algorithm)
    return adaptive_max_pool(2, input, output_size, return_indices, word)


def adaptive_max_pool3d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.adaptive_max_pool3d`; see :func:`max_pool2d`."""
    word = word_of(policy, algorithm)
    return adaptive_max_pool(3, input, output_size, return_indices, word)


def adaptive_avg_pool1d(
    input: Any,
    output_size: Any,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.adaptive_avg_pool1d`; see :func:`max_pool2d`."""
    return adaptive_avg_pool(1, input, output_size, word_of(policy, algorithm))


def adaptive_avg_pool2d(
    input: Any,
    output_size: Any,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.adaptive_avg_pool2d`; see :func:`max_pool2d`."""
    return adaptive_avg_pool(2, input, output_size, word_of(policy, algorithm))


def adaptive_avg_pool3d(
    input: Any,
    output_size: Any,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.adaptive_avg_pool3d`; see :func:`max_pool2d`."""
    return adaptive_avg_pool(3, input, output_size, word_of(policy, algorithm))


_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_ADAPTIVE_MAX = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}
_ADAPTIVE_AVG = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


def max_pool(rank: int, input: Any, window: tuple[Any, ...], indices: bool, word: str) -> Any:
    """Maxima of any rank, by a policy's word."""
    kernel_size, stride, padding, dilation, ceil_mode = window
    why = refusal(MAXIMA, input) or _odd_shape(rank, input)
    if why is None:
        try:
            kernel, steps, around = _window(rank, kernel_size, stride, padding)
            settings = (
                kernel, steps, around, each(dilation, rank), bool(ceil_mode), True, None, (), word
            )  # fmt: skip
            # Autocast has poolings of volumes, and no others, computed in float32.
            x = widened(input) if rank == 3 else input
            return _largest(rank, x.contiguous() if rank == 1 else x, settings, indices)
        except UnsupportedProblem:
            raise
        except (TypeError, ValueError) as error:
            why = str(error)
    return fall_through(_MAX[rank], why, word, input, *window, indices)


def avg_pool(rank: int, input: Any, window: tuple[Any, ...], word: str) -> Any:
    """Means of any rank, by a policy's word."""
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor = window
    why = refusal(REALS, input) or _odd_shape(rank, input)
    if why is None:
        try:
            kernel, steps, around = _window(rank, kernel_size, stride, padding)
            settings = (
                kernel, steps, around, (1,) * rank, bool(ceil_mode), bool(count_include_pad),
                divisor, (), word,
            )  # fmt: skip
            return _mean(rank, input, settings)
        except UnsupportedProblem:
            raise
        except (TypeError, ValueError) as error:
            why = str(error)
    given = window[:5] if rank == 1 else window
    return fall_through(_AVG[rank], why, word, input, *given)


def adaptive_max_pool(rank: int, input: Any, output_size: Any, indices: bool, word: str) -> Any:
    """Adaptive maxima of any rank, by a policy's word."""
    why = refusal(MAXIMA, input) or _odd_shape(rank, input)
    if why is None:
        try:
            settings = _adaptive(rank, input, output_size, word)
            found = _largest(rank, widened(input) if rank == 3 else input, settings, indices)
            if rank < 3:
                return found
            return (found[0].contiguous(), found[1].contiguous()) if indices else found.contiguous()
        except UnsupportedProblem:
            raise
        except (TypeError, ValueError) as error:
            why = str(error)
    return fall_through(_ADAPTIVE_MAX[rank], why, word, input, output_size, indices)


def adaptive_avg_pool(rank: int, input: Any, output_size: Any, word: str) -> Any:
    """Adaptive means of any rank, by a policy's word."""
    why = refusal(REALS, input) or _odd_shape(rank, input)
    if why is None:
        try:
            return _mean(rank, input, _adaptive(rank, input, output_size, word))
        except UnsupportedProblem:
            raise
        except (TypeError, ValueError) as error:
            why = str(error)
    return fall_through(_ADAPTIVE_AVG[rank], why, word, input, output_size)


def _odd_shape(rank: int, input: Any) -> str | None:
    return None if rank + 1 <= input.dim() <= rank + 2 else "the shape is no image's"


def _window(
    rank: int, kernel_size: Any, stride: Any, padding: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    kernel, around = each(kernel_size, rank), each(padding, rank)
    given = stride is not None and not (isinstance(stride, list | tuple) and len(stride) == 0)
    for k, p in zip(kernel, around):  # noqa: B905  # no keywords: compiled
        if p > k // 2:
            raise ValueError(f"padding {around} is more than half of the window {kernel}")
    return kernel, each(stride, rank) if given else kernel, around


def _adaptive(rank: int, input: Any, output_size: Any, word: str) -> tuple[Any, ...]:
    if isinstance(output_size, list | tuple):
        wanted = tuple(output_size) * (rank if len(output_size) == 1 else 1)
    else:
        wanted = (output_size,) * rank
    if len(wanted) != rank:
        raise ValueError(f"output_size is {wanted}")
    size = [n if out is None else out for n, out in zip(input.shape[-rank:], wanted)]  # noqa: B905
    if min(size) < 1:
        raise ValueError(f"output_size is {size}")
    ones = (1,) * rank
    return ones, ones, (0,) * rank, ones, False, True, None, tuple(size), word


def _largest(rank: int, input: Any, settings: tuple[Any, ...], indices: bool) -> Any:
    batched = input.dim() == rank + 2
    x = input if batched else input.unsqueeze(0)
    if not indices and not (torch.is_grad_enabled() and input.requires_grad):
        y = maximum(x, *settings)
        return y if batched else y.squeeze(0)
    y, places = maximum_places(x, *settings)
    if not batched:
        y, places = y.squeeze(0), places.squeeze(0)
    return (y, places) if indices else y


def _mean(rank: int, input: Any, settings: tuple[Any, ...]) -> Any:
    x = widened(input) if rank == 3 else input
    if input.dim() == rank + 2:
        y = average(x, *settings)
    else:
        y = average(x.unsqueeze(0), *settings).squeeze(0)
    # As in PyTorch, whose means and adaptive windows of volumes are contiguous always.
    return y.contiguous() if rank == 3 else y
