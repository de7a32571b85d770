"""Kernels of Numba-CUDA as their PTX: the shapes that a package of convolutions has."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from convforge.testing.emulator import Emulated, Kind

NEEDS = ("numba_cuda",)
ORDERS = ("forward", "backward", 3)


def arguments(*arrays):
    """Numba's way to pass arrays: parent, owner, size, item bytes, address, shape, strides."""
    return [
        value
        for a in arrays
        for value in (0, 0, a.size, a.itemsize, a.ctypes.data, *a.shape, *a.strides)
    ]


@pytest.fixture(scope="module")
def compiled():
    """``compiled(function, *types)`` is a kernel, compiled for sm_90 and emulated."""
    cuda = pytest.importorskip("numba.cuda", reason="numba.cuda is not installed")

    def kernel(function, *types):
        ptx, _ = cuda.compile_ptx(function, types, cc=(9, 0))
        emulated = Emulated(ptx)
        (name,) = emulated.entries
        return emulated[name]

    return kernel


@pytest.fixture(scope="module")
def cuda():
    return pytest.importorskip("numba.cuda", reason="numba.cuda is not installed")


def array(cuda, dtype, ndim):
    return cuda.types.Array(getattr(cuda.types, dtype), ndim, "C")


@pytest.fixture(scope="module")
def direct(cuda, compiled):
    def kernel(x, w, y):
        t = cuda.grid(1)
        N, K, P, Q = y.shape
        if t < N * K * P * Q:
            q, p = t % Q, t // Q % P
            k, n = t // (P * Q) % K, t // (P * Q * K)
            total = np.float32(0)
            for c in range(x.shape[1]):
                for r in range(3):
                    h = p + r - 1
                    if 0 <= h < x.shape[2]:
                        for s in range(3):
                            v = q + s - 1
                            if 0 <= v < x.shape[3]:
                                total += x[n, c, h, v] * w[k, c, r, s]
            y[n, k, p, q] = total

    return compiled(kernel, *[array(cuda, "float32", 4)] * 3)


@pytest.mark.parametrize("order", ORDERS)
def test_direct_convolution(direct, order):
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 3, 6, 7)).astype("f4")
    w = rng.integers(-4, 5, (5, 3, 3, 3)).astype("f4")
    y = np.full((2, 5, 6, 7), np.nan, "f4")
    x.flags.writeable = w.flags.writeable = False
    report = direct(
        grid=(-(-y.size // 64),),
        block=(64,),
        arguments=arguments(x, w, y),
        memory=[x, w, y],
        order=order,
    )
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    np.testing.assert_array_equal(y, np.einsum("nchwrs,kcrs->nkhw", windows, w))
    assert report.global_requests > 0


def test_a_direct_convolution_whose_output_is_too_small(direct, finding):
    x, w, y = np.ones((1, 1, 4, 4), "f4"), np.ones((1, 1, 3, 3), "f4"), np.ones((1, 1, 4, 4), "f4")
    with finding(Kind.GLOBAL_ACCESS, "thread (12, 0, 0)", "st.global"):
        direct(
            grid=(1,),
            block=(32,),
            arguments=arguments(x, w, y),
            memory=[x, w, y.reshape(-1)[:12]],
        )


TILE = 16


@pytest.fixture(scope="module", params=[True, False], ids=["barriers", "one barrier less"])
def sgemm(request, cuda, compiled):
    both = request.param

    def kernel(a, b, c):
        ta = cuda.shared.array((TILE, TILE), np.float32)
        tb = cuda.shared.array((TILE, TILE), np.float32)
        i, j = cuda.threadIdx.y, cuda.threadIdx.x
        m, n = cuda.blockIdx.y * TILE + i, cuda.blockIdx.x * TILE + j
        total = np.float32(0)
        for first in range(0, a.shape[1], TILE):
            ta[i, j] = a[m, first + j] if m < a.shape[0] and first + j < a.shape[1] else 0
            tb[i, j] = b[first + i, n] if first + i < b.shape[0] and n < b.shape[1] else 0
            cuda.syncthreads()
            for k in range(TILE):
                total += ta[i, k] * tb[k, j]
            if both:
                cuda.syncthreads()
        if m < c.shape[0] and n < c.shape[1]:
            c[m, n] = total

    return both, compiled(kernel, *[array(cuda, "float32", 2)] * 3)


def test_sgemm_and_its_second_barrier(sgemm):
    both, kernel = sgemm
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-4, 5, shape).astype("f4") for shape in ((20, 40), (40, 18)))
    right = []
    for order in ORDERS:
        c = np.full((20, 18), np.nan, "f4")
        report = kernel(
            grid=(2, 2),
            block=(TILE, TILE),
            arguments=arguments(a, b, c),
            memory=[a, b, c],
            order=order,
        )
        right.append((c == a @ b).all())
        assert report.block_barriers == 4 * 3 * (1 + both)
    assert all(right) if both else not any(right)


def test_reduction_by_shuffles(cuda, compiled):
    def kernel(x, y):
        parts = cuda.shared.array(4, np.float32)
        i, total = cuda.grid(1), np.float32(0)
        while i < x.size:
            total += x[i]
            i += cuda.gridsize(1)
        for d in (16, 8, 4, 2, 1):
            total += cuda.shfl_xor_sync(0xFFFFFFFF, total, d)
        if cuda.laneid == 0:
            parts[cuda.threadIdx.x // 32] = total
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            cuda.atomic.add(y, 0, parts[0] + parts[1] + parts[2] + parts[3])

    kernel = compiled(kernel, *[array(cuda, "float32", 1)] * 2)
    x = np.random.default_rng(2).integers(-9, 10, 5000).astype("f4")
    for order in ORDERS:
        y = np.zeros(1, "f4")
        report = kernel(
            grid=(3,), block=(128,), arguments=arguments(x, y), memory=[x, y], order=order
        )
        assert y[0] == x.sum()
        assert report.warp_collectives == 3 * 128 * 5


def test_half_precision(cuda, compiled):
    """float16 in memory, float32 in registers; and a local array."""

    def kernel(x, y):
        window = cuda.local.array(4, np.float32)
        i = cuda.grid(1)
        if i + 3 < x.size:
            for k in range(4):
                window[k] = np.float32(x[i + k])
            most = window[i % 4]
            for k in range(4):
                most = max(most, window[k])
            y[i] = most

    kernel = compiled(kernel, array(cuda, "float16", 1), array(cuda, "float16", 1))
    x = np.random.default_rng(3).standard_normal(100).astype("f2")
    y = np.full(100, np.nan, "f2")
    kernel(grid=(2,), block=(64,), arguments=arguments(x, y), memory=[x, y])
    np.testing.assert_array_equal(y[:97], sliding_window_view(x, 4).max(1))
    assert np.isnan(y[97:]).all()


def test_integer_and_double_precision(cuda, compiled):
    def kernel(x, y):
        i = cuda.grid(1)
        if i < y.size:
            total = 0.0
            for k in range(i % 7):
                total += x[(i * k) % x.size] / (k + 1)
            y[i] = total

    kernel = compiled(kernel, array(cuda, "int16", 1), array(cuda, "float64", 1))
    x = np.arange(-20, 20, dtype="i2")
    y = np.full(50, np.nan)
    kernel(grid=(1,), block=(64,), arguments=arguments(x, y), memory=[x, y])
    wanted = [sum(x[i * k % 40] / (k + 1) for k in range(i % 7)) for i in range(50)]
    np.testing.assert_allclose(y, wanted, rtol=1e-15)
