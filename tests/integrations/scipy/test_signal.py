"""scipy.signal's functions against SciPy's, and on arrays of others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from convforge.integrations.scipy import signal as ours
from convforge.testing import peers

SHAPES = [((9,), (4,)), ((3,), (8,)), ((8, 7), (3, 2)), ((5, 4), (5, 6)), ((4, 5, 6), (2, 3, 2))]


@pytest.fixture(scope="module")
def theirs():
    peers.require("scipy")
    import scipy.signal

    return scipy.signal


def integers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(-4, 5, shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.integers(-4, 5, shape)
    return values.astype(dtype)


def same(got, wanted, exact=False):
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    if exact:
        np.testing.assert_array_equal(got, wanted)
    else:
        eps = np.finfo(wanted.dtype).eps if wanted.dtype.kind in "fc" else 0
        np.testing.assert_allclose(got, wanted, rtol=0, atol=64 * eps * np.abs(wanted).max())


@pytest.mark.peer
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("dtype", ["f4", "c8", "i8"])
def test_whole_arrays(theirs, name, mode, dtype):
    for one, two in SHAPES:
        x, y = integers(one, dtype), integers(two, dtype, 1)
        if mode == "valid" and one == (5, 4):
            x, y = y, x  # the second one is larger: they change places
            y = y[:4]
        wanted = getattr(theirs, name)(x, y, mode, method="direct")
        same(getattr(ours, name)(x, y, mode), wanted, exact=dtype[0] == "i")


@pytest.mark.peer
@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_batches(theirs, name, mode):
    for one, two, axes in [
        ((4, 3, 9), (4, 3, 4), -1),
        ((4, 3, 9), (1, 1, 4), (2,)),
        ((1, 9, 3), (4, 5, 3), 1),
        ((4, 1, 9), (1, 3, 4), [2]),
        ((6, 4, 7), (3, 4, 2), (0, 2)),
        ((2, 3, 5, 6), (2, 1, 3, 3), (2, 3)),
        ((8, 7), (3, 2), None),
    ]:
        x, y = integers(one, "f4"), integers(two, "f4", 1)
        if mode == "same":
            x = np.broadcast_to(x, (*y.shape[:-2], *x.shape[-2:])) if one[0] == 1 else x
            if axes == [2]:
                x = np.broadcast_to(x, (4, 3, 9))  # else SciPy cuts the batch
        wanted = getattr(theirs, name)(x, y, mode, axes=axes)
        same(getattr(ours, name)(x, y, mode, axes=axes), wanted)


@pytest.mark.peer
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_images(theirs, name, mode):
    for boundary, fill, dtype in itertools.product(("fill", "wrap", "symm"), (0, 3), ("f4", "c8")):
        x, y = integers((8, 7), dtype), integers((3, 4), dtype, 1)
        wanted = getattr(theirs, name)(x, y, mode, boundary, fill)
        same(getattr(ours, name)(x, y, mode, boundary, fill), wanted)


@pytest.mark.peer
def test_types_meet_in_a_common_one(theirs):
    x, y = integers((9,), "f4"), integers((4,), "c16", 1)
    same(ours.convolve(x, y), theirs.convolve(x, y, method="direct"))
    same(ours.correlate(y, x), theirs.correlate(y, x, method="direct"))
    x, y = integers((9,), "i2"), integers((4,), "f4", 1)
    same(ours.convolve(x, y), theirs.convolve(x, y, method="direct"))


def test_integers_keep_their_type():
    y = ours.convolve(np.full(3, 10, np.int16), np.full(2, 10, np.int16))
    np.testing.assert_array_equal(y, np.int16([100, 200, 200, 100]), strict=True)


def test_methods_name_algorithms():
    x, y = integers((64,), "f4"), integers((9,), "f4", 1)
    wanted = ours.convolve(x, y)
    for method in ("direct", "fft"):
        np.testing.assert_allclose(ours.convolve(x, y, method=method), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.convolve([1], np.ones(2)), "in1 is of type list; wanted an array"),
        (lambda: ours.convolve(np.ones(3), np.ones((2, 2))), "in1 has 1 axes and in2 has 2"),
        (lambda: ours.convolve(np.ones(3), np.ones(2), "circular"), "mode is 'circular'; wanted"),
        (lambda: ours.convolve(np.ones(3), np.ones(0)), "wanted elements"),
        (lambda: ours.convolve(np.ones((3, 4)), np.ones((4, 3)), "valid"), "at least as long"),
        (lambda: ours.convolve(np.ones((1,) * 4), np.ones((1,) * 4)), "4 axes to go along; wanted"),
        (lambda: ours.convolve(np.ones(3), np.ones(2), method="slow"), "method is 'slow'; wanted"),
        (lambda: ours.convolve2d(np.ones(3), np.ones(2)), "wanted two axes"),
        (lambda: ours.convolve2d(*[np.ones((3, 3))] * 2, "same", "edge"), "boundary is 'edge'"),
        (lambda: ours.fftconvolve(*[np.ones((3, 3))] * 2, axes=(0, 0)), "wanted each once"),
    ],
)
def test_what_cannot_be_says_what_can(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


X, W = np.float32([1, 2, 3, 4]), np.float32([1, 10])
FULL = np.float32([1, 12, 23, 34, 40])


@pytest.mark.peer
@pytest.mark.parametrize("library", ["torch", "jax", "array_api_strict"])
def test_arrays_of_others_come_back_as_theirs(library):
    module = peers.require(library)
    make = {"torch": "tensor", "jax": "numpy.asarray", "array_api_strict": "asarray"}[library]
    for part in make.split("."):
        module = getattr(module, part)
    x, w = module(X), module(W)
    for y in (ours.convolve(x, w), ours.convolve(x, W)):
        assert type(y) is type(x)
        np.testing.assert_array_equal(np.from_dlpack(y), FULL)


def test_numpy_arrays_of_any_memory():
    x = np.zeros((4, 2), np.float32)
    x[:, 0] = X
    np.testing.assert_array_equal(ours.convolve(x[:, 0], W), FULL)
    np.testing.assert_array_equal(ours.convolve(X[::-1], W), [4, 43, 32, 21, 10])
    swapped = X.astype(X.dtype.newbyteorder())
    np.testing.assert_array_equal(ours.convolve(swapped, W), FULL)
