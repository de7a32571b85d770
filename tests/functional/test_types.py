"""Types other than float32 and float64, from arrays to gradients."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from convforge import Tensor
from convforge import functional as F
from convforge.ops import conv_arguments, conv_call

BF16 = np.dtype(ml_dtypes.bfloat16)
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")


def arrays(dtype, *, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, (2, 6, 7, 8)).astype(dtype)
    w = rng.integers(0, 5, (4, 6, 3, 3)).astype(dtype)
    return x, w


def exact(x, w, **keywords):
    return F.conv2d(x.astype(np.float64), w.astype(np.float64), **keywords)


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16], ids=str)
def test_half_types_are_rounded_once(dtype):
    x, w = arrays(dtype)
    y = F.conv2d(x, w, padding=1, activation="relu")
    assert y.dtype == dtype
    assert_array_equal(y, exact(x, w, padding=1).astype(dtype))
    wide = F.conv2d(x, w, padding=1, out_dtype=np.float32)
    assert wide.dtype == np.float32
    assert_array_equal(wide, exact(x, w, padding=1))


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16], ids=str)
@pytest.mark.parametrize("out_dtype", [None, np.float32])
def test_half_types_have_gradients(dtype, out_dtype):
    x, w = (Tensor(array, requires_grad=True) for array in arrays(dtype))
    y = F.conv2d(x, w, padding=1, out_dtype=out_dtype)
    y.backward(np.ones(y.shape, y.dtype))
    wide = [Tensor(array.astype(np.float64), requires_grad=True) for array in arrays(dtype)]
    F.conv2d(*wide, padding=1).sum().backward()
    for narrow, want in zip((x, w), wide, strict=True):
        assert np.asarray(narrow.grad).dtype == dtype
        got = np.asarray(narrow.grad).astype(np.float64)
        assert_allclose(got, np.asarray(want.grad), rtol=2.0**-7)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("out_dtype", [None, np.int64])
def test_integers_come_back_as_their_sums(dtype, out_dtype):
    x, w = arrays(dtype)
    y = F.conv2d(x, w, padding=1, groups=1, out_dtype=out_dtype)
    assert y.dtype == (out_dtype or (np.int64 if dtype in ("int32", "int64") else np.int32))
    assert_array_equal(y, exact(x, w, padding=1))
    wt = w.swapaxes(0, 1)
    y = F.conv_transpose2d(x, wt, stride=2, out_dtype=out_dtype)
    assert_array_equal(y, F.conv_transpose2d(x.astype(float), wt.astype(float), stride=2))


def test_int64_holds_what_int32_does_not():
    x = np.full((1, 4, 3, 3), np.iinfo(np.int16).min, np.int16)
    assert F.conv2d(x, x, out_dtype=np.int64).item() == 36 << 30


@pytest.mark.parametrize(
    ("dtype", "out_dtype", "wanted"),
    [
        (np.int8, np.int8, "int32 or int64"),
        (np.int32, np.int32, "in int64"),
        (np.float32, np.float16, "in float32"),
        (np.float16, np.float64, "float16 or float32"),
    ],
)
def test_a_result_that_could_not_hold_the_sums_is_refused(dtype, out_dtype, wanted):
    with pytest.raises(TypeError, match=wanted):
        F.conv2d(*arrays(dtype), out_dtype=out_dtype)


@pytest.mark.parametrize("out_dtype", [bool, "nonsense", 3.5])
def test_an_out_dtype_that_is_none_is_told(out_dtype):
    with pytest.raises(TypeError, match="out_dtype"):
        F.conv2d(*arrays(np.int8), out_dtype=out_dtype)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_convolution_conjugates_nothing(dtype):
    x, w = (a + 1j * b for a, b in zip(arrays(dtype), arrays(dtype, seed=1), strict=True))
    y = F.conv2d(x.astype(dtype), w.astype(dtype), padding=1)
    parts = [exact(a, b, padding=1) for a in (x.real, x.imag) for b in (w.real, w.imag)]
    assert y.dtype == dtype
    assert_array_equal(y, parts[0] - parts[3] + 1j * (parts[1] + parts[2]))


@pytest.mark.parametrize("dtype", ["float16", BF16, *INTEGERS, "complex64", "complex128"])
def test_no_type_runs_on_the_reference(dtype):
    for options in ({}, {"transposed": True}, {"groups": 6, "padding": 1}):
        x, w = arrays(dtype)
        if options.get("transposed"):
            w = w.swapaxes(0, 1)
        elif "groups" in options:
            w = np.concatenate([w, w, w])[:, :1]
        call = conv_call(conv_arguments(2, **options), x, w, None, None)
        assert "reference" not in call.plan.algorithm
