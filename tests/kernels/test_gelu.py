"""The post op gelu, on all magnitudes."""

import math

import numpy as np
import pytest

from convforge import functional

UNITS = 1.7
"""Of ``eps |v|``."""


@pytest.mark.parametrize("outputs", [1, 16])
def test_gelu_errs_by_less_than_two_units_of_its_argument(outputs):
    v = np.concatenate(
        [np.linspace(-9, 9, 9001), np.logspace(-30, 30, 601), -np.logspace(-30, 30, 601)]
    )
    v = v.astype(np.float32)[:, None]
    y = functional.linear(v, np.ones((outputs, 1), np.float32), activation="gelu")
    wanted = np.array([x * math.erfc(-x / math.sqrt(2)) / 2 for x in v[:, 0].astype(np.float64)])
    eps = np.finfo(np.float32).eps
    errors = np.abs(y.astype(np.float64) - wanted[:, None]) / (eps * np.abs(v) + 1e-45)
    assert errors.max() <= UNITS


def test_gelu_hands_on_what_is_no_number():
    v = np.float32([[np.nan], [np.inf]])
    y = functional.linear(v, np.ones((16, 1), np.float32), activation="gelu")
    assert np.isnan(y[0]).all() and np.isposinf(y[1]).all()
