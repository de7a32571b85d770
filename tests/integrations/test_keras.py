"""Keras's layers by our kernels. One process has one backend of Keras, so each has its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convforge.testing import peers

CHECKS = Path(__file__).parent / "keras"


def run_checks(tmp_path, backend, *arguments):
    """Run files of checks with this backend; say what they said if one fails."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "KERAS_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=CHECKS,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout


def require(*names):
    for name in names:
        if importlib.util.find_spec(name) is None:
            peers.require(name)


@pytest.mark.peer
def test_on_torch(tmp_path):
    require("keras", "torch")
    names = ("layers", "conversion", "training", "networks")
    run_checks(tmp_path, "torch", *(f"check_{name}.py" for name in names))


@pytest.mark.peer
def test_on_numpy(tmp_path):
    require("keras", "jax")  # Keras's backend needs it even where it computes nothing
    # JAX compiles every shape: channels first and volumes are compared on torch.
    some = "not channels_first and not 3-channels_last"
    run_checks(tmp_path, "numpy", "check_layers.py", "check_conversion.py", "-k", some)


@pytest.mark.peer
def test_other_backends_say_what_to_do():
    require("keras", "jax")
    run = subprocess.run(
        [sys.executable, "-c", "import convforge; convforge.keras"],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "on its jax backend, and convforge.keras computes on torch and numpy" in run.stderr
