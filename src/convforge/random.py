"""The randomness of initial weights and dropout."""

from __future__ import annotations

import operator

import numpy as np

_generator = np.random.default_rng()


def manual_seed(seed: int) -> np.random.Generator:
    """Start the package's random numbers over from a seed; returns their generator.

    Raises:
        TypeError: The seed is not an integer.
        ValueError: It is negative.
    """
    global _generator
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(
            f"seed is {seed!r} of type {type(seed).__name__}; wanted an integer"
        ) from None
    if number < 0:
        raise ValueError(f"seed is {seed}; wanted at least 0")
    _generator = np.random.default_rng(number)
    return _generator


def default_generator() -> np.random.Generator:
    """Where initial weights and dropout take their numbers from."""
    return _generator
