"""A GPU that is not there: arrays in its memory, and launches that run on the emulator.

Under :func:`emulated_device`, arrays of such a device go into :mod:`convforge.functional`, take the
way that CuPy's arrays take, and run the same PTX, one launch after another::

    with emulated_device() as device:
        y = conv2d(device.asarray(x), device.asarray(w), padding=1)
        y.get()  # a NumPy array

Its arrays compute as CuPy's do (:mod:`convforge.testing.device_arrays`), so that layers and
optimisers run on it too.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from convforge.contract import KernelRef, Machine
from convforge.runtime.cuda import device as devices
from convforge.runtime.cuda.compiler import ptx_of
from convforge.runtime.cuda.device import DeviceMemoryError, Launch, Provider
from convforge.testing.device_arrays import Array, EmulatedArray, EmulatedNamespace
from convforge.testing.emulator import Emulated, EmulatedKernel, unavailable

_POISON = 0xFF
"""NaN in every floating-point type when all bytes hold it."""


class EmulatedDevice:
    """A device of :mod:`convforge.runtime.cuda.device` whose multiprocessors are this CPU.

    Memory that nothing was written to is NaN, and an access outside every array that is alive, or
    a write to a read-only one, is an error of the launch.

    Attributes:
        name: What messages call it. machine: A GPU of compute capability 9.0.
        order: In which order threads run.
        launches: Names of the kernels that ran, in order.
        capacity: Bytes that a new array may have; None is no limit.
    """

    name = "emulated:0"
    machine = Machine(
        device="cuda",
        isa="sm_90",
        vector_bytes=16,
        registers=255,
        threads=4,
        l1_bytes=227 << 10,
        l2_bytes=1 << 20,
        l3_bytes=1 << 20,
    )

    def __init__(self) -> None:
        self.order: Literal["forward", "backward"] | int = "forward"
        self.launches: list[str] = []
        self.capacity: int | None = None
        self._alive: dict[int, weakref.ref[Array]] = {}

    def __repr__(self) -> str:
        return self.name

    def __deepcopy__(self, memo: dict[int, Any]) -> EmulatedDevice:
        return self

    @property
    def namespace(self) -> EmulatedNamespace:
        """NumPy's functions, as far as CuPy has them, on arrays of this device alone."""
        return EmulatedNamespace(self)

    def current(self) -> AbstractContextManager[Any]:
        """Its arrays know where they lie."""
        return nullcontext()

    def facts(self) -> dict[str, Any]:
        """That it is none."""
        return {"name": "emulated", "arch": self.machine.isa}

    def find(self, array: Any) -> EmulatedDevice | None:
        """This device, of an array that lies on it."""
        return self if isinstance(array, EmulatedArray) and array.device is self else None

    def open(self, name: str) -> EmulatedDevice | None:
        """This device, by its name."""
        return self if name == self.name else None

    def take(self, value: Any) -> EmulatedArray | None:
        """An array over memory of this device that another library's array lies in."""
        interface = getattr(value, "__cuda_array_interface__", {})
        address, _ = interface.get("data", (0, True))
        for reference in list(self._alive.values()):
            owner = reference()
            if owner is not None and 0 <= address - owner.ctypes.data < max(owner.nbytes, 1):
                view = np.ndarray(
                    interface["shape"],
                    interface["typestr"],
                    owner,
                    address - owner.ctypes.data,
                    interface.get("strides"),
                )
                return EmulatedArray(self, view, owner)
        return None

    def put(self, array: Array) -> EmulatedArray:
        """A copy of a host array on this device."""
        return self.asarray(array)

    def get(self, array: EmulatedArray) -> Array:
        """A copy in host memory."""
        return array.get()

    def asarray(self, array: Array) -> EmulatedArray:
        """A copy of a NumPy array on this device, with the same strides."""
        return self.adopt(array.copy(order="K"))

    def adopt(self, memory: Array) -> EmulatedArray:
        """A NumPy array's own memory as memory of this device."""
        # A view of its own, which lives as long as the device's array and its views do.
        owner = memory.view()
        key = id(owner)
        self._alive[key] = weakref.ref(owner, lambda _: self._alive.pop(key, None))
        return EmulatedArray(self, owner, owner)

    def attach(self) -> None:
        """A CPU needs no context."""

    def address(self, array: EmulatedArray) -> int:
        """Where an array's first element lies."""
        return int(array._memory.ctypes.data)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> EmulatedArray:
        """A new array of NaN."""
        array = np.empty(shape, dtype)
        if self.capacity is not None and array.nbytes > self.capacity:
            raise DeviceMemoryError(f"{self.name} has no memory left for {array.nbytes} bytes")
        array.reshape(-1).view(np.uint8)[...] = _POISON
        return self.adopt(array)

    def copy(self, array: EmulatedArray) -> EmulatedArray:
        """A C-contiguous copy."""
        return self.adopt(array._memory.copy(order="C"))

    def assign(self, target: EmulatedArray, source: EmulatedArray) -> None:
        """Write one array to another of the same shape."""
        target._memory[...] = source._memory

    def workspace(self, nbytes: int) -> tuple[int, Any]:
        """Scratch memory of NaN."""
        array = self.empty((nbytes,), np.dtype(np.uint8))
        return self.address(array), array

    def load(self, ref: KernelRef) -> EmulatedKernel:
        """A compiled kernel."""
        return _emulated(ref)

    def launch(self, launches: Sequence[Launch]) -> None:
        """Run launches to their end, one after another."""
        for launch in launches:
            kernel: EmulatedKernel = launch.function
            sizes = kernel.parameter_sizes
            table = (ctypes.c_uint64 * len(sizes)).from_address(launch.parameters)
            # Of a copy: arrays come and go in other threads.
            references = list(self._alive.values())
            alive = [array for array in (ref() for ref in references) if array is not None]
            kernel(
                grid=(launch.blocks, 1, 1),
                block=(launch.threads, 1, 1),
                arguments=[ctypes.string_at(at, n) for at, n in zip(table, sizes, strict=True)],
                memory=[array for array in alive if array.size],
                dynamic_shared_bytes=launch.shared_bytes,
                order=self.order,
            )
            self.launches.append(kernel.name)


@cache
def _emulated(ref: KernelRef) -> EmulatedKernel:
    ptx = ptx_of(ref)
    return Emulated(ptx.text)[ptx.entry]


@contextmanager
def emulated_device() -> Iterator[EmulatedDevice]:
    """A device whose arrays the whole package takes, as long as this lasts."""
    device = EmulatedDevice()
    provider = Provider(device.find, device.open, device.take)
    devices.register(provider)
    try:
        yield device
    finally:
        devices.unregister(provider)


def missing() -> str | None:
    """Why there is no emulated device here, or None."""
    if not all(map(find_spec, ("numba_cuda", "cuda"))):
        return "no CUDA compiler wheels: pip install 'convforge[gpucheck]'"
    return unavailable()
