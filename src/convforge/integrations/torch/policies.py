"""Policies as words, which operators of PyTorch can be given and compiled graphs can hold."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any

from convforge.policy import Policy

_FIELDS = tuple(Policy.__dataclass_fields__)
_USUAL = Policy()


def word_of(policy: Policy | None, algorithm: str | None = None) -> str:
    """What a policy says beyond the default, such as ``"threads=2"``; empty if nothing.

    Raises:
        TypeError, ValueError: Not a policy, not a name, or another name than the policy's.
    """
    if policy is None and algorithm is None:
        return ""
    # Loops that a compiler of PyTorch's can follow.
    if policy is None:
        policy = _USUAL
    if not isinstance(policy, Policy):
        raise TypeError(f"policy is of type {type(policy).__name__}; wanted a convforge.Policy")
    if algorithm is not None and not isinstance(algorithm, str):
        raise TypeError(f"algorithm is of type {type(algorithm).__name__}; wanted a name")
    named = policy.algorithm
    if algorithm is not None and named is not None and named != algorithm:
        raise ValueError(
            f"algorithm is {algorithm!r}, but policy.algorithm is {named!r}: name it in one place"
        )
    words = []
    for name in _FIELDS:
        value = getattr(policy, name)
        if name == "algorithm" and algorithm is not None:
            value = algorithm
        if value != getattr(_USUAL, name):
            words.append(f"{name}={value!r}")
    return ";".join(words)


@lru_cache(maxsize=256)
def policy_of(word: str) -> Policy | None:
    """The policy that a word of :func:`word_of` stands for; None is the default."""
    if not word:
        return None
    fields: dict[str, Any] = {}
    for each in word.split(";"):
        name, _, value = each.partition("=")
        fields[name] = ast.literal_eval(value)
    return Policy(**fields)


def without_algorithm(word: str) -> str:
    """The word of the same policy for gradients: the algorithm's name does not speak of them."""
    if "algorithm=" not in word:
        return word
    return ";".join(each for each in word.split(";") if not each.startswith("algorithm="))


def names_algorithm(word: str) -> bool:
    """Whether an algorithm is named, which is never replaced."""
    return "algorithm=" in word
