"""From a kernel to PTX and to machine code, without a driver and without a GPU.

Numba makes the PTX, once for all devices: it is written for the oldest compute capability that
the tools know, and nvJitLink makes of it the code of each. Machine code and not PTX is what a
driver gets: an older driver of the same CUDA version loads it. Both stay on disk under a hash of
the sources, the configuration and the versions of the tools.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import inspect
import json
import os
import re
import tempfile
import threading
from dataclasses import dataclass, fields
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convforge.contract import KernelRef
from convforge.runtime.cuda.jit import CudaKernel
from convforge.runtime.paths import cache_dir

BASELINE = (7, 5)
"""Compute capability of the PTX; machine code is made for that of each device."""
_ENTRY = re.compile(r"\.visible \.entry (\S+?)\(")
_ENVIRONMENT = re.compile(r"\.common \.global [^;]*NumbaEnv[^;]*;\n")
_USED = re.compile(r"Used (\d+) registers")
_SPILLED = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_SHARED = re.compile(r"(\d+) bytes smem")
_INSTALL = (
    "install them with pip install 'convforge[cuda13]', or 'convforge[cuda12]' for a driver of "
    "CUDA 12"
)
_PACKAGES = (
    "numba",
    "numba-cuda",
    "llvmlite",
    "cuda-bindings",
    "cuda-core",
    "cuda-toolkit",
    "nvidia-nvvm",
    "nvidia-cuda-nvcc",
    "nvidia-cuda-nvcc-cu12",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-nvrtc-cu12",
    "nvidia-cuda-runtime",
    "nvidia-cuda-runtime-cu12",
)
"""What PTX is made by, as packages: the compilers, what calls them, and the headers."""
_lock = threading.RLock()


class CudaUnavailableError(RuntimeError):
    """What the GPU room needs is missing or does not fit; says what to install or change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ptx:
    """A kernel as PTX.

    Attributes:
        entry: Its name. text: The source.
    """

    entry: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A kernel as machine code, and what it takes.

    Attributes:
        entry: Its name. arch: What it runs on, such as ``sm_90``. code: A cubin.
        registers: Of a thread; 0 where the assembler does not say.
        shared_bytes: Of a block, static.
        stack_bytes: Memory of a thread that did not become registers.
        spill_bytes: What was stored and loaded because registers did not suffice.
    """

    entry: str
    arch: str
    code: bytes
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


def arch_of(compute_capability: tuple[int, int]) -> str:
    """Name of machine code for a compute capability."""
    major, minor = compute_capability
    return f"sm_{major}{minor}"


@cache
def ptx_of(ref: KernelRef) -> Ptx:
    """Compile a kernel for its configuration.

    Raises:
        CudaUnavailableError: Numba's CUDA target, or the compiler that it uses, is not installed.
    """
    kept = _kept(ref, ".ptx.json")
    found = _load(kept, Ptx)
    if found is None:
        with _lock:
            entry, text = _compile(ref)
        found = {"entry": entry, "text": text}
        _save(kept, found)
    return Ptx(**found)


@cache
def binary_of(ref: KernelRef, arch: str) -> Binary:
    """Machine code of a kernel for one kind of device, such as ``sm_90``.

    Raises:
        CudaUnavailableError: A tool is not installed, or does not know the device.
    """
    kept = _kept(ref, f".{arch}.json", _linker_version())
    found = _load(kept, Binary)
    if found is None:
        ptx = ptx_of(ref)
        code, log = _link(ptx, arch)
        used, spills = _USED.search(log), _SPILLED.search(log)
        found = {
            "entry": ptx.entry,
            "arch": arch,
            "code": base64.b64encode(code).decode(),
            "registers": int(used[1]) if used else 0,
            "shared_bytes": max(map(int, _SHARED.findall(log)), default=0),
            "stack_bytes": int(spills[1]) if spills else 0,
            "spill_bytes": int(spills[2]) + int(spills[3]) if spills else 0,
        }
        _save(kept, found)
    return Binary(**{**found, "code": base64.b64decode(found["code"])})


def _compile(ref: KernelRef) -> tuple[str, str]:
    """Entry and text of a kernel's PTX."""
    cuda = _numba_cuda()
    from convforge.runtime.jit import no_collection

    function = ref.function
    assert isinstance(function, CudaKernel)
    try:
        with no_collection():
            text, _ = cuda.compile_ptx(
                function.build(ref.config),
                _signature(function, ref.config),
                cc=BASELINE,
                launch_bounds=function.threads,
            )
    except (ImportError, OSError) as error:
        raise CudaUnavailableError(
            f"CUDA's compiler libnvvm is missing ({error}); {_INSTALL}"
        ) from None
    mangled = _ENTRY.search(text)
    assert mangled, text
    # Numba's names count what was compiled before; the text shall depend on the kernel alone.
    return ref.name, _ENVIRONMENT.sub("", text).replace(mangled[1], ref.name)


