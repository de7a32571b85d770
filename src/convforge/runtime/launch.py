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
from convforge.runtime.jit import cached
from convforge.runtime.rawmem import load_word, store_word

_WORD = ir.IntType(64)
MAX_POINTERS = 16
"""Operands of a step, at most."""
STEP_WORDS = 4 + MAX_POINTERS
"""Words of a step in a table: entry, constants, workers, number of operands and their indices."""


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


@cached()
def serial(table, count, words, pointers):  # type: ignore[no-untyped-def]
    """Run steps on this thread, their workers one after another."""
    for step in range(count):
        row = table + 8 * STEP_WORDS * step
        for i in range(load_word(row + 24)):
            store_word(pointers + 8 * i, load_word(words + 8 * load_word(row + 32 + 8 * i)))
        workers = load_word(row + 16)
        for worker in range(workers):
            _call(load_word(row), load_word(row + 8), pointers, worker, workers)


@cached(parallel=True)
def parallel(table, count, words, pointers):  # type: ignore[no-untyped-def]
    """Run steps, the workers of each on the threads of Numba's pool."""
    for step in range(count):
        row = table + 8 * STEP_WORDS * step
        for i in range(load_word(row + 24)):
            store_word(pointers + 8 * i, load_word(words + 8 * load_word(row + 32 + 8 * i)))
        entry, constants, workers = load_word(row), load_word(row + 8), load_word(row + 16)
        if workers == 1:
            _call(entry, constants, pointers, np.int64(0), workers)
        else:
            for worker in numba.prange(workers):
                _call(entry, constants, pointers, np.int64(worker), workers)


def run_steps(table: int, count: int, words: int, pointers: int, workers: int) -> None:
    """Run a program; returns when it is done. Releases the GIL.

    Args:
        table: Address of its steps, rows of :data:`STEP_WORDS` words.
        count: How many steps.
        words: Address of the addresses that the steps' operands are indices of.
        pointers: Address of room for the pointers of one step.
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
    row = np.array([address, constants, workers, 0], np.int64)
    run_steps(row.ctypes.data, 1, 0, pointers, workers)
