"""A GPU that is not there: arrays in its memory, and launches that run on the emulator.

Under :func:`emulated_device`, arrays of such a device go into :mod:`convforge.functional`, take the
way that CuPy's arrays take, and run the same PTX, one launch after another::

    with emulated_device() as device:
        y = conv2d(device.asarray(x), device.asarray(w), padding=1)
        y.get()  # a NumPy array
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convforge.contract import KernelRef, Machine
from convforge.runtime.cuda import device as devices
from convforge.runtime.cuda.compiler import ptx_of
from convforge.runtime.cuda.device import Launch
from convforge.testing.emulator import Emulated, EmulatedKernel, unavailable

Array = NDArray[Any]
_POISON = 0xFF
"""NaN in every floating-point type when all bytes hold it."""


class EmulatedArray:
    """An array in the memory of an emulated device. NumPy refuses it, as it refuses CuPy's.

    Attributes:
        device: Where it lies.
    """

    def __init__(self, device: EmulatedDevice, memory: Array, owner: Array) -> None:
        self.device = device
        self._memory = memory
        # Of a view, NumPy keeps the memory, but not the array that the device knows it by.
        self._owner = owner

    def __repr__(self) -> str:
        return f"<array of {self.shape} {self.dtype} on {self.device}>"

    shape = property(lambda self: self._memory.shape, doc="Extents.")
    strides = property(lambda self: self._memory.strides, doc="Steps in bytes.")
    dtype = property(lambda self: self._memory.dtype, doc="NumPy's type of the elements.")
    ndim = property(lambda self: self._memory.ndim, doc="Number of axes.")
    size = property(lambda self: self._memory.size, doc="Number of elements.")
    itemsize = property(lambda self: self._memory.itemsize, doc="Bytes of an element.")
    nbytes = property(lambda self: self._memory.nbytes, doc="Bytes of all elements.")
    flags = property(lambda self: self._memory.flags, doc="NumPy's flags of the memory.")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self._memory.ctypes.data, not self.flags.writeable),
            "version": 3,
        }

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError("the array is in the memory of a device; get() copies it to the host")

    def __getitem__(self, key: Any) -> EmulatedArray:
        return EmulatedArray(self.device, self._memory[key], self._owner)

    def transpose(self, *axes: Any) -> EmulatedArray:
        """A view with its axes permuted."""
        return EmulatedArray(self.device, self._memory.transpose(*axes), self._owner)

    def get(self) -> Array:
        """A copy in host memory."""
        return self._memory.copy()


class EmulatedDevice:
    """A device of :mod:`convforge.runtime.cuda.device` whose multiprocessors are this CPU.

    Memory that nothing was written to is NaN, and an access outside every array that is alive, or
    a write to a read-only one, is an error of the launch.

    Attributes:
        name: What messages call it. machine: A GPU of compute capability 9.0.
        order: In which order threads run.
        launches: Names of the kernels that ran, in order.
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
        self._alive: dict[int, weakref.ref[Array]] = {}

    def __repr__(self) -> str:
        return self.name

    def find(self, array: Any) -> EmulatedDevice | None:
        """This device, of an array that lies on it."""
        return self if isinstance(array, EmulatedArray) and array.device is self else None

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
        array.view(np.uint8).reshape(-1)[...] = _POISON if array.ndim else 0
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
    devices.register(device.find)
    try:
        yield device
    finally:
        devices.unregister(device.find)


def missing() -> str | None:
    """Why there is no emulated device here, or None."""
    if not all(map(find_spec, ("numba_cuda", "cuda"))):
        return "no CUDA compiler wheels: pip install 'convforge[gpucheck]'"
    return unavailable()