def _signature(function: CudaKernel, config: Any) -> tuple[Any, ...]:
    """Numba's types of the constants and of the pointers."""
    from numba import types
    from numba.cuda.types import float16

    index = {"i32": types.int32, "i64": types.int64}[config.index]
    elements = {
        "f16": float16,
        "bf16": types.uint16,  # its bits: see the loads and stores of the room
        "f32": types.float32,
        "f64": types.float64,
        "i8": types.int8,
        "u8": types.uint8,
        "i16": types.int16,
        "i32": types.int32,
        "i64": types.int64,
    }
    constants = types.NamedUniTuple(index, len(function.constants.fields), function.constants.type)
    return constants, *(types.CPointer(elements[dtype]) for dtype in config.pointers)


def _link(ptx: Ptx, arch: str) -> tuple[bytes, str]:
    """Machine code, and what its assembler says of it."""
    linker = _linker()
    oldest = f"sm_{BASELINE[0]}{BASELINE[1]}"
    refusal = (
        f"nvJitLink {_linker_version()} makes no code for {arch} of {ptx.entry} ({oldest} or newer "
        "is needed; for a newer one, upgrade nvidia-nvjitlink, or nvidia-nvjitlink-cu12 of CUDA 12)"
    )
    try:
        handle = linker.create(2, [f"-arch={arch}", "-verbose"])
    except linker.nvJitLinkError as error:
        raise CudaUnavailableError(f"{refusal}: {error}") from None
    try:
        source = ptx.text.encode()
        try:
            linker.add_data(handle, linker.InputType.PTX, source, len(source), ptx.entry)
            linker.complete(handle)
        except linker.nvJitLinkError as error:
            said = bytearray(linker.get_error_log_size(handle))
            linker.get_error_log(handle, said)
            raise CudaUnavailableError(f"{refusal}: {said.decode().strip() or error}") from None
        log = bytearray(linker.get_info_log_size(handle))
        linker.get_info_log(handle, log)
        code = bytearray(linker.get_linked_cubin_size(handle))
        linker.get_linked_cubin(handle, code)
    finally:
        linker.destroy(handle)
    return bytes(code), log.decode()


def _numba_cuda() -> Any:
    # Without it, numba.cuda is Numba's own, older one, which fails later and in other words.
    if find_spec("numba_cuda") is None:
        raise CudaUnavailableError(f"numba-cuda is not installed; {_INSTALL}")
    try:
        from numba import cuda
    except ImportError as error:
        raise CudaUnavailableError(f"numba-cuda is not installed ({error}); {_INSTALL}") from None
    if not hasattr(cuda, "compile_ptx"):
        raise CudaUnavailableError(
            "numba.cuda is its simulator, which compiles nothing: unset NUMBA_ENABLE_CUDASIM"
        )
    return cuda


def _linker() -> Any:
    try:
        from cuda.bindings import nvjitlink

        nvjitlink.version()
    except (ImportError, RuntimeError, OSError) as error:
        raise CudaUnavailableError(f"nvJitLink is not installed ({error}); {_INSTALL}") from None
    return nvjitlink


@cache
def _linker_version() -> str:
    return ".".join(map(str, _linker().version()))


def toolkit_major() -> int:
    """CUDA's version that machine code is made by; a driver must be of it or newer.

    Raises:
        CudaUnavailableError: There is no such tool.
    """
    return int(_linker().version()[0])


@cache
def _stamp(folder: Path) -> bytes:
    """Hash of everything that the code of a room's kernels is made of."""
    digest = hashlib.blake2b(digest_size=16)
    for room in (folder, folder.parent, Path(__file__).resolve().parent):
        for path in sorted(room.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    for tool in _tools():
        digest.update(tool.encode())
    return digest.digest()


@cache
def _tools() -> tuple[str, ...]:
    """Everything that makes PTX, with its version."""
    found = []
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}")
    with contextlib.suppress(ImportError, AttributeError, KeyError, TypeError, OSError):
        from numba.cuda.cuda_paths import get_cuda_paths

        # Numba may have found them in a toolkit of the system, which is no package.
        for library in ("nvvm", "libdevice"):
            path = Path(get_cuda_paths()[library].info).resolve()
            facts = path.stat()
            found.append(f"{path} {facts.st_size} {facts.st_mtime_ns}")
    return tuple(found)


def _kept(ref: KernelRef, suffix: str, *versions: str) -> Path:
    """Where the result for a kernel and its configuration is kept."""
    function = ref.function
    assert isinstance(function, CudaKernel)
    source = Path(inspect.getfile(function.build)).resolve()
    digest = hashlib.blake2b(_stamp(source.parent), digest_size=16)
    digest.update(repr((source.name, ref.config, function.threads, BASELINE, *versions)).encode())
    return cache_dir() / "cuda" / f"{ref.name}-{digest.hexdigest()}{suffix}"


def _load(path: Path, kind: type[Ptx | Binary]) -> dict[str, Any] | None:
    """What was kept of an object; None if nothing was, or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and found.keys() == {field.name for field in fields(kind)}
    return found if whole else None


def _save(path: Path, values: dict[str, Any]) -> None:
    """Keep it if the disk allows; readers see all of it or nothing."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file)
        Path(name).replace(path)
