"""What a layer's constructor refuses, before there is any input."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from convforge.contract import UnsupportedProblem
from convforge.ops.arguments import Ints, axes_of, integer, ints, paddings, policy_with, spread
from convforge.plan import plan
from convforge.policy import Policy

# The names of algorithms are known to plans; a plan of one pixel finds out about one.
_ONE_PIXEL = "fprop:f32:n1c1w1_k1s1"


def count(name: str, value: Any, least: int = 0) -> int:
    """An integer of at least so much.

    Raises:
        TypeError, ValueError: Anything else.
    """
    number = integer(name, value)
    if number < least:
        raise ValueError(f"{name} is {value!r}; wanted at least {least}")
    return number


def counts(name: str, value: Any, rank: int, least: int) -> Ints:
    """One integer, or one for each axis, of at least so much.

    Raises:
        TypeError, ValueError: Anything else.
    """
    numbers = ints(name, value, rank)
    if min(spread(numbers, rank)) < least:
        raise ValueError(f"{name} is {value!r}; wanted at least {least}")
    return numbers


def window(
    rank: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, *, pool: bool = False
) -> tuple[Ints, Ints, Any, Ints]:
    """The four in canonical spelling.

    Args:
        rank: Number of spatial axes.
        kernel_size, stride, dilation: At least 1.
        padding: Integers or pairs, not negative, or a word that these strides have a meaning for.
        pool: Padding may be half of the dilated window at most.

    Raises:
        TypeError, ValueError: Anything else.
    """
    kernel_size = counts("kernel_size", kernel_size, rank, 1)
    stride = counts("stride", stride, rank, 1)
    dilation = counts("dilation", dilation, rank, 1)
    given = paddings(padding, rank)
    axes = axes_of((1,) * rank, kernel_size, stride, given, dilation)
    if min(min(axis.pad_lo, axis.pad_hi) for axis in axes) < 0:
        raise ValueError(f"padding is {padding!r}; wanted at least 0: slice the input instead")
    # What a word comes to may depend on the input, which is not there yet.
    half = pool and not isinstance(given, str)
    if half and any(max(axis.pad_lo, axis.pad_hi) > axis.extent // 2 for axis in axes):
        raise ValueError(
            f"padding is {padding!r}; wanted at most half the window, which spans "
            f"{tuple(axis.extent for axis in axes)}"
        )
    return kernel_size, stride, given, dilation


def require_groups(groups: Any, **channels: int) -> int:
    """A number of groups that divides every number of channels.

    Raises:
        TypeError, ValueError: Anything else.
    """
    divisor = count("groups", groups, 1)
    if any(number % divisor for number in channels.values()):
        named = " and ".join(f"{name}={number}" for name, number in channels.items())
        raise ValueError(f"groups is {divisor}; wanted a divisor of {named}")
    return divisor


def require_choice(algorithm: Any, policy: Any = None) -> None:
    """Raise unless a policy and the name of a known algorithm, or None, go together.

    Raises:
        TypeError, ValueError: They do not.
    """
    asked = policy_with(policy, algorithm)
    if asked.algorithm is not None:
        with suppress(UnsupportedProblem):
            plan(_ONE_PIXEL, Policy(algorithm=asked.algorithm))
