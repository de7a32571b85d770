"""How many threads, which pool, and what happens after a fork.

OpenMP is the default pool: it is safe for several Python threads and stays fast next to the
spinning workers of PyTorch. It kills a forked child at its first parallel call, so a child runs
serially; Numba's workqueue aborts when two threads enter it, so it stands behind a lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import operator
import os
import sys
import threading
from functools import cache
from pathlib import Path

import numba
from llvmlite import binding

pool_lock = threading.Lock()
_forked = False
_num_threads: int | None = None


def _after_fork_in_child() -> None:
    global _forked, pool_lock
    _forked = True
    pool_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def get_num_threads() -> int:
    """Threads that one call may use; all of Numba's unless :func:`set_num_threads` said less."""
    return _num_threads or int(numba.config.NUMBA_NUM_THREADS)


def set_num_threads(count: int) -> None:
    """Limit the threads of later calls, for the whole process.

    Results do not depend on it. The pool itself is sized once by ``NUMBA_NUM_THREADS``.

    Raises:
        TypeError: Not a whole number.
        ValueError: Not between 1 and the size of the pool.
    """
    global _num_threads
    try:
        count = operator.index(count)
    except TypeError:
        raise TypeError(f"num_threads is {count!r}; wanted a whole number") from None
    most = int(numba.config.NUMBA_NUM_THREADS)
    if not 1 <= count <= most:
        raise ValueError(
            f"num_threads is {count}; wanted 1 to {most} (the pool's size, NUMBA_NUM_THREADS)"
        )
    _num_threads = count


def may_fan_out() -> bool:
    """False in a forked child, whose OpenMP runtime would kill it at a parallel call."""
    return not _forked


@cache
def layer() -> str:
    """Name of the threading layer in use: omp unless the environment names another."""
    if not os.environ.get("NUMBA_THREADING_LAYER"):
        numba.config.THREADING_LAYER = "omp"
    elif numba.config.THREADING_LAYER == "tbb":
        _load_tbb()
    numba.set_num_threads(int(numba.config.NUMBA_NUM_THREADS))  # starts the pool
    return str(numba.threading_layer())


def _load_tbb() -> None:
    """Make the library of the ``tbb`` wheel visible: Numba looks for it by name only."""
    path = Path(sys.prefix) / "lib" / "libtbb.so.12"
    if path.exists():
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


@cache
def pool_is_reentrant() -> bool:
    """Whether several Python threads may enter the pool at once."""
    return layer() in ("omp", "tbb")


@cache
def pool() -> tuple[int, int]:
    """Addresses of the pool's functions: run a loop on its threads; how many there are now."""
    layer()
    return tuple(
        binding.address_of_symbol(name) for name in ("numba_parallel_for", "get_num_threads")
    )
