"""What it costs to begin: the import, the first call ever, the first call of a process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_IMPORT = """
import time, numpy
start = time.perf_counter()
import convforge
print(time.perf_counter() - start)
"""
_FIRST_CALL = """
import time, numpy as np
x = np.ones((1, 3, 32, 32), np.float32)
w = np.ones((8, 3, 3, 3), np.float32)
start = time.perf_counter()
import convforge
convforge.conv2d(x, w, padding=1)
print(time.perf_counter() - start)
"""
_TRIVIAL_MODULE = """
import numba

@numba.njit(cache=True)
def total(x):
    s = 0.0
    for i in range(x.size):
        s += x[i]
    return s
"""
_TRIVIAL_CALL = """
import time, numpy as np
x = np.ones(32)
start = time.perf_counter()
from trivial import total
total(x)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """Seconds, medians, NumPy already imported.

    Attributes:
        import_s: ``import convforge``.
        first_ever_s: Import and ``conv2d`` where no kernel was ever compiled.
        new_process_s: The same with a warm cache on disk.
        trivial_s: Import of Numba and a call of a trivial cached function, in the same rounds.
    """

    import_s: float
    first_ever_s: float
    new_process_s: float
    trivial_s: float


def measure(rounds: int = 5) -> Startup:
    """Run fresh interpreters, the kinds in turns.

    Python's bytecode is kept between them, as it is where pip installed the package, even where
    the environment says not to write any.
    """
    times: dict[str, list[float]] = {"import": [], "first": [], "new": [], "trivial": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "trivial.py").write_text(_TRIVIAL_MODULE, encoding="utf-8")
        _seconds(_TRIVIAL_CALL, folder, folder / "warm")
        _seconds(_FIRST_CALL, folder, folder / "warm")
        for i in range(rounds):
            times["import"].append(_seconds(_IMPORT, folder, folder / "warm"))
            times["trivial"].append(_seconds(_TRIVIAL_CALL, folder, folder / "warm"))
            times["new"].append(_seconds(_FIRST_CALL, folder, folder / "warm"))
            if i < 3:
                times["first"].append(_seconds(_FIRST_CALL, folder, folder / f"empty{i}"))
    medians = {kind: statistics.median(seconds) for kind, seconds in times.items()}
    return Startup(
        import_s=medians["import"],
        first_ever_s=medians["first"],
        new_process_s=medians["new"],
        trivial_s=medians["trivial"],
    )


def _seconds(code: str, folder: Path, cache: Path) -> float:
    """What one fresh interpreter measured; ``trivial`` is importable, ``cache`` holds kernels."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {
        "PYTHONPATH": path,
        "CONVFORGE_CACHE_DIR": str(cache),
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"a fresh interpreter failed:\n{code}\n{done.stderr}")
    return float(done.stdout)
