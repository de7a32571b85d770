"""Pooling on arrays: memory in and out, indices, gradients."""

from __future__ import annotations

import numpy as np
import pytest

from convforge import ops
from convforge.ops import pool_arguments
from convforge.problem import PoolKind

RNG = np.random.default_rng(0)
MAX = pool_arguments(PoolKind.MAX, 2, 2)
AVG = pool_arguments(PoolKind.AVG, 2, 2)


def moved(array):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def blocks(x):
    """The 2x2 blocks of an image, on a last axis in row-major order."""
    N, C, H, W = x.shape
    cut = x.reshape(N, C, H // 2, 2, W // 2, 2)
    return cut.transpose(0, 1, 2, 4, 3, 5).reshape(N, C, H // 2, W // 2, 4)


@pytest.mark.parametrize(
    ("odd", "last"),
    [
        (lambda a: a, False),
        (lambda a: a[:, :, ::-1].copy()[:, :, ::-1], False),
        (moved, True),
        (np.asfortranarray, True),  # channels are nearer to each other than pixels are
    ],
)
def test_memory_order_is_kept(odd, last):
    x = odd(RNG.standard_normal((2, 3, 4, 6)).astype(np.float32))
    y, indices = ops.pool(MAX, x, indices=True)
    np.testing.assert_array_equal(y, blocks(x).max(-1))
    np.testing.assert_array_equal(np.take_along_axis(
        x.reshape(2, 3, 24), indices.reshape(2, 3, 6), 2).reshape(y.shape), y)  # fmt: skip
    np.testing.assert_allclose(ops.pool(AVG, x), blocks(x).mean(-1), rtol=1e-6, atol=1e-6)
    for result in (y, indices, ops.pool(AVG, x)):
        assert (moved(result).strides == result.strides) is last


def test_layout_and_unbatched():
    x = RNG.standard_normal((4, 6, 3)).astype(np.float32)
    y = ops.pool(MAX._replace(layout="nhwc"), x)
    np.testing.assert_array_equal(
        y, blocks(x.transpose(2, 0, 1)[None]).max(-1)[0].transpose(1, 2, 0)
    )


@pytest.mark.parametrize("args", [MAX, AVG])
@pytest.mark.parametrize("odd", [np.copy, moved])
def test_out(args, odd):
    x = RNG.standard_normal((2, 3, 4, 6)).astype(np.float32)
    out = odd(np.full((2, 3, 2, 3), np.nan, np.float32))
    assert ops.pool(args, x, out=out) is out
    np.testing.assert_array_equal(out, ops.pool(args, x))
    with pytest.raises(ValueError, match="out shares memory with input"):
        ops.pool(args, x, out=x.reshape(-1)[:36].reshape(2, 3, 2, 3))


@pytest.mark.parametrize("odd", [np.copy, moved])
def test_gradients(odd):
    x = odd(RNG.standard_normal((2, 3, 4, 6)))
    dy = RNG.integers(-4, 5, (2, 3, 2, 3)).astype(np.float64)
    call = ops.pool_call(MAX, x, indices=True)
    y, indices = call.forward(x)
    dx = call.input_gradient(dy, indices)
    assert dx.strides == x.strides
    np.testing.assert_array_equal(blocks(dx).sum(-1), dy)
    np.testing.assert_array_equal(dx != 0, (x == y.repeat(2, 2).repeat(2, 3)) & (dx != 0))
    average = ops.pool_call(AVG, x)
    np.testing.assert_array_equal(average.input_gradient(dy), dy.repeat(2, 2).repeat(2, 3) / 4)


def test_empty_batches_and_channels():
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        x = np.zeros(shape, np.float32)
        y, indices = ops.pool(MAX, x, indices=True)
        assert y.shape == indices.shape == (*shape[:2], 2, 2)
        assert ops.pool(AVG, x).shape == y.shape
        assert ops.pool_call(AVG, x).input_gradient(y).shape == shape


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16", "float64"])
def test_types_are_kept(dtype):
    x = np.array([[[-3, 5, 1, 2]]]).astype(dtype)
    y = ops.pool(pool_arguments(PoolKind.MAX, 1, 2), x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([[[max(x[0, 0, :2]), 2]]]))
