"""One launcher for the whole package: serial kernels, called by address on the threads of a pool.

Numba's ``parallel=True`` on every kernel would cost three to four times the compile time. Here one
function walks a whole program in one call from Python and enters Numba's pool by its address.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from convforge.runtime import threads
from convforge.runtime.jit import SLOTS, compiled_address, device, embedded, host, kernel
from convforge.runtime.memory import LINE_BYTES, aligned_empty
from convforge.runtime.rawmem import load_word, store_word
from convforge.runtime.tasks import deal

_WORD = ir.IntType(64)
MAX_POINTERS = 16
"""Operands of a step, at most."""
STEP_WORDS = 6 + MAX_POINTERS
"""Words of a step in a table: entry, constants, workers, whether the step after it joins it,
tasks, number of operands and their indices."""


_ROW_BYTES = 8 * STEP_WORDS
_TASKS_AT = 8 * MAX_POINTERS
"""Offset of a step's tasks, behind its pointers."""


def _step_bytes(workers: int) -> int:
    return _TASKS_AT + LINE_BYTES * (workers + 1)


def launch_bytes(steps: int, workers: int) -> int:
    """Memory of a launch: a line, then every step's pointers and which tasks its workers do."""
    return LINE_BYTES + steps * _step_bytes(workers)


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


@intrinsic  # type: ignore[untyped-decorator]
def _fan_out(
    typing_context: Any, pool: Any, threads_now: Any, share: Any, workers: Any, data: Any
) -> Any:
    """Call ``share`` for every worker on the threads of Numba's pool.

    The pool runs loops of ufuncs: ``void share(char **args, intp *sizes, intp *steps, void *data)``
    does ``sizes[0]`` elements from ``args[0]`` on. Here an element is a worker: the address of the
    first is 0, their distance 1.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pool, threads_now, share, workers, data = values
        first, sizes, steps = (
            cgutils.alloca_once_value(builder, x) for x in (_WORD(0), workers, _WORD(1))
        )
        loop = [share, *(builder.ptrtoint(x, _WORD) for x in (first, sizes, steps)), data]
        count = ir.FunctionType(_WORD, []).as_pointer()
        run = ir.FunctionType(ir.VoidType(), [_WORD] * 8).as_pointer()
        inner_dimensions, arrays = _WORD(0), _WORD(1)
        threads = builder.call(builder.inttoptr(threads_now, count), [])
        builder.call(builder.inttoptr(pool, run), [*loop, inner_dimensions, arrays, threads])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


@embedded
def _prepare(table, count, words, room, apart):  # type: ignore[no-untyped-def]
    """Put the pointers of every step where its kernel reads them, and behind them its tasks."""
    joins = False
    for step in range(count):
        row, pointers = table + _ROW_BYTES * step, room + LINE_BYTES + apart * step
        for i in range(load_word(row + 40)):
            address = load_word(words + 8 * load_word(row + 48 + 8 * i))
            store_word(pointers + 8 * i, address)
        # A worker that goes on with what it made itself must have made its own share.
        joined = load_word(row + 24) != 0
        movable = not (joins or joined)
        deal(pointers + _TASKS_AT, load_word(row + 32), load_word(row + 16), movable)
        joins = joined


@device
def _work(row, pointers, apart, worker):  # type: ignore[no-untyped-def]
    """Do a worker's part of a step and of those that join it."""
    joined = True
    while joined:
        _call(load_word(row), load_word(row + 8), pointers, worker, pointers + _TASKS_AT)
        joined = load_word(row + 24) != 0
        row, pointers = row + _ROW_BYTES, pointers + apart


@kernel
def _share(first, sizes, steps, room):  # type: ignore[no-untyped-def]
    """What a thread of the pool does of the step that the room names: some workers' parts."""
    row, pointers, apart = load_word(room), load_word(room + 8), load_word(room + 16)
    worker = load_word(first)
    for i in range(load_word(sizes)):
        _work(row, pointers, apart, worker + i)


@host
def _walk(table, count, words, room, apart, pool, threads_now, share):  # type: ignore[no-untyped-def]
    """Run steps, the workers of each on the threads of a pool, or in turns where that is 0."""
    _prepare(table, count, words, room, apart)
    row, pointers = table, room + LINE_BYTES
    while row < table + _ROW_BYTES * count:
        workers = load_word(row + 16)
        if pool and workers > 1:
            store_word(room, row)
            store_word(room + 8, pointers)
            store_word(room + 16, apart)
            _fan_out(pool, threads_now, share, workers, room)
        else:
            for worker in range(workers):
                _work(row, pointers, apart, worker)
        joined = True
        while joined:
            joined = load_word(row + 24) != 0
            row, pointers = row + _ROW_BYTES, pointers + apart


@cache
def _share_address() -> int:
    return compiled_address(_share, SLOTS)


def run_steps(table: int, count: int, words: int, room: int, workers: int) -> None:
    """Run a program; returns when it is done. Releases the GIL.

    Args:
        table: Address of its steps, rows of :data:`STEP_WORDS` words.
        count: How many steps.
        words: Address of the addresses that the steps' operands are indices of.
        room: Address of :func:`launch_bytes` on a cache line.
        workers: The most that a step has.
    """
    what = table, count, words, room, _step_bytes(workers)
    if workers == 1 or not threads.may_fan_out():
        _walk(*what, 0, 0, 0)
    elif threads.pool_is_reentrant():
        _walk(*what, *threads.pool(), _share_address())
    else:
        with threads.pool_lock:
            _walk(*what, *threads.pool(), _share_address())


def launch(
    address: int, constants: int, operands: Sequence[int], workers: int, tasks: int = 0
) -> None:
    """Run one kernel on operands at these addresses."""
    words = np.array(operands, np.int64)
    row = [address, constants, workers, 0, tasks, len(words), *range(len(words))]
    table = np.array(row, np.int64)
    room = aligned_empty(launch_bytes(1, workers))
    run_steps(table.ctypes.data, 1, words.ctypes.data, room.ctypes.data, workers)
