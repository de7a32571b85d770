"""One launcher for the whole package: serial kernels, called by address from parallel workers.

``parallel=True`` on every kernel would cost three to four times the compile time. Here one
parallel loop is compiled once and cached, and walks a whole program in one call from Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from convforge.runtime import threads
from convforge.runtime.jit import cached, device
from convforge.runtime.memory import aligned_empty
from convforge.runtime.rawmem import load_word, store_word
from convforge.runtime.tasks import LINE_BYTES, deal

_WORD = ir.IntType(64)
MAX_POINTERS = 16
"""Operands of a step, at most."""
STEP_WORDS = 6 + MAX_POINTERS
"""Words of a step in a table: entry, constants, workers, whether the step after it joins it,
tasks, number of operands and their indices."""


def launch_bytes(steps: int, workers: int) -> int:
    """Memory of a launch: the pointers of every step, and which tasks its workers do."""
    return steps * (8 * MAX_POINTERS + LINE_BYTES * (workers + 1))


@intrinsic  # type: ignore[untyped-decorator]
def _call(
    typing_context: Any, address: Any, constants: Any, pointers: Any, worker: Any, work: Any
) -> Any:
    """Call ``void address(config, constants, pointers, worker, work)``."""

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
def _prepare(table, count, words, room, apart):  # type: ignore[no-untyped-def]
    """Put the pointers of every step where its kernel reads them, and behind them its tasks."""
    joins = False
    for step in range(count):
        row, pointers = table + 8 * STEP_WORDS * step, room + apart * step
        for i in range(load_word(row + 40)):
            address = load_word(words + 8 * load_word(row + 48 + 8 * i))
            store_word(pointers + 8 * i, address)
        # A worker that goes on with what it made itself must have made its own share.
        joined = load_word(row + 24) != 0
        movable = not (joins or joined)
        deal(pointers + 8 * MAX_POINTERS, load_word(row + 32), load_word(row + 16), movable)
        joins = joined


@device
def _run(table, step, room, apart, worker):  # type: ignore[no-untyped-def]
    """Do a worker's part of a step and of those that join it; returns the step after them."""
    joined = True
    while joined:
        row, pointers = table + 8 * STEP_WORDS * step, room + apart * step
        _call(load_word(row), load_word(row + 8), pointers, worker, pointers + 8 * MAX_POINTERS)
        joined = load_word(row + 24) != 0
        step += 1
    return step


@cached()
def serial(table, count, words, room, apart):  # type: ignore[no-untyped-def]
    """Run steps on this thread, their workers one after another."""
    _prepare(table, count, words, room, apart)
    step = 0
    while step < count:
        workers = load_word(table + 8 * STEP_WORDS * step + 16)
        for worker in range(workers - 1):
            _run(table, step, room, apart, worker)
        step = _run(table, step, room, apart, workers - 1)


@cached(parallel=True)
def parallel(table, count, words, room, apart):  # type: ignore[no-untyped-def]
    """Run steps, the workers of each on the threads of Numba's pool."""
    _prepare(table, count, words, room, apart)
    step = 0
    while step < count:
        workers = load_word(table + 8 * STEP_WORDS * step + 16)
        if workers == 1:
            step = _run(table, step, room, apart, np.int64(0))
        else:
            for worker in numba.prange(workers):
                _run(table, step, room, apart, np.int64(worker))
            while load_word(table + 8 * STEP_WORDS * step + 24) != 0:
                step += 1
            step += 1


def run_steps(table: int, count: int, words: int, room: int, workers: int) -> None:
    """Run a program; returns when it is done. Releases the GIL.

    Args:
        table: Address of its steps, rows of :data:`STEP_WORDS` words.
        count: How many steps.
        words: Address of the addresses that the steps' operands are indices of.
        room: Address of :func:`launch_bytes` on a cache line.
        workers: The most that a step has.
    """
    apart = launch_bytes(1, workers)
    if workers == 1 or not threads.may_fan_out():
        serial(table, count, words, room, apart)
    elif threads.pool_is_reentrant():
        parallel(table, count, words, room, apart)
    else:
        with threads.pool_lock:
            parallel(table, count, words, room, apart)


def launch(
    address: int, constants: int, operands: Sequence[int], workers: int, tasks: int = 0
) -> None:
    """Run one kernel on operands at these addresses."""
    words = np.array(operands, np.int64)
    row = [address, constants, workers, 0, tasks, len(words), *range(len(words))]
    table = np.array(row, np.int64)
    room = aligned_empty(launch_bytes(1, workers))
    run_steps(table.ctypes.data, 1, words.ctypes.data, room.ctypes.data, workers)
