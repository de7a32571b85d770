"""What a device can do at most: kernels of ours that copy, and that multiply and add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import cuda, types

from convforge.bench.device.timing import STANDARD, Laboratory, Method, race
from convforge.contract import Cost, KernelRef, Program, Step
from convforge.runtime.cuda.device import Device
from convforge.runtime.cuda.executable import CudaExecutable
from convforge.runtime.cuda.jit import Constants, kernel

_THREADS = 256
_EACH = 4
"""Elements that a thread copies, as its kernel spells out."""
_CHAINS = 8
_UNROLLED = 16
_BLOCKS_OF_ONE = 8
"""Blocks of a multiprocessor that multiply at once."""
COPY = Constants("Copy", "stride")
MULTIPLY = Constants("Multiply", "rounds")
NOTHING = Constants("Nothing", "unused")


@dataclass(frozen=True, slots=True)
class Probe:
    """A configuration of a probe's kernel.

    Attributes:
        acc: Its type. pointers: Types of its operands. index: Of its constants.
    """

    acc: str
    pointers: tuple[str, ...]
    index: str = "i32"


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The highest rates that were measured.

    Attributes:
        copy_gbytes: Of a copy in the device's memory, bytes read plus bytes written.
        fma_gflops: Of independent multiply-adds, by type; two operations each.
    """

    copy_gbytes: float
    fma_gflops: dict[str, float]


@kernel(COPY, threads=_THREADS, registers={"f64": 32})
def copy_probe(config):  # type: ignore[no-untyped-def]
    """Each thread copies a few elements that lie far apart, so that several are on their way."""

    def copy_probe(g, x, y):  # type: ignore[no-untyped-def]
        i = types.int32(cuda.blockIdx.x * _THREADS + cuda.threadIdx.x)
        j, k, m = (
            types.int32(i + g.stride),
            types.int32(i + 2 * g.stride),
            types.int32(i + 3 * g.stride),
        )
        if i < g.stride:
            # All loads before the first store, which the compiler may not move them across.
            a, b, c, d = x[i], x[j], x[k], x[m]
            y[i], y[j], y[k], y[m] = a, b, c, d

    return copy_probe


@kernel(MULTIPLY, threads=_THREADS, registers={"f32": 40, "f64": 64})
def multiply_probe(config):  # type: ignore[no-untyped-def]
    """Independent chains of ``a = a * scale + 1`` in registers."""
    real = {"f32": types.float32, "f64": types.float64}[config.acc]

    def multiply_probe(g, y):  # type: ignore[no-untyped-def]
        i = cuda.blockIdx.x * _THREADS + cuda.threadIdx.x
        scale, one = y[i], real(1)
        a = b = c = d = e = f = p = q = real(cuda.threadIdx.x)
        b, c, d, e = a + one, a - one, a + scale, a - scale
        f, p, q = b + scale, c + scale, b - scale
        for _ in range(g.rounds):
            for _ in range(_UNROLLED):
                a = a * scale + one
                b = b * scale + one
                c = c * scale + one
                d = d * scale + one
                e = e * scale + one
                f = f * scale + one
                p = p * scale + one
                q = q * scale + one
        y[i] = ((a + b) + (c + d)) + ((e + f) + (p + q))

    return multiply_probe


@kernel(NOTHING, threads=32, registers={"f32": 32})
def empty_probe(config):  # type: ignore[no-untyped-def]
    """A kernel that does nothing."""

    def empty_probe(g, y):  # type: ignore[no-untyped-def]
        return

    return empty_probe


EMPTY = KernelRef(empty_probe, Probe("f32", ("f32",)))


def copying(device: Device, elements: int) -> tuple[CudaExecutable, int]:
    """Copies so many float64, rounded to whole blocks, from x to y; and how many."""
    stride = max(elements // (_EACH * _THREADS), 1) * _THREADS
    step = Step(
        name="copy",
        kernel=KernelRef(copy_probe, Probe("f64", ("f64", "f64"))),
        operands=("x", "y"),
        constants=COPY.pack("i32", stride=stride),
        tasks=stride // _THREADS,
        cost=Cost(bytes=16 * _EACH * stride),
    )
    return CudaExecutable(Program(steps=(step,)), ["x", "y"], device), _EACH * stride


def multiplying(device: Device, dtype: str, rounds: int) -> tuple[CudaExecutable, int, int]:
    """Multiplies and adds; with the elements of its array, and the operations of a run."""
    blocks = _BLOCKS_OF_ONE * device.machine.threads
    step = Step(
        name="multiply",
        kernel=KernelRef(multiply_probe, Probe(dtype, (dtype,))),
        operands=("y",),
        constants=MULTIPLY.pack("i32", rounds=rounds),
        tasks=blocks,
    )
    threads = blocks * _THREADS
    executable = CudaExecutable(Program(steps=(step,)), ["y"], device)
    return executable, threads, 2 * _CHAINS * _UNROLLED * rounds * threads


def ceilings(
    laboratory: Laboratory,
    method: Method = STANDARD,
    *,
    copied: int = 1 << 26,
    rounds: int = 1 << 8,
) -> Ceilings:
    """Measure both.

    Args:
        laboratory: Has the device.
        method: Rounds and lengths.
        copied: float64 of the copy, many times what the caches hold.
        rounds: Of the multiplications.
    """
    device = laboratory.device
    run, count = copying(device, copied)
    x, y = (device.put(np.ones(count)) for _ in range(2))
    runs = {"copy": [lambda: run.run([device.address(x), device.address(y)])]}
    flops = {}
    kept = []
    for dtype, kind in (("f32", np.float32), ("f64", np.float64)):
        multiply, elements, flops[dtype] = multiplying(device, dtype, rounds)
        array = device.put(np.full(elements, 0.5, kind))
        kept.append(array)
        address = device.address(array)
        runs[dtype] = [lambda multiply=multiply, at=address: multiply.run([at])]  # type: ignore[misc]
    timed = race(laboratory, runs, method)
    return Ceilings(
        copy_gbytes=16 * count / timed["copy"].median_s / 1e9,
        fma_gflops={name: flops[name] / timed[name].median_s / 1e9 for name in flops},
    )
