"""Kernels of the GPU: what a kernel file says about one.

A kernel is written as a function of its configuration that returns the function to compile: what
it takes from outside (types, tile sizes) is a constant of the compiled code. ::

    SCALE = Constants("Scale", "count step")

    @kernel(SCALE, threads=128, registers={"f32": 32})
    def scale(config):
        index, load, store = index_type(config), loader(config.x, config.acc), storer(config.y)

        def scale(g, x, y):
            i = index(cuda.blockIdx.x * 128 + cuda.threadIdx.x)
            if i < g.count:
                store(y, i, 2 * load(x, index(i * g.step)))

        return scale

Its parameters are the constants, by value, and then a pointer for each operand of its step. A
step's ``tasks`` are the blocks of its grid.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

MOST_INT32 = 2**31 - 1
_INDEX_DTYPES: dict[str, np.dtype[Any]] = {
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
}


class CudaConfig(Protocol):
    """What every configuration of a GPU kernel has; frozen, and told apart by its ``repr``.

    Attributes:
        index: ``i32`` where every offset and extent fits, else ``i64``.
        pointers: Element types of the operands, in the kernel's order, as problems spell them.
    """

    @property
    def index(self) -> str:
        """Type of offsets and of the constants."""

    @property
    def pointers(self) -> tuple[str, ...]:
        """Types that the operands point at."""


class Constants:
    """Names of the integers that a kernel gets by value, as attributes of its first parameter.

    Attributes:
        fields: The names. type: The named tuple that the kernel sees.
    """

    def __init__(self, name: str, fields: str) -> None:
        self.fields = tuple(fields.split())
        self.type: Any = namedtuple(name, self.fields)  # type: ignore[misc]

    def pack(self, index: str, **values: int) -> bytes:
        """The integers as they are handed over; every field must be given.

        Raises:
            TypeError: A field that is missing or unknown.
            OverflowError: A value that the index type does not hold.
        """
        return np.array(self.type(**values), _INDEX_DTYPES[index]).tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class CudaKernel:
    """A kernel before it is compiled.

    Attributes:
        build: From a configuration to the Python function that Numba compiles.
        constants: What its first parameter holds.
        threads: Of a block.
        registers: By the type of the sums, what a thread may use at most on every compute
            capability that is checked, with 32-bit indices.
    """

    build: Callable[[Any], Callable[..., None]]
    constants: Constants
    threads: int
    registers: Mapping[str, int]

    @property
    def __name__(self) -> str:
        return self.build.__name__

    def __call__(self, *arguments: Any) -> None:
        """Kernels are launched by a plan."""
        raise TypeError(f"{self.__name__} is a GPU kernel: a plan launches it")


def kernel(
    constants: Constants, *, threads: int, registers: Mapping[str, int]
) -> Callable[[Callable[[Any], Callable[..., None]]], CudaKernel]:
    """Decorator of a function from a configuration to the function to compile."""

    def decorate(build: Callable[[Any], Callable[..., None]]) -> CudaKernel:
        return CudaKernel(build, constants, threads, MappingProxyType(dict(registers)))

    return decorate


def index_dtype(index: str) -> np.dtype[Any]:
    """NumPy's type of the constants."""
    return _INDEX_DTYPES[index]


def fits_int32(*counts: int) -> str:
    """The index type for arrays of so many elements, with room for one step beyond each."""
    return "i32" if max(counts, default=0) <= MOST_INT32 // 2 else "i64"
