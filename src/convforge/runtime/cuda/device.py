"""What the rest of the package knows of a GPU, and which devices there are.

A device is an object that allocates, loads and launches. :mod:`convforge.arrays.cupy_` has the
real one; tests put an emulated one in its place. Who makes arrays of a new kind registers a
:class:`Provider`, which knows their devices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from convforge.contract import KernelRef, Machine


class DeviceMemoryError(MemoryError):
    """A device has no memory left for an array; says how much was wanted, and what may help."""


class Launch(NamedTuple):
    """One launch of a program, ready but for the values that its parameters point at.

    Attributes:
        function: What :meth:`Device.load` gave for the kernel.
        blocks, threads: Extents of the grid and of a block, in one dimension.
        shared_bytes: Dynamic shared memory of a block.
        parameters: Address of a table of the addresses of the kernel's parameters.
    """

    function: Any
    blocks: int
    threads: int
    shared_bytes: int
    parameters: int


class Device(Hashable, Protocol):
    """A GPU, with its arrays and its memory. Everything happens on the caller's current stream."""

    @property
    def name(self) -> str:
        """What messages call it: ``cuda:0``."""

    @property
    def machine(self) -> Machine:
        """What kernels may know of it."""

    @property
    def namespace(self) -> Any:
        """NumPy's functions, under its names, for arrays of this device."""

    def current(self) -> AbstractContextManager[Any]:
        """Inside, :attr:`namespace` makes its arrays on this device and not on another one."""

    def facts(self) -> dict[str, Any]:
        """What records say of it: its name, its architecture, its driver."""

    def attach(self) -> None:
        """Make it ready for launches of the calling thread; done before the first of each."""

    def address(self, array: Any) -> int:
        """Where an array's first element lies in the device's memory."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """A new array, C-contiguous, whose values are whatever was there.

        Raises:
            DeviceMemoryError: There is no room for it; of everything here that allocates.
        """

    def copy(self, array: Any) -> Any:
        """A C-contiguous copy on this device."""

    def put(self, array: np.ndarray) -> Any:
        """A copy of a host array on this device."""

    def get(self, array: Any) -> np.ndarray:
        """A copy in host memory of an array of this device; waits until it is computed."""

    def assign(self, target: Any, source: Any) -> None:
        """Write one array of this device to another of the same shape."""

    def workspace(self, nbytes: int) -> tuple[int, Any]:
        """Address of scratch memory, and what must be kept until the launches are enqueued."""

    def load(self, ref: KernelRef) -> Any:
        """A compiled kernel, ready to launch; done once for each kernel and configuration."""

    def launch(self, launches: Sequence[Launch]) -> None:
        """Enqueue launches on the current stream, one after another, and wait for none of them."""


class Provider(NamedTuple):
    """Who makes arrays of a kind: CuPy, or the emulator of the tests.

    Attributes:
        find: The device that an array lies on; None of arrays of other kinds.
        open: The device of a name such as ``cuda:0``; None of names that are not its own.
        take: An array of its kind over the memory of another library's, which is not copied; None
            where that memory is not its own.
    """

    find: Callable[[Any], Device | None]
    open: Callable[[str], Device | None]
    take: Callable[[Any], Any]


_providers: list[Provider] = []


def register(provider: Provider) -> None:
    """Let a provider be asked about arrays and names, before those that came earlier."""
    _providers.insert(0, provider)


def unregister(provider: Provider) -> None:
    """Ask it no longer."""
    _providers.remove(provider)


def providers() -> tuple[Provider, ...]:
    """Those that are asked, in this order."""
    return tuple(_providers)


def device_of(array: Any) -> Device | None:
    """The device that an array lies on; None of host arrays, and of anything unknown."""
    if array.__class__ is np.ndarray:
        return None
    for provider in _providers:
        device = provider.find(array)
        if device is not None:
            return device
    return None
