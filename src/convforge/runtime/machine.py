"""Facts of this machine: what code is generated for, cache sizes, measured ceilings.

Vector width and registers come from the features of Numba's target, which obey
``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``, and not from the host's, so that a kernel and the
code generator always agree.
"""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

from convforge.contract import Machine
from convforge.runtime import threads

_ISAS = {
    # name: (vector bytes, vector registers)
    "avx512": (64, 32),
    "avx2": (32, 16),
    "neon": (16, 32),
    "plain": (16, 16),
}


class _Nominal:
    """Ceilings assumed where measuring them would cost more than it tells.

    Only ratios matter to a ranking, so one clock and one memory stand for every machine.
    """

    def gflops(self, machine: Machine) -> float:
        """GFLOP/s of one core, or of one multiprocessor."""
        if machine.device == "cuda":
            return 400.0
        return 45.0 * machine.vector_bytes / 16

    def gbytes(self, machine: Machine, workers: int) -> float:
        """GB/s of workers that share a memory."""
        if machine.device == "cuda":
            return 25.0 * workers
        return 15.0 + 10.0 * workers


NOMINAL = _Nominal()


@cache
def target_features() -> frozenset[str]:
    """Instruction sets of Numba's code generator, such as ``avx512f``."""
    from numba.core.registry import cpu_target

    codegen = cpu_target.target_context.codegen()
    features = codegen._get_host_cpu_features() if codegen is not None else ""
    return frozenset(part[1:] for part in features.split(",") if part.startswith("+"))


@cache
def isa() -> str:
    """Name of the vector instruction set: avx512, avx2, neon or plain."""
    features = target_features()
    if "avx512f" in features:
        return "avx512"
    if "avx2" in features and "fma" in features:
        return "avx2"
    if platform.machine() in ("aarch64", "arm64"):
        return "neon"
    return "plain"


@cache
def _caches() -> dict[int, int]:
    """Bytes of the data caches by level, as the kernel of the operating system tells them."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (folder / "type").read_text().strip() == "Instruction":
                continue
            size = re.fullmatch(r"(\d+)K", (folder / "size").read_text().strip())
            if size:
                sizes[int((folder / "level").read_text())] = int(size[1]) << 10
        except OSError:
            continue
    return sizes


def cpu(num_threads: int | None = None) -> Machine:
    """What CPU kernels may know, for calls with this many threads (default: the current limit)."""
    return _cpu(num_threads or threads.get_num_threads())


@cache
def _cpu(num_threads: int) -> Machine:
    vector_bytes, registers = _ISAS[isa()]
    sizes = _caches()
    return Machine(
        device="cpu",
        isa=isa(),
        vector_bytes=vector_bytes,
        registers=registers,
        threads=num_threads,
        l1_bytes=sizes[1],
        l2_bytes=sizes[2],
        l3_bytes=sizes[3],
    )


def cpu_name() -> str:
    """The processor's own name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        found = re.search(r"model name\s*:\s*(.+)", text)
        if found:
            return found[1]
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_gflops(dtype: str = "f32", num_threads: int | None = None) -> float:
    """Measured rate of independent fused multiply-adds, in GFLOP/s."""
    from convforge.runtime.probes import measure_fma

    return measure_fma(dtype, num_threads or threads.get_num_threads())


def copy_gbytes(level: str = "memory", num_threads: int | None = None) -> float:
    """Measured copy rate in GB/s, bytes read plus bytes written; level L2, L3 or memory."""
    from convforge.runtime.probes import measure_copy

    return measure_copy(level, num_threads or threads.get_num_threads())
