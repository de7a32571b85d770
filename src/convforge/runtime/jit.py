"""Compile serial kernels once per configuration and keep them on disk.

A kernel is an ordinary njit function of ``(config, constants, pointers, worker, work)``: a
singleton whose Numba *type* carries the configuration, then four int64. Configuration in a type,
unlike a factory's closure, lets the disk cache hit. The stamp of the cache is a hash of every
file of the kernel's room, because Numba does not see a change in another file.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import inspect
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from convforge.contract import KernelRef
from convforge.runtime.compiler import KernelCompiler, PartCompiler, rebuild_part
from convforge.runtime.paths import cache_dir

SLOTS = (types.intp, types.intp, types.intp, types.intp)
_compile_lock = threading.RLock()


@cache
def _stamp(folder: Path) -> str:
    """Hash of all sources of a room."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _place(file: str) -> tuple[str, str, Path]:
    """Of a source: its real path, the stamp of its room, and the folder of its compiled code."""
    source = Path(file).resolve()
    stamp = _stamp(source.parent) + _stamp(Path(__file__).resolve().parent)
    folder = cache_dir() / "jit" / hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()
    return str(source), stamp, folder


class _Locator(_CacheLocator):  # type: ignore[misc]  # Numba ships no types
    """Put compiled code under :func:`cache_dir`, one folder per stamp of the sources."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._py_file, self._stamp, self._folder = _place(inspect.getfile(function))
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func)


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """Numba's cache that takes a damaged file for a missing one and compiles again."""

    _impl_class = _CacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()


class _PartCacheImpl(_CacheImpl):
    def rebuild(self, target_context: Any, payload: Any) -> Any:
        return rebuild_part(target_context, payload)


class _PartCache(_KernelCache):
    _impl_class = _PartCacheImpl


def _decorator(
    compiler: type[KernelCompiler], cache: type[_KernelCache], **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with these options and the room-stamped disk cache."""

    def decorate(function: Callable[..., Any]) -> Any:
        jit = numba.njit(nogil=True, error_model="numpy", pipeline_class=compiler, **options)
        dispatcher = jit(function)
        if not numba.config.DISABLE_JIT:
            dispatcher._cache = cache(function)
        return dispatcher

    return decorate


_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
host = _decorator(KernelCompiler, _KernelCache, no_cfunc_wrapper=True)
"""Decorator of functions that Python calls."""
kernel = _decorator(KernelCompiler, _KernelCache, no_cpython_wrapper=True)
"""Decorator of kernels, which are called by address."""
device = _decorator(PartCompiler, _PartCache, **_NO_WRAPPERS)
"""Decorator of the functions that kernels call."""
inlined = _decorator(PartCompiler, _PartCache, **_NO_WRAPPERS, forceinline=True)
"""The same for what an inner loop calls: a call would pass vectors and tuples through memory."""
embedded = _decorator(PartCompiler, _PartCache, **_NO_WRAPPERS, inline="always")
"""The same for those with a single caller: typed and lowered as a part of it, in less time."""


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Collect no garbage: looking among the compiler's objects, which live on, takes a tenth."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def compiled_address(function: Any, signature: tuple[Any, ...]) -> int:
    """Entry point, in the C calling convention, of a compiled function."""
    with _compile_lock, no_collection():
        function.compile(signature)
        compiled = function.overloads[signature]
        address: int = compiled.library.get_pointer_to_function(
            compiled.fndesc.llvm_cfunc_wrapper_name
        )
    return address


@cache
def address_of(ref: KernelRef) -> int:
    """Entry point of a kernel compiled for its configuration."""
    return compiled_address(ref.function, (numba.typeof(ref.config), *SLOTS))
