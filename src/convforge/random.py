"""The randomness of initial weights and dropout."""

from __future__ import annotations

import operator

import numpy as np

from convforge.arrays import Array, namespace

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


# Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: SplitMix64.
_STEP = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))


def uniform(generator: np.random.Generator, like: Array) -> Array:
    """float32 numbers from 0 to below 1, in the shape of an array and in its place.

    On the host the generator draws them. For a device it draws one number, 64 bits wide, by which
    the device computes all others: the i-th, in C order, is what SplitMix64 gives at its i-th step
    from there, cut to 24 bits. Equal seeds so give equal numbers on every device.
    """
    if like.__class__ is np.ndarray:
        return generator.random(like.shape, np.float32)
    xp = namespace(like)
    word = np.uint64
    first = generator.integers(0, 2**64, dtype=word)
    bits = (xp.arange(like.size, dtype=word) + word(1)) * word(_STEP) + first
    for shift, factor in _MIX:
        bits = (bits ^ (bits >> word(shift))) * word(factor)
    top: Array = (bits >> word(40)).astype(np.float32) * np.float32(2**-24)
    return top.reshape(like.shape)
