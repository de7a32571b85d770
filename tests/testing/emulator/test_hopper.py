"""Tensor maps, mbarriers and wgmma: a convolution, and the same with one bug at a time."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from convforge.testing.emulator import Finding, Kind, tensor_maps

NEEDS = ("cuda.bindings",)
SOURCE = Path(__file__).parent / "wgmma.cu"
SIZES = {"C": 64, "K": 32, "R": 3, "S": 3, "P": 5, "Q": 6, "pad": 1, "pixels": 60}
ORDERS = ("forward", "backward", *range(6))


@pytest.fixture(scope="module")
def kernels(nvrtc):
    return nvrtc(SOURCE.read_text(encoding="utf-8"), "sm_90a")


@pytest.fixture(scope="module")
def problem():
    """Small integers: sums are exact, and the result is rounded once."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-2, 3, (2, 5, 6, 64)), rng.integers(-2, 3, (32, 3, 3, 64))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    y = np.einsum("npqcrs,krsc->npqk", windows, w)
    return aligned(x), aligned(w), y.astype(ml_dtypes.bfloat16)


def aligned(values):
    """bfloat16 at a multiple of 16 bytes, read-only."""
    raw = np.zeros(values.size + 8, ml_dtypes.bfloat16)
    start = -raw.ctypes.data % 16 // 2
    copy = raw[start : start + values.size].reshape(values.shape)
    copy[...] = values
    copy.flags.writeable = False
    return copy


def run(kernels, problem, name, order, mode):
    """The report and whether the result is right."""
    x, w, wanted = problem
    y = np.full(wanted.shape, np.nan, ml_dtypes.bfloat16)
    report = kernels[f"{name}_"](
        grid=(1,),
        block=(160,),
        arguments=[
            tensor_maps.im2col(x, (-1, -1), (-1, -1), 64, 64, swizzle=128),
            tensor_maps.tiled(w.reshape(32, -1), (32, 64), swizzle=128),
            y.ctypes.data,
            np.array([*SIZES.values()], "i4"),
        ],
        memory=[x, w, y],
        dynamic_shared_bytes=2 * (64 + 32) * 128,
        order=order,
        asynchronous=mode,
    )
    return report, bool((y == wanted).all())


@pytest.mark.parametrize("mode", ["late", "early"])
@pytest.mark.parametrize("order", ORDERS)
def test_it_is_right(kernels, problem, order, mode):
    report, right = run(kernels, problem, "NONE", order, mode)
    assert right
    assert report.matrix_multiplications == 9 * 4
    assert report.asynchronous_copies == 9 * 2


def outcomes(kernels, problem, name, mode):
    """What the orders gave: ``right``, ``wrong``, kinds of findings."""
    found = set()
    for order in ORDERS:
        try:
            found.add("right" if run(kernels, problem, name, order, mode)[1] else "wrong")
        except Finding as error:
            found.add(error.kind)
    return found


@pytest.mark.parametrize(
    ("name", "late"),
    [
        ("FEW_BYTES", {"wrong", Kind.TENSOR, Kind.DEADLOCK}),
        ("MANY_BYTES", {Kind.DEADLOCK}),
        ("NO_EMPTY_WAIT", {"wrong", Kind.TENSOR, Kind.DEADLOCK, Kind.MBARRIER}),
        ("EARLY_RELEASE", {"right", Kind.TENSOR}),
        ("NO_WAIT", {Kind.TENSOR}),
        ("NO_COMMIT", {Kind.TENSOR}),
        ("NO_SWIZZLE", {"wrong"}),
        ("WRONG_PHASE", {"wrong", Kind.TENSOR, Kind.DEADLOCK, Kind.MBARRIER}),
    ],
)
def test_a_bug_is_caught(kernels, problem, name, late):
    found = outcomes(kernels, problem, name, "late")
    assert found <= late
    assert found != {"right"}


def test_a_map_that_is_none(kernels, problem, finding):
    x, w, wanted = problem
    y = np.zeros(wanted.shape, ml_dtypes.bfloat16)
    with finding(Kind.TENSOR, "no tensor map", "cp.async.bulk.tensor.4d"):
        kernels["NONE_"](
            grid=(1,),
            block=(160,),
            arguments=[bytes(128), bytes(128), y.ctypes.data, np.array([*SIZES.values()], "i4")],
            memory=[x, w, y],
            dynamic_shared_bytes=2 * (64 + 32) * 128,
        )


def test_maps_are_checked():
    x = np.zeros((4, 64), "f4")
    with pytest.raises(ValueError, match="each extent is 1 to 256"):
        tensor_maps.tiled(x, (512, 16))
    with pytest.raises(ValueError, match="longer than the swizzle"):
        tensor_maps.tiled(x, (4, 64), swizzle=128)
    with pytest.raises(ValueError, match="multiple of 16 is needed"):
        tensor_maps.tiled(x, (4, 3))
    with pytest.raises(ValueError, match="the last dense"):
        tensor_maps.tiled(x.T, (4, 4))
