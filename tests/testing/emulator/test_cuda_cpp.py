"""CUDA C++ as NVRTC compiles it: a tensor-core convolution, and the same with one bug at a time."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from convforge.testing.emulator import Finding, Kind

NEEDS = ("cuda.bindings",)
SOURCE = Path(__file__).parent / "igemm.cu"
ORDERS = ("forward", "backward", 1)
MODES = ("late", "early")
SIZES = {
    "N": 2,
    "H": 7,
    "W": 5,
    "C": 8,
    "K": 40,
    "R": 3,
    "S": 3,
    "P": 4,
    "Q": 3,
    "stride": 2,
    "pad": 1,
}


@pytest.fixture(scope="module")
def kernels(nvrtc):
    return nvrtc(SOURCE.read_text(encoding="utf-8"), "sm_80")


@pytest.fixture(scope="module")
def problem():
    """Small integers: sums are exact, and the result is rounded once."""
    rng, z = np.random.default_rng(0), SIZES
    x = rng.integers(-2, 3, (z["N"], z["H"], z["W"], z["C"]))
    w = rng.integers(-2, 3, (z["K"], z["R"], z["S"], z["C"]))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
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


def run(kernels, problem, name, order="forward", mode="late"):
    x, w, wanted = problem
    y = np.full(wanted.shape, np.nan, ml_dtypes.bfloat16)
    report = kernels[f"{name}_"](
        grid=(1, 2),
        block=(64,),
        arguments=[*(a.ctypes.data for a in (x, w, y)), np.array([*SIZES.values()], "i4")],
        memory=[x, w, y],
        dynamic_shared_bytes=3 * 64 * 64,
        order=order,
        asynchronous=mode,
    )
    return report, bool((y == wanted).all())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_it_is_right(kernels, problem, order, mode):
    report, right = run(kernels, problem, "NONE", order, mode)
    assert right
    assert report.shared_extra_passes == report.ldmatrix_extra == 0
    assert report.ldmatrix_phases > 0
    assert report.matrix_multiplications == 2 * 2 * 3 * 2 * 4  # blocks, warps, steps, k, tiles


def outcome(kernels, problem, name, order, mode):
    """``right``, ``wrong`` or the kind of what was found."""
    try:
        return "right" if run(kernels, problem, name, order, mode)[1] else "wrong"
    except Finding as error:
        assert error.kernel == f"{name}_"
        return error.kind


@pytest.mark.parametrize(
    ("name", "late", "early"),
    [
        ("NO_BARRIER", "wrong", "wrong"),
        ("LAX_WAIT", "wrong", "right"),
        ("NEXT_STAGE", "wrong", "wrong"),
        ("WRONG_ROW", "wrong", "wrong"),
        ("NO_COMMIT", Kind.COPY, Kind.COPY),
        ("NO_LOAD_GUARD", Kind.GLOBAL_ACCESS, Kind.GLOBAL_ACCESS),
        ("NO_STORE_GUARD", Kind.GLOBAL_ACCESS, Kind.GLOBAL_ACCESS),
        ("SIGNED_HALO", Kind.GLOBAL_ACCESS, Kind.GLOBAL_ACCESS),
        ("DIVERGENT_BARRIER", Kind.DEADLOCK, Kind.DEADLOCK),
        ("BENT_COPY", Kind.SHARED_ACCESS, Kind.SHARED_ACCESS),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_bug_is_caught(kernels, problem, name, late, early, order):
    assert outcome(kernels, problem, name, order, "late") == late
    assert outcome(kernels, problem, name, order, "early") == early


def test_a_lost_swizzle_is_counted(kernels, problem):
    report, right = run(kernels, problem, "NO_SWIZZLE")
    assert right
    assert report.ldmatrix_extra == 3 * report.ldmatrix_phases
    assert report.conflicts


def test_what_a_finding_says(kernels, problem):
    with pytest.raises(Finding) as caught:
        run(kernels, problem, "NO_STORE_GUARD")
    error = caught.value
    assert (error.kernel, error.block) == ("NO_STORE_GUARD_", (0, 0, 0))
    assert error.thread[0] >= 32  # pixels too many are the second warp's
    assert error.instruction.startswith("st.global") and error.line > 0
    assert "memory[2]" in error.detail
