"""Operands fit their problem, are what their kind says, and are the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_array_equal

from convforge.problem import DType, PadMode, parse
from convforge.reference import compute
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing import cases
from convforge.testing.data import operands, result
from convforge.testing.strategies import axes, conv_problems, pool_problems


@given(conv_problems(modes=tuple(PadMode)) | pool_problems())
def test_operands_fit_their_problem(problem):
    data = operands(problem)
    y = compute(problem, *data.arrays, **data.epilogue)
    shape, _ = result(problem)
    assert (y[0] if isinstance(y, tuple) else y).shape == shape
    assert all(array.flags.c_contiguous for array in data.arrays)
    assert (data.before is not None) == getattr(problem, "accumulate", False)


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("kind", ["normal", "integers", "positive"])
def test_types_and_kinds(dtype, kind):
    x, w = operands(parse(f"fprop:{dtype}:n4c8h9w9_k8r3s3"), kind).arrays
    assert x.dtype == w.dtype == numpy_dtype(dtype)
    wide = np.abs(x.astype(np.complex128))
    assert wide.max() < 8
    if kind == "positive" and dtype.eps:
        assert x.real.min() >= 0.5
        assert x.real.max() <= 1
    if kind == "integers":
        assert_array_equal(x.astype(np.complex128), np.round(x.astype(np.complex128)))
    if kind == "normal" and dtype.eps:
        assert abs(x.astype(np.complex128).mean()) < 0.1


def test_equal_seeds_give_equal_arrays():
    problem = parse("fprop:f32:n1c2w9_k3s2+bias")
    once, again, other = operands(problem), operands(problem), operands(problem, seed=1)
    assert_array_equal(once.arrays[0], again.arrays[0])
    assert_array_equal(once.epilogue["bias"], again.epilogue["bias"])
    assert (once.arrays[0] != other.arrays[0]).any()


@given(axes())
def test_drawn_axes_are_valid(axis):
    axis.check("w")


@given(pool_problems())
def test_drawn_windows_see_an_element(problem):
    x = np.full(problem.x_shape, -1.0)
    if problem.direction == "fprop" and problem.kind == "max":
        y = compute(problem, x)
        assert ((y[0] if isinstance(y, tuple) else y) == -1).all()


def test_cases_hold_what_they_promise():
    problems = [parse(text) for text in cases.CONV]
    assert {p.rank for p in problems} == {1, 2, 3}
    assert {p.direction for p in problems} == {"fprop", "dgrad", "wgrad"}
    assert any(p.groups == p.C == p.K > 1 for p in problems)
    assert any(p.out == (1, 1) for p in problems)
    assert any(a.pad_lo >= a.filter for p in problems for a in p.axes)
    assert {a.stride for p in problems for a in p.axes} >= {1, 2, 3, 4}
    assert {0, 1} <= {p.N for p in problems}
    assert {0, 1} <= {p.C for p in problems}
    assert all(p.flops < 5e6 for p in problems)


def test_cases_around_a_tile_surround_it():
    problems = [parse(text) for text in cases.around_tile(pixels=14, channels=32)]
    assert {p.out[-1] for p in problems} >= {13, 14, 15, 28}
    assert {p.K for p in problems} >= {31, 32, 33, 64}
    assert any(a.stride == 2 for p in problems for a in p.axes)
    # A tile of one pixel or channel has nothing below it.
    assert cases.around_tile(pixels=1, channels=1)
