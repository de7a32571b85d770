"""Arrays of CuPy, and the GPUs they lie on. Imported only where the caller has imported CuPy."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cupy
import numpy as np
from cupy.cuda import Device as Current
from cupy.cuda import alloc, get_current_stream, runtime
from cupy.cuda.memory import OutOfMemoryError
from cupy_backends.cuda.api import driver

from convforge.contract import KernelRef, Machine
from convforge.runtime.cuda import device
from convforge.runtime.cuda.compiler import CudaUnavailableError, arch_of, binary_of, toolkit_major
from convforge.runtime.cuda.device import DeviceMemoryError, Launch, Provider

_UNASKED_SHARED_BYTES = 48 << 10
"""Shared memory of a block, static and dynamic, that a kernel has without asking the driver."""
_gpus: dict[int, CupyDevice] = {}
_lock = threading.RLock()


class CupyDevice:
    """One GPU, through CuPy: its memory pool, its module loader, its current stream.

    Attributes:
        name: ``cuda:`` and the number that CuPy gives it. machine: What kernels may know.
    """

    def __init__(self, number: int) -> None:
        _require_driver()
        if number >= runtime.getDeviceCount():
            raise ValueError(
                f"there is no cuda:{number}: the driver sees {runtime.getDeviceCount()} GPUs"
            )
        self.number = number
        self.name = f"cuda:{number}"
        facts = runtime.getDeviceProperties(number)
        self.machine = Machine(
            device="cuda",
            isa=arch_of((facts["major"], facts["minor"])),
            vector_bytes=16,
            registers=255,
            threads=facts["multiProcessorCount"],
            l1_bytes=facts["sharedMemPerBlockOptin"],
            l2_bytes=facts["l2CacheSize"],
            l3_bytes=facts["l2CacheSize"],
        )
        self._modules: dict[KernelRef, Any] = {}
        self._loading = threading.Lock()

    def __repr__(self) -> str:
        return self.name

    @property
    def namespace(self) -> Any:
        """CuPy itself."""
        return cupy

    def current(self) -> Current:
        """CuPy's current device, inside."""
        return Current(self.number)

    def __reduce__(self) -> tuple[Any, ...]:
        return gpu, (self.number,)

    def facts(self) -> dict[str, Any]:
        """What the driver says of the GPU and of itself."""
        facts = runtime.getDeviceProperties(self.number)
        name = facts["name"]
        return {
            "name": name.decode() if isinstance(name, bytes) else name,
            "arch": self.machine.isa,
            "multiprocessors": facts["multiProcessorCount"],
            "memory_bytes": facts["totalGlobalMem"],
            "l2_bytes": facts["l2CacheSize"],
            "driver_cuda": runtime.driverGetVersion(),
            "driver": _driver_version(),
            "runtime_cuda": runtime.runtimeGetVersion(),
        }

    def attach(self) -> None:
        """Make the device's context current: a new thread has none, and the driver makes none."""
        self._here(self._attach)

    def _attach(self) -> None:
        runtime.setDevice(self.number)
        runtime.memGetInfo()  # any call of the runtime that needs a context

    def address(self, array: Any) -> int:
        """Where an array's first element lies."""
        return int(array.data.ptr)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """A new array from the pool."""
        return self._allocated(cupy.empty, shape, dtype)

    def copy(self, array: Any) -> Any:
        """A C-contiguous copy on this device."""
        return self._allocated(cupy.array, array, order="C")

    def put(self, array: np.ndarray) -> Any:
        """A copy of a host array, through pinned memory of CuPy's; waits for the copy."""
        return self._allocated(cupy.array, array, order="K", blocking=True)

    def get(self, array: Any) -> np.ndarray:
        """A copy in host memory."""
        return self._here(array.get, order="A")  # type: ignore[no-any-return]

    def assign(self, target: Any, source: Any) -> None:
        """Write one array to another of the same shape."""
        self._here(cupy.copyto, target, source)

    def workspace(self, nbytes: int) -> tuple[int, Any]:
        """Scratch memory from the pool.

        It may go back as soon as the launches are enqueued: the pool gives it again to what is
        enqueued behind them on the same stream, and to nobody else.
        """
        memory = self._allocated(alloc, nbytes)
        return int(memory.ptr), memory

    def load(self, ref: KernelRef) -> Any:
        """A compiled kernel in this device's context."""
        # Once, whoever asks: a module that is replaced would take its functions with it.
        with self._loading:
            kept = self._modules.get(ref)
            if kept is None:
                kept = self._modules[ref] = self._here(self._load, ref)
        return kept[1]

    def _load(self, ref: KernelRef) -> tuple[Any, int]:
        self._attach()
        binary = binary_of(ref, self.machine.isa)
        module = cupy.cuda.function.Module()
        try:
            module.load(binary.code)
        except driver.CUDADriverError as error:
            raise CudaUnavailableError(
                f"{self.name} does not load {binary.entry}, code for {binary.arch} made by CUDA "
                f"{toolkit_major()}: {error}; update the driver, or install the compiler of an "
                "older CUDA"
            ) from error
        function = module.get_function(binary.entry)
        shared = getattr(ref.config, "shared_bytes", 0)
        if binary.shared_bytes + shared > _UNASKED_SHARED_BYTES:
            attribute = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(function.ptr, attribute, shared)
        # The module owns the code: it must live as long as the function.
        return (module, function), int(function.ptr)

    def launch(self, launches: Sequence[Launch]) -> None:
        """Enqueue on the current stream of this device."""
        if runtime.getDevice() == self.number:
            self._launch(launches)
        else:
            self._here(self._launch, launches)

    def _launch(self, launches: Sequence[Launch]) -> None:
        stream = get_current_stream().ptr
        for function, blocks, threads, shared, parameters in launches:
            driver.launchKernel(
                function, blocks, 1, 1, threads, 1, 1, shared, stream, parameters, 0
            )

    def _allocated(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """:meth:`_here`, for calls that take memory of the pool."""
        try:
            return self._here(call, *arguments, **keywords)
        except OutOfMemoryError as error:
            free, total = self._here(runtime.memGetInfo)
            raise DeviceMemoryError(
                f"{self.name} has no memory left: {error}; of its {total} bytes {free} are free "
                "beside CuPy's pool (cupy.get_default_memory_pool().free_all_blocks() gives back "
                "what the pool keeps unused)"
            ) from error

    def _here(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call with this device current."""
        if runtime.getDevice() == self.number:
            return call(*arguments, **keywords)
        with Current(self.number):
            return call(*arguments, **keywords)


def gpu(number: int) -> CupyDevice:
    """The device of this number; always the same object.

    Raises:
        CudaUnavailableError: There is no driver, no GPU, or a driver older than the compiler.
        ValueError: No GPU has this number.
    """
    with _lock:
        if number not in _gpus:
            _gpus[number] = CupyDevice(number)
        return _gpus[number]


def find(array: Any) -> CupyDevice | None:
    """The device of an array of CuPy's."""
    return gpu(array.device.id) if isinstance(array, cupy.ndarray) else None


def open_(name: str) -> CupyDevice | None:
    """The device called ``cuda``, which is CuPy's current one, or ``cuda:1``."""
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        return None
    _require_driver()
    return gpu(int(number) if colon else runtime.getDevice())


def take(value: Any) -> Any:
    """CuPy's array over the memory of another library's, by DLPack or CUDA's own protocol.

    Both bring the stream that the array was written on, and CuPy's waits for it.
    """
    _require_driver()
    if hasattr(value, "__dlpack__"):
        return cupy.from_dlpack(value)
    return cupy.asarray(value)


def _driver_version() -> str | None:
    """The driver's own number, where the system tells it."""
    try:
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    found = re.search(r"\d+\.\d+(\.\d+)*", first)
    return found[0] if found else None


def _require_driver() -> None:
    """Raise unless there is a driver with a GPU, and it loads what the compiler makes."""
    try:
        version = runtime.driverGetVersion()
    except runtime.CUDARuntimeError as error:
        raise CudaUnavailableError(f"no NVIDIA driver answers ({error}); install one") from None
    if version == 0:
        raise CudaUnavailableError("there is no NVIDIA driver on this machine; install one")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise CudaUnavailableError(f"the NVIDIA driver sees no GPU ({error})") from None
    if count == 0:
        raise CudaUnavailableError("the NVIDIA driver sees no GPU")
    if version // 1000 < toolkit_major():
        raise CudaUnavailableError(
            f"the driver is one of CUDA {version // 1000}, the compiler that is installed is of "
            f"CUDA {toolkit_major()}: pip install 'convforge[cuda{version // 1000}]', or update "
            "the driver"
        )


PROVIDER = Provider(find, open_, take)
device.register(PROVIDER)
