"""Runs PTX on the CPU, for correctness: no GPU, no driver.

PTX from Numba-CUDA, NVRTC or nvcc becomes C++ in which every CUDA thread is a fiber; g++ compiles
it, and what a kernel does wrong is an exception that names the kernel, the thread and the line:
accesses outside arrays, barriers that not all reach, copies nobody waits for, deadlocks. Shared
memory starts as NaN, threads run in orders that a device might choose, and copies in the background
happen as late, or as early, as they may.
"""

from convforge.testing.emulator.build import unavailable
from convforge.testing.emulator.module import Emulated, EmulatedKernel
from convforge.testing.emulator.ptx import UnsupportedPTX
from convforge.testing.emulator.report import Finding, Kind, Report

__all__ = [
    "Emulated",
    "EmulatedKernel",
    "Finding",
    "Kind",
    "Report",
    "UnsupportedPTX",
    "unavailable",
]
