"""scipy.ndimage's filters against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.integrations.scipy import ndimage as ours
from convforge.testing import peers

MODES = (
    "reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    peers.require("scipy")
    import scipy.ndimage

    return scipy.ndimage


def integers(shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0 if np.dtype(dtype).kind == "u" else -4, 5, shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.integers(-4, 5, shape)
    return values.astype(dtype)


def same(got, wanted):
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.peer
@pytest.mark.parametrize("name", ["correlate", "convolve"])
@pytest.mark.parametrize("mode", MODES)
def test_borders(theirs, name, mode):
    for shape, taps, origin in [
        ((9,), (3,), 0),
        ((9,), (4,), 1),
        ((9,), (4,), -2),
        ((8, 7), (3, 4), (1, -1)),
        ((8, 7), (2, 5), (-1, 2)),
        ((5, 4, 6), (3, 2, 3), 0),
        ((3, 4), (7, 9), 0),  # wider than the image: the border begins again
    ]:
        x, w = integers(shape), integers(taps, seed=1)
        given = {"mode": mode, "cval": 2.5, "origin": origin}
        same(getattr(ours, name)(x, w, **given), getattr(theirs, name)(x, w, **given))


@pytest.mark.peer
@pytest.mark.parametrize("name", ["correlate1d", "convolve1d"])
@pytest.mark.parametrize("mode", MODES)
def test_one_axis_of_many(theirs, name, mode):
    for shape, axis, origin in [((9,), -1, 0), ((6, 7), 0, 1), ((2, 3, 6, 4), 2, -1)]:
        x, w = integers(shape), integers(4, seed=1)
        given = {"axis": axis, "mode": mode, "cval": 1, "origin": origin}
        same(getattr(ours, name)(x, w, **given), getattr(theirs, name)(x, w, **given))


@pytest.mark.peer
@pytest.mark.parametrize("dtype", ["f4", "c8", "u1", "i4"])
@pytest.mark.parametrize("complex_weights", [False, True])
def test_element_types(theirs, dtype, complex_weights):
    x = integers((8, 7), dtype)
    w = integers((3, 2), "c8" if complex_weights else "f4", 1)
    for name in ("correlate", "convolve"):
        mine = getattr(ours, name)
        if complex_weights:
            same(mine(x, w, "c8"), getattr(theirs, name)(x, w, "c8"))
        else:
            w = np.abs(w)  # SciPy leaves open what unsigned integers make of less than 0
            same(mine(x, w), getattr(theirs, name)(x, w))


@pytest.mark.peer
def test_the_result_goes_where_it_is_wanted(theirs):
    x, w = integers((8, 7)), integers((3, 3), seed=1)
    out = np.zeros((8, 7), np.float64)
    assert ours.correlate(x, w, output=out) is out
    same(out, theirs.correlate(x, w, output=np.float64))
    same(ours.correlate(x, w, np.int32), theirs.correlate(x, w, np.int32))


def test_half_types_are_filtered_too():
    y = ours.correlate(np.float16([1, 2, 3]), np.float16([1, 1, 1]), mode="nearest")
    np.testing.assert_array_equal(y, np.float16([4, 6, 8]), strict=True)


@pytest.mark.peer
def test_tensors_come_back_as_tensors():
    torch = peers.require("torch")
    y = ours.convolve(torch.tensor([1.0, 2, 3]), np.float32([1, 0, 0]))
    assert torch.equal(y, torch.tensor([2.0, 3, 3]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.correlate(np.ones(3), np.ones((2, 2))), "input has 1 axes and weights have"),
        (lambda: ours.correlate(np.ones(3), np.ones(2), mode="same"), "mode is 'same'; wanted one"),
        (lambda: ours.correlate(np.ones(3), np.ones(3), origin=2), "origin is 2; wanted -1 to 1"),
        (lambda: ours.correlate(np.ones(3), np.ones(3), origin=(0, 0)), "or one for each axis"),
        (lambda: ours.correlate1d(np.ones(3), np.ones((3, 3))), "wanted one axis"),
        (lambda: ours.correlate(np.ones(3), np.ones(3), np.zeros(2)), "output has shape"),
    ],
)
def test_what_cannot_be_says_what_can(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_complex_result_keeps_its_imaginary_part():
    x = np.arange(6.0) * (1 + 2j)
    y = ours.correlate(x, np.ones(3), output=np.float32)
    np.testing.assert_allclose(y, ours.correlate(x, np.ones(3)), rtol=1e-6)
    with pytest.raises(ValueError, match="the result is complex"):
        ours.correlate(x, np.ones(3), output=np.zeros(6))
