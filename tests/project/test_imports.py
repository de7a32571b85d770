"""`import convforge` in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "numba",
    "llvmlite",
    "scipy",
    "torch",
    "jax",
    "keras",
    "cupy",
    "rich",
    "typer",
    "matplotlib",
)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running ``code``."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import convforge",
        "import convforge.problem, convforge.contract",
        "import convforge; convforge.parse('fprop:f32:n1c1h4w4_k1r3s3')",
        "import convforge; dir(convforge)",
        "import convforge.conventions",
    ],
)
def test_nothing_heavy_comes_along(code):
    assert not loaded_after(code) & set(HEAVY)


def test_the_measurement_can_see_a_heavy_import():
    assert "numba" in loaded_after("import numba")


def test_conventions_need_no_framework():
    code = "from convforge.conventions import flax, jax, keras, onnx"
    assert not loaded_after(code) & (set(HEAVY) - loaded_after("import numba"))
    assert not loaded_after(code) & {"onnx", "onnxruntime", "flax", "tensorflow"}


def test_computing_on_arrays_needs_no_framework():
    code = (
        "import numpy, convforge\n"
        "x, w = numpy.ones((1, 1, 4, 4), 'f'), numpy.ones((1, 1, 3, 3), 'f')\n"
        "convforge.conv2d(x, w)"
    )
    # Numba looks for SciPy by itself.
    assert loaded_after(code) & set(HEAVY) <= loaded_after("import numba")
