"""Pooling by a power mean, with PyTorch's signatures: powers, an average, a root."""

from __future__ import annotations

from math import inf, prod
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from convforge.integrations.torch.fallback import REALS, fall_through, refusal
from convforge.integrations.torch.policies import word_of
from convforge.integrations.torch.pooling import avg_pool, max_pool
from convforge.integrations.torch.settings import each

if TYPE_CHECKING:
    from convforge.policy import Policy


def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.lp_pool1d`."""
    word = word_of(policy, algorithm)
    return _lp(1, input, norm_type, kernel_size, stride, ceil_mode, word)


def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.lp_pool2d`."""
    word = word_of(policy, algorithm)
    return _lp(2, input, norm_type, kernel_size, stride, ceil_mode, word)


def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.lp_pool3d`."""
    word = word_of(policy, algorithm)
    return _lp(3, input, norm_type, kernel_size, stride, ceil_mode, word)


_TORCHS = {1: F.lp_pool1d, 2: F.lp_pool2d, 3: F.lp_pool3d}


def _lp(
    rank: int,
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any,
    ceil_mode: bool,
    word: str,
) -> Any:
    why = refusal(REALS, input)
    if why is None and not (
        isinstance(norm_type, int | float) and norm_type not in (0, -inf) and norm_type == norm_type
    ):
        why = f"norm_type is {norm_type}"
    if why is not None:
        given = norm_type, kernel_size, stride, ceil_mode
        return fall_through(_TORCHS[rank], why, word, input, *given)
    if norm_type == inf:
        return max_pool(rank, input.abs(), (kernel_size, stride, 0, 1, ceil_mode), False, word)
    # The composition of PyTorch's own, which takes care of gradients; and of autocast.
    powers = input.pow(norm_type)
    means = avg_pool(rank, powers, (kernel_size, stride, 0, ceil_mode, True, None), word)
    elements = prod(each(kernel_size, rank))
    return (torch.sign(means) * F.relu(torch.abs(means))).mul(elements).pow(1.0 / norm_type)
