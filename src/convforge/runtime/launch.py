"""One launcher for the whole package: serial kernels, called by address from parallel workers.

``parallel=True`` on every kernel would cost three to four times the compile time. Here one
parallel loop is compiled once and cached; a launch costs about a microsecond.
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

_WORD = ir.IntType(64)


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
def serial(address, constants, pointers, workers):  # type: ignore[no-untyped-def]
    """Run the workers one after another on this thread."""
    for worker in range(workers):
        _call(address, constants, pointers, worker, workers)


@cached(parallel=True)
def parallel(address, constants, pointers, workers):  # type: ignore[no-untyped-def]
    """Run the workers on the threads of Numba's pool."""
    for worker in numba.prange(workers):
        _call(address, constants, pointers, np.int64(worker), workers)


def launch(address: int, constants: int, pointers: int, workers: int) -> None:
    """Run a kernel's workers; returns when all are done. Releases the GIL."""
    if workers == 1 or not threads.may_fan_out():
        serial(address, constants, pointers, workers)
    elif threads.pool_is_reentrant():
        parallel(address, constants, pointers, workers)
    else:
        with threads.pool_lock:
            parallel(address, constants, pointers, workers)
