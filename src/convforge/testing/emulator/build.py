"""C++ to a shared object, kept on disk under a hash of all that it depends on."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from convforge.runtime.paths import cache_dir

_SOURCES = Path(__file__).parent / "cpp"
_FLAGS = (
    *("-std=gnu++17", "-fPIC", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off", "-w"),
    # Jumps between fibers look like jumps into dead frames to the hardened longjmp.
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0"),
)


def unavailable() -> str | None:
    """Why nothing can be emulated here, or None."""
    if platform.system() != "Linux":
        return f"the GPU emulator's fibers are Linux's; this is {platform.system()}"
    if compiler() is None:
        return "no g++ on PATH: the GPU emulator compiles what it runs"
    return None


@cache
def compiler() -> str | None:
    """The path of the C++ compiler."""
    return shutil.which("g++")


@cache
def _compiler_version() -> str:
    path = compiler()
    if path is None:
        raise RuntimeError(unavailable())
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return done.stdout


@cache
def _runtime_stamp() -> str:
    """Changes with the emulator's own sources, the compiler and its flags."""
    stamp = hashlib.blake2b(_compiler_version().encode(), digest_size=16)
    stamp.update(" ".join(_FLAGS).encode())
    for path in sorted(_SOURCES.iterdir()):
        stamp.update(path.name.encode() + path.read_bytes())
    return stamp.hexdigest()


def build(source: str) -> Path:
    """The shared object of translated C++; compiled unless an earlier one is kept.

    Raises:
        RuntimeError: There is no compiler, or it refuses the source.
    """
    runtime = _kept(_runtime_stamp(), "o", _compile_runtime)
    stamp = hashlib.blake2b((_runtime_stamp() + source).encode(), digest_size=16).hexdigest()

    def compile_module(target: Path) -> None:
        text = target.with_suffix(".cpp")
        text.write_text(source, encoding="utf-8")
        _run("-O1", "-shared", f"-I{_SOURCES}", str(text), str(runtime), "-o", str(target))

    return _kept(stamp, "so", compile_module)


def _compile_runtime(target: Path) -> None:
    _run("-O2", "-c", str(_SOURCES / "runtime.cpp"), "-o", str(target))


def _kept(stamp: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """The file of this name, made in a directory of its own and moved there whole.

    Of several processes that want it one makes it, and the others wait.
    """
    folder = cache_dir() / "emulator"
    wanted = folder / f"{stamp}.{suffix}"
    if wanted.exists():
        return wanted
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{stamp}.lock"):
        if not wanted.exists():
            with tempfile.TemporaryDirectory(dir=folder) as temporary:
                made = Path(temporary) / f"module.{suffix}"
                make(made)
                made.replace(wanted)
    return wanted


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process dies."""
    import fcntl  # of Unix alone

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*arguments: str) -> None:
    path = compiler()
    if path is None:
        raise RuntimeError(unavailable())
    done = subprocess.run([path, *_FLAGS, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{path} refuses translated PTX:\n{done.stderr[:4000]}")
