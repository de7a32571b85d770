"""One launcher for the whole package: serial kernels, called by address from parallel workers.

``parallel=True`` on every kernel would cost three to four times the compile time. Here one
parallel loop is compiled once and cached, and walks a whole program in one call from Python.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.runtime import threads
from convforge.runtime.jit import cached, device
from convforge.runtime.rawmem import load_word, store_word

_WORD = ir.IntType(64)
MAX_POINTERS = 16
"""Operands of a step, at most."""
STEP_WORDS = 5 + MAX_POINTERS
"""Words of a step in a table: entry, constants, workers, whether the step after it joins it,
number of operands and their indices."""


@intrinsic  # type: ignore[untyped-decorator]
def _call(
    typing_context: Any, address: Any, constants: Any, pointers: Any, worker: Any, workers: Any
) -> Any:
    """Call ``void address(config, constants, pointers, worker, workers)``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        entry, *slots = args
        # The configuration singleton has no content: its register is never read.
        config = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(context.get_dummy_type(), [config, *[_WORD] * 4])
        function = builder.inttoptr(entry, kind.as_pointer())
        builder.call(function, [ir.Constant(config, None), *slots])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


@device
def _prepare(table, count, words, pointers):  # type: ignore[no-untyped-def]
    """Put the pointers of every step where its kernel reads them."""
    for step in range(count):
        row = table + 8 * STEP_WORDS * step
        for i in range(load_word(row + 32)):
            address = load_word(words + 8 * load_word(row + 40 + 8 * i))
            store_word(pointers + 8 * (MAX_POINTERS * step + i), address)


@device
def _run(table, step, pointers, worker, workers):  # type: ignore[no-untyped-def]
    """Do a worker's part of a step and of those that join it; returns the step after them."""
    joined = True
    while joined:
        row = table + 8 * STEP_WORDS * step
        operands = pointers + 8 * MAX_POINTERS * step
        _call(load_word(row), load_word(row + 8), operands, worker, workers)
        joined = load_word(row + 24) != 0
        step += 1
    return step


@cached()
def serial(table, count, words, pointers):  # type: ignore[no-untyped-def]
    """Run steps on this thread, their workers one after another."""
    _prepare(table, count, words, pointers)
    step = 0
    while step < count:
        workers = load_word(table + 8 * STEP_WORDS * step + 16)
        for worker in range(workers - 1):
            _run(table, step, pointers, worker, workers)
        step = _run(table, step, pointers, workers - 1, workers)


@cached(parallel=True)
def parallel(table, count, words, pointers):  # type: ignore[no-untyped-def]
    """Run steps, the workers of each on the threads of Numba's pool."""
    _prepare(table, count, words, pointers)
    step = 0
    while step < count:
        workers = load_word(table + 8 * STEP_WORDS * step + 16)
        if workers == 1:
            step = _run(table, step, pointers, np.int64(0), workers)
        else:
            for worker in numba.prange(workers):
                _run(table, step, pointers, np.int64(worker), workers)
            while load_word(table + 8 * STEP_WORDS * step + 24) != 0:
                step += 1
            step += 1


def run_steps(table: int, count: int, words: int, pointers: int, workers: int) -> None:
    """Run a program; returns when it is done. Releases the GIL.

    Args:
        table: Address of its steps, rows of :data:`STEP_WORDS` words.
        count: How many steps.
        words: Address of the addresses that the steps' operands are indices of.
        pointers: Address of room for the pointers of every step, :data:`MAX_POINTERS` each.
        workers: The most that a step has.
    """
    if workers == 1 or not threads.may_fan_out():
        serial(table, count, words, pointers)
    elif threads.pool_is_reentrant():
        parallel(table, count, words, pointers)
    else:
        with threads.pool_lock:
            parallel(table, count, words, pointers)


def launch(address: int, constants: int, pointers: int, workers: int) -> None:
    """Run one kernel's workers on pointers that are in place."""
    row = np.array([address, constants, workers, 0, 0], np.int64)
    run_steps(row.ctypes.data, 1, 0, pointers, workers)
