"""Unfold and fold against PyTorch, and against each other."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor
from convforge.testing import peers

RNG = np.random.default_rng(0)
GEOMETRIES = [(3,), (2, 1, 0, 2), ((3, 2), 1, 1), (3, 2, (2, 1), (1, 2)), (1,), ((7, 8), 1, 0, 1)]


@pytest.mark.peer
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("batched", [True, False])
def test_torch_agrees_forward_and_back(geometry, batched):
    torch = peers.require("torch")
    x = RNG.integers(-4, 5, (2, 3, 7, 8)[not batched :]).astype(np.float64)
    columns = torch.nn.functional.unfold(torch.tensor(x), *geometry).numpy()
    columns = RNG.integers(-4, 5, columns.shape).astype(np.float64)
    for call, name, start in (
        (lambda f, a: f.unfold(a, *geometry), "unfold", x),
        (lambda f, a: f.fold(a, (7, 8), *geometry), "fold", columns),
    ):
        theirs, ours = torch.tensor(start, requires_grad=True), Tensor(start, requires_grad=True)
        wanted, y = call(torch.nn.functional, theirs), call(F, ours)
        dy = RNG.integers(-4, 5, tuple(wanted.shape)).astype(np.float64)
        wanted.backward(torch.tensor(dy))
        y.backward(dy)
        np.testing.assert_array_equal(y, wanted.detach(), err_msg=name)
        np.testing.assert_array_equal(ours.grad, theirs.grad, err_msg=name)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_each_is_the_transpose_of_the_other(geometry):
    x = RNG.integers(-4, 5, (2, 3, 7, 8))
    columns = F.unfold(x, *geometry)
    others = RNG.integers(-4, 5, columns.shape)
    assert (columns * others).sum() == (x * F.fold(others, (7, 8), *geometry)).sum()


@pytest.mark.parametrize("geometry", [*GEOMETRIES, (16, 1, 9, 16), ((1, 5), (1, 3), 2, (3, 2))])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4", "c8"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_every_element_of_every_window(geometry, dtype, layout):
    """More channels than a block of the kernel, and rows longer than its vectors."""
    N, C, H, W = 2, 19, 7, 38
    x = RNG.integers(-2, 3, (N, C, H, W)).astype(dtype)
    (R, S), (dh, dw), (ph, pw), (sh, sw) = (
        np.broadcast_to(value, 2) for value in (*geometry, *(1, 0, 1)[len(geometry) - 1 :])
    )
    P, Q = (H + 2 * ph - (R - 1) * dh - 1) // sh + 1, (W + 2 * pw - (S - 1) * dw - 1) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    wanted, back = np.empty((N, C, R, S, P, Q), dtype), np.zeros_like(padded)
    dy = RNG.integers(-2, 3, wanted.shape).astype(dtype)
    for r, s in np.ndindex(R, S):
        window = (
            slice(r * dh, r * dh + (P - 1) * sh + 1, sh),
            slice(s * dw, s * dw + (Q - 1) * sw + 1, sw),
        )
        wanted[:, :, r, s] = padded[:, :, *window]
        back[:, :, *window] += dy[:, :, r, s]
    back = back[:, :, ph : ph + H, pw : pw + W]
    if layout == "nhwc":
        x, back = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, back))
    columns = F.unfold(x, *geometry, layout=layout)
    assert columns.dtype == dtype
    np.testing.assert_array_equal(columns, wanted.reshape(N, C * R * S, P * Q))
    folded = F.fold(dy.reshape(N, C * R * S, P * Q), (H, W), *geometry, layout=layout)
    assert folded.dtype == dtype
    np.testing.assert_array_equal(folded, back)


def test_layouts_and_memory():
    x = RNG.standard_normal((2, 3, 7, 8)).astype(np.float32)
    last = np.moveaxis(x, 1, -1).copy()
    columns = F.unfold(x, 3, padding=1)
    assert columns.dtype == np.float32
    np.testing.assert_array_equal(F.unfold(last, 3, padding=1, layout="nhwc"), columns)
    np.testing.assert_array_equal(F.unfold(np.moveaxis(last, -1, 1), 3, padding=1), columns)
    folded = F.fold(columns, (7, 8), 3, padding=1)
    again = F.fold(columns, (7, 8), 3, padding=1, layout="nhwc")
    np.testing.assert_array_equal(np.moveaxis(again, -1, 1), folded)
    assert F.unfold(np.empty((0, 3, 7, 8), np.float32), 3).shape == (0, 27, 30)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: F.unfold(np.ones((1, 1, 2, 4)), 3), ValueError, "larger than the padded input"),
        (lambda: F.unfold(np.ones((1, 1, 4, 4)), 0), ValueError, "filter of axis h is 0"),
        (lambda: F.unfold(np.ones((1, 1, 4, 4)), 2, stride=0), ValueError, "stride of axis h is 0"),
        (lambda: F.unfold(np.ones((1, 1, 4, 4)), 2.0), TypeError, r"kernel_size is 2\.0"),
        (lambda: F.unfold(np.ones((4, 4)), 2), ValueError, r"input has shape \(4, 4\)"),
        (
            lambda: F.fold(np.ones((1, 5, 9)), 4, 2),
            ValueError,
            r"input has shape \(1, 5, 9\); wanted \(N, C \* 4, 9\)",
        ),
        (lambda: F.fold(np.ones((1, 4, 8)), 4, 2), ValueError, "windows of 2 x 2 give on images"),
        (lambda: F.fold(np.ones((1, 4, 9)), (4,), 2), ValueError, "output_size is"),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()
