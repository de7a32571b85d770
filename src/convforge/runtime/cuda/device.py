"""What the rest of the package knows of a GPU, and which devices there are.

A device is an object that allocates, loads and launches. :mod:`convforge.arrays.cupy_` has the
real one; tests put an emulated one in its place. Who makes arrays of a new kind registers how to
find their device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from convforge.contract import KernelRef, Machine


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

    def attach(self) -> None:
        """Make it ready for launches of the calling thread; done before the first of each."""

    def address(self, array: Any) -> int:
        """Where an array's first element lies in the device's memory."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """A new array, C-contiguous, whose values are whatever was there."""

    def copy(self, array: Any) -> Any:
        """A C-contiguous copy on this device."""

    def assign(self, target: Any, source: Any) -> None:
        """Write one array of this device to another of the same shape."""

    def workspace(self, nbytes: int) -> tuple[int, Any]:
        """Address of scratch memory, and what must be kept until the launches are enqueued."""

    def load(self, ref: KernelRef) -> Any:
        """A compiled kernel, ready to launch; done once for each kernel and configuration."""

    def launch(self, launches: Sequence[Launch]) -> None:
        """Enqueue launches on the current stream, one after another, and wait for none of them."""


Finder = Callable[[Any], Device | None]
_finders: list[Finder] = []


def register(finder: Finder) -> None:
    """Let a function be asked which device an array lies on; None where it does not know it."""
    _finders.append(finder)


def unregister(finder: Finder) -> None:
    """Ask it no longer."""
    _finders.remove(finder)


def device_of(array: Any) -> Device | None:
    """The device that an array lies on; None of host arrays, and of anything unknown."""
    if array.__class__ is np.ndarray:
        return None
    for finder in _finders:
        device = finder(array)
        if device is not None:
            return device
    return None
