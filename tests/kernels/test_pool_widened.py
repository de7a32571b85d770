"""Maxima of integers go through floats: the largest and the smallest numbers come back."""

from __future__ import annotations

import numpy as np
import pytest

from convforge import Policy, plan
from convforge.reference import compute

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32"])
def test_integers_of_every_size_come_back(dtype):
    limits = np.iinfo(dtype)
    spelled = f"fprop:max:{'u' if limits.min == 0 else 'i'}{limits.bits}:n2c5h9w8_r3s3_st2x2_p1x1"
    x = RNG.integers(limits.min, limits.max, (2, 5, 9, 8), dtype, endpoint=True)
    x[0, 0], x[0, 1] = limits.min, limits.max
    y = plan(spelled, Policy(algorithm="cpu.pool_widened"))(x)
    np.testing.assert_array_equal(y, compute(spelled, x))


def test_a_sum_of_half_types_is_rounded_once():
    x = np.ones((1, 1, 64, 64), np.float16)
    x[0, 0, 0, 0] = 2048  # to which float16 cannot add 1
    y = plan("fprop:avg:f16:n1c1h64w64_r64s64", Policy(algorithm="cpu.pool_widened"))(x)
    np.testing.assert_array_equal(y, np.float16((2048 + 4095) / 4096))
