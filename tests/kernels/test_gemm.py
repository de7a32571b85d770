"""The product of matrices of the GPU room, on the emulated device."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from convforge.contract import Program

try:
    from convforge.testing.device import emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from convforge.kernels.cuda_numba._gemm import gemm_step
from convforge.kernels.cuda_numba._gemm_tile import GemmConfig
from convforge.runtime.cuda.executable import CudaExecutable

CONFIGS = [
    GemmConfig("i32", "f32", ("f32",) * 3, 8, 4),
    GemmConfig("i32", "f32", ("f32",) * 3, 8, 8),
    GemmConfig("i32", "f64", ("f64",) * 3, 8, 4),
]
SIZES = [
    # Batches, rows, columns, the summed axis and its slices.
    (1, 1, 1, 1, 1),
    (2, 65, 3, 8, 1),
    (1, 5, 130, 9, 1),
    (2, 64, 64, 17, 1),
    (1, 3, 4, 0, 1),
    (2, 66, 5, 21, 2),
    (1, 4, 67, 9, 4),
]


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


def integers(shape, dtype, seed):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize(("order", "turned"), [("forward", False), ("backward", True), (7, False)])
def test_products(device, config, order, turned):
    """Every size with its tails, A and B stored as they are or turned, in each order of threads."""
    dtype = {"f32": np.float32, "f64": np.float64}[config.acc]
    device.order = order
    try:
        for (batches, rows, columns, depth, slices), accumulate in product(SIZES, (False, True)):
            a = integers((batches, rows, depth), dtype, 1)
            b = integers((batches, depth, columns), dtype, 2)
            before = integers((slices, batches, rows, columns), dtype, 3)
            some = -(-depth // slices)
            parts = [slice(first * some, (first + 1) * some) for first in range(slices)]
            want = np.stack([a[..., part] @ b[:, part] for part in parts])
            want += before if accumulate else 0
            c = before if accumulate else np.full_like(before, np.nan)
            step = gemm_step(
                config,
                operands=("a", "b", "c"),
                batches=batches,
                rows=rows,
                columns=columns,
                depth=depth,
                a=(rows * depth, 1, rows) if turned else (rows * depth, depth, 1),
                b=(columns * depth, 1, depth) if turned else (columns * depth, columns, 1),
                c=(rows * columns, columns, 1),
                slices=slices,
                accumulate=accumulate,
            )
            stored = [m.transpose(0, 2, 1).copy() if turned else m for m in (a, b)]
            arrays = [device.adopt(array) for array in (*stored, c)]
            run = CudaExecutable(Program(steps=(step,)), ["a", "b", "c"], device)
            run.run([device.address(array) for array in arrays])
            np.testing.assert_array_equal(c, want)
    finally:
        device.order = "forward"
