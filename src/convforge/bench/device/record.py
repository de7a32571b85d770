"""What was found on a device, for files: with the GPU, its driver, all versions, the commit."""

from __future__ import annotations

import datetime
import platform
from typing import Any

import convforge
from convforge.bench.record import commit, version
from convforge.runtime import machine
from convforge.runtime.cuda.device import Device

_PACKAGES = (
    "numpy", "numba", "llvmlite", "numba-cuda", "cuda-toolkit", "nvidia-nvvm", "nvidia-nvjitlink",
    "cupy", "cupy-cuda12x", "cupy-cuda13x", "torch",
)  # fmt: skip


def circumstances(device: Device, command: str = "") -> dict[str, Any]:
    """Command, date, GPU, driver, host, versions and commit."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device.facts(),
        "host": {"cpu": machine.cpu_name(), "system": platform.platform()},
        "versions": {
            "convforge": convforge.__version__,
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := version(name))},
        },
    }
