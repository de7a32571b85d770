"""Padding in every mode against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor, get_num_threads, set_num_threads
from convforge.testing import peers

RNG = np.random.default_rng(0)
WIDTHS = {
    1: [(1, 2), (0, 3), (-1, 2), (2, -2), (-1, -2)],
    2: [(1, 2, 0, 3), (3, 0, 2, 2), (-1, 2, 1, -1)],
    3: [(1, 2, 0, 1, 2, 1), (0, 1, -1, 0, 1, 2)],
}


@pytest.mark.peer
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("rank", "widths"), [(r, w) for r, all_ in WIDTHS.items() for w in all_])
def test_torch_agrees_forward_and_back(rank, widths, mode):
    torch = peers.require("torch")
    x = RNG.standard_normal((2, 3, *(5, 6, 4)[:rank]))
    theirs, ours = torch.tensor(x, requires_grad=True), Tensor(x, requires_grad=True)
    value = {"value": 7.0} if mode == "constant" else {}
    wanted = torch.nn.functional.pad(theirs, widths, mode, **value)
    y = F.pad(ours, widths, mode, **value)
    dy = RNG.standard_normal(wanted.shape)
    wanted.backward(torch.tensor(dy))
    y.backward(dy)
    np.testing.assert_array_equal(y, wanted.detach())
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


def test_memory_order_is_kept():
    x = np.moveaxis(np.zeros((2, 5, 6, 3), np.float32), -1, 1)
    for mode in ("constant", "reflect", "replicate", "circular"):
        y = F.pad(x, (1, 1, 2, 0), mode)
        assert np.moveaxis(y, 1, -1).flags.c_contiguous


NUMPY_MODES = {
    "constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap",
}  # fmt: skip
SHAPES = [  # widths of which axes: the last ones, all, and more than one launch does
    ((2, 3, 5, 6), ((0, 0), (0, 0), (1, 2), (3, 0))),
    ((2, 3, 5, 40), ((0, 0), (0, 0), (2, 2), (0, 0))),
    ((3, 4, 3, 4, 18), ((1, 1), (0, 2), (1, 0), (0, 1), (1, 17))),
    ((1, 20, 2, 3), ((0, 0), (3, 2), (0, 0), (0, 2))),
]


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i2", "u8", "c8", "?"])
@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize(("shape", "pairs"), SHAPES)
def test_numpy_agrees_and_gradients_are_transposes(shape, pairs, mode, dtype):
    x = RNG.integers(0, 2 if dtype == "?" else 9, shape).astype(dtype)
    if dtype == "c8":
        x += 1j * RNG.integers(0, 9, shape).astype(dtype)
    widths = [width for pair in reversed(pairs) for width in pair]
    wanted = np.pad(x, pairs, NUMPY_MODES[mode])
    for ours in (x, np.asfortranarray(x), np.repeat(x, 2, axis=-1)[..., ::2]):
        y = F.pad(ours, widths, mode)
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, wanted)
    if x.dtype.kind in "fc":
        start, dy = Tensor(x, requires_grad=True), RNG.integers(-4, 5, wanted.shape).astype(dtype)
        F.pad(start, widths, mode).backward(dy)
        other = RNG.integers(-4, 5, shape).astype(dtype)
        there = np.pad(other, pairs, NUMPY_MODES[mode]).astype("c16")
        here = np.asarray(start.grad).astype("c16")
        assert (there * dy).sum() == (here * other).sum()


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_threads_change_nothing(mode):
    x = RNG.standard_normal((2, 40, 30, 31)).astype(np.float32)
    dy = RNG.standard_normal((2, 40, 34, 36)).astype(np.float32)
    found = []
    before = get_num_threads()
    try:
        for threads in {1, before}:
            set_num_threads(threads)
            start = Tensor(x, requires_grad=True)
            y = F.pad(start, (2, 3, 1, 3), mode)
            y.backward(dy)
            found.append((np.asarray(y), np.asarray(start.grad)))
    finally:
        set_num_threads(before)
    for y, dx in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        np.testing.assert_array_equal(dx, found[0][1])


def test_values():
    assert np.isnan(F.pad(np.zeros(3, np.float32), (1, 0), value=np.nan)[0])
    y = F.pad(np.zeros(3, np.complex64), (1, 0), value=complex(1, np.inf))
    assert y[0].real == 1 and y[0].imag == np.inf
    assert F.pad(np.zeros(3, np.int8), (0, 1), value=-7)[-1] == -7
    np.testing.assert_array_equal(
        F.pad(np.zeros((0, 2)), (0, 0, 1, 1), value=3), np.full((2, 2), 3)
    )
    with pytest.raises(TypeError, match="dtype <U1; wanted numbers"):
        F.pad(np.array(["a"]), (1, 1))


@pytest.mark.parametrize(
    ("widths", "mode", "words"),
    [
        ((1,), "constant", "wanted a low and a high width"),
        ((0, 1, 2), "constant", "wanted a low and a high width"),
        ((0,) * 8, "constant", "wanted a low and a high width"),
        ((-2, -2), "constant", "has no elements for in shape"),
        ((3, 0), "reflect", "mode 'reflect' has no elements for in shape"),
        ((4, 0), "circular", "mode 'circular' has no elements"),
        ((0, 1), "mirror", "mode is 'mirror'; wanted one of constant, reflect"),
    ],
)
def test_bad_arguments(widths, mode, words):
    with pytest.raises(ValueError, match=words):
        F.pad(np.zeros((1, 2, 3)), widths, mode)


def test_a_value_is_for_the_constant_mode():
    with pytest.raises(ValueError, match="mode 'reflect' has no use for one"):
        F.pad(np.zeros((1, 2, 3)), (1, 1), "reflect", 3)
    with pytest.raises(TypeError, match=r"pad is 1\.5"):
        F.pad(np.zeros((1, 2, 3)), (1.5, 1))
