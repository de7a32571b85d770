"""Measured ceilings of this machine: fused multiply-adds and copies."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.contract import KernelRef
from convforge.runtime import machine
from convforge.runtime.args import Layout
from convforge.runtime.jit import address_of, kernel
from convforge.runtime.launch import launch
from convforge.runtime.rawmem import copy_bytes

_CHAINS = 12  # more than latency x issue rate of any core this was written for
_ROUNDS = 20
_ATTEMPTS = 3
_PAUSE_S = 0.1  # other libraries' workers spin on a core for a while after their last call


@intrinsic  # type: ignore[untyped-decorator]
def _fma_chains(typing_context: Any, seed: Any, count: Any, sink: Any) -> Any:
    """Run ``count`` steps of independent vector FMA chains; their sum goes to address ``sink``."""
    bits = 32 if seed == types.float32 else 64
    lanes = 8 * machine.cpu().vector_bytes // bits

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = ir.FloatType() if bits == 32 else ir.DoubleType()
        vector, word = ir.VectorType(element, lanes), ir.IntType(64)
        name = f"llvm.fma.v{lanes}f{bits}"
        fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name
        )
        undefined = ir.Constant(vector, ir.Undefined)
        start = builder.insert_element(undefined, args[0], ir.Constant(ir.IntType(32), 0))
        start = builder.shuffle_vector(
            start, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        )
        entry = builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(word)
        chains = [builder.phi(vector) for _ in range(_CHAINS)]
        following = [builder.call(fma, [start, chain, start]) for chain in chains]
        next_step = builder.add(step, ir.Constant(word, 1))
        step.add_incoming(ir.Constant(word, 0), entry)
        step.add_incoming(next_step, loop)
        for i, (chain, value) in enumerate(zip(chains, following, strict=True)):
            chain.add_incoming(ir.Constant(vector, [float(i)] * lanes), entry)
            chain.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", next_step, args[1]), loop, done)
        builder.position_at_end(done)
        total = following[0]
        for value in following[1:]:
            total = builder.fadd(total, value)
        # Stored, because the optimiser drops chains that nobody reads.
        store = builder.store(total, builder.inttoptr(args[2], vector.as_pointer()))
        store.align = bits // 8
        return context.get_dummy_value()

    return types.void(seed, types.int64, types.int64), codegen


_COUNTS = Layout("ProbeCounts", "steps nbytes double")
_counts = _COUNTS.view
_POINTERS = Layout("ProbePointers", "source target")
_pointers = _POINTERS.view


@kernel
def _fma_probe(config, constants, pointers, worker, work):  # type: ignore[no-untyped-def]
    args = _counts(constants)
    sink = _pointers(pointers).target + 64 * worker
    # Known only when it runs: with a constant, LLVM drops the chains that it leaves unchanged.
    seed = 1.0 / args.steps
    if args.double:
        _fma_chains(np.float64(seed), args.steps, sink)
    else:
        _fma_chains(np.float32(seed), args.steps, sink)


@kernel
def _copy_probe(config, constants, pointers, worker, work):  # type: ignore[no-untyped-def]
    args, ptr = _counts(constants), _pointers(pointers)
    start = worker * args.nbytes
    for _ in range(args.steps):
        copy_bytes(ptr.target + start, ptr.source + start, args.nbytes)


def _words(packed: bytes) -> np.ndarray:
    """Packed int64 in memory of their own."""
    return np.frombuffer(packed, np.int64).copy()


def _best_seconds(run: Callable[[], None]) -> float:
    """The fastest run: a ceiling is what the machine does when nothing else is in the way."""
    times = []
    for _ in range(_ATTEMPTS):
        time.sleep(_PAUSE_S)
        run()
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return min(times)


@cache
def measure_fma(dtype: str, num_threads: int) -> float:
    """GFLOP/s of independent FMA chains on this many threads."""
    steps = 100_000
    itemsize = 8 if dtype == "f64" else 4
    constants = _words(_COUNTS.pack(steps=steps, nbytes=0, double=itemsize == 8))
    sink = np.empty(64 * num_threads, np.uint8)
    operands = (0, sink.ctypes.data)
    address = address_of(KernelRef(_fma_probe))
    seconds = _best_seconds(lambda: launch(address, constants.ctypes.data, operands, num_threads))
    lanes = machine.cpu().vector_bytes // itemsize
    return 2.0 * _CHAINS * lanes * steps * num_threads / seconds / 1e9


@cache
def measure_copy(level: str, num_threads: int) -> float:
    """GB/s (read plus written) of copying arrays that fit the level and not the one before."""
    facts = machine.cpu()
    nbytes = {
        "L2": facts.l2_bytes // 4 * num_threads,
        "L3": max(facts.l3_bytes // 4, 2 * facts.l2_bytes),
        "memory": 8 * facts.l3_bytes,
    }[level]
    nbytes -= nbytes % (64 * num_threads)
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    steps = max(1, (64 << 20) // nbytes)
    constants = _words(_COUNTS.pack(steps=steps, nbytes=nbytes // num_threads, double=0))
    operands = (source.ctypes.data, target.ctypes.data)
    address = address_of(KernelRef(_copy_probe))
    seconds = _best_seconds(lambda: launch(address, constants.ctypes.data, operands, num_threads))
    return 2.0 * nbytes * steps / seconds / 1e9
