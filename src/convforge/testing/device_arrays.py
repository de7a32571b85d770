"""Arrays of an emulated device: they compute as CuPy's do, and refuse what CuPy's refuse.

NumPy does the arithmetic. What these arrays have, CuPy's have under the same names (a test holds
them against each other), and no more: a host array among the operands is a ``TypeError``, and
nothing becomes a NumPy array but by ``get``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

if TYPE_CHECKING:
    from convforge.testing.device import EmulatedDevice

Array = NDArray[Any]

FUNCTIONS = {
    "abs": "dtype", "add": "dtype", "conj": "dtype", "divide": "dtype", "equal": "dtype",
    "exp": "dtype", "isfinite": "dtype", "isinf": "dtype", "isnan": "dtype", "log": "dtype",
    "logical_not": "dtype", "maximum": "dtype", "minimum": "dtype", "multiply": "dtype",
    "negative": "dtype", "power": "dtype", "sign": "dtype", "sqrt": "dtype", "square": "dtype",
    "subtract": "dtype", "tanh": "dtype", "trunc": "dtype",
    "broadcast_to": "", "copyto": "where", "empty_like": "dtype", "expand_dims": "axis",
    "matmul": "", "moveaxis": "", "ones_like": "dtype", "sum": "axis dtype keepdims", "where": "",
    "zeros_like": "dtype",
}  # fmt: skip
"""Functions of arrays, with the keywords of CuPy's that the package uses."""
CREATORS = {
    "arange": "dtype", "array": "dtype order", "asarray": "dtype", "empty": "dtype",
    "full": "dtype", "ones": "dtype", "zeros": "dtype",
}  # fmt: skip
"""Functions that make arrays, of nothing or of host arrays: those are copied because it is asked
for."""


class Flags(NamedTuple):
    """What CuPy's arrays say of their memory."""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool


class EmulatedArray(NDArrayOperatorsMixin):
    """An array in the memory of an emulated device. NumPy refuses it, as it refuses CuPy's.

    Attributes:
        device: Where it lies.
    """

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

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
    real = property(lambda self: self._wrap(self._memory.real), doc="Real parts.")

    @property
    def flags(self) -> Flags:
        """How it lies in memory."""
        flags = self._memory.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, flags.owndata)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self.dtype.str,
            "data": (self._memory.ctypes.data, False),
            "version": 3,
        }

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise TypeError("the array is in the memory of a device; get() copies it to the host")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        out = keywords.pop("out", ())
        if method not in ("__call__", "at") or keywords.keys() - {"dtype"}:
            raise TypeError(f"{ufunc.__name__}.{method} with {set(keywords)} is not CuPy's")
        if out:
            keywords["out"] = tuple(self._lower(each) for each in out)
        result = getattr(ufunc, method)(*map(self._lower, inputs), **keywords)
        return out[0] if out else None if result is None else self._wrap(result)

    def __deepcopy__(self, memo: dict[int, Any]) -> EmulatedArray:
        return self.device.copy(self)

    def __getitem__(self, key: Any) -> EmulatedArray:
        return self._wrap(self._memory[self._index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._memory[self._index(key)] = self._lower(value)

    def __len__(self) -> int:
        return len(self._memory)

    def __bool__(self) -> bool:
        return bool(self._memory)

    def __float__(self) -> float:
        return float(self._memory)

    def __int__(self) -> int:
        return int(self._memory)

    def get(self) -> Array:
        """A copy in host memory."""
        return self._memory.copy()

    def copy(self) -> EmulatedArray:
        """A copy on the device."""
        return self._wrap(self._memory.copy())

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self._memory.item()

    def astype(self, dtype: Any, copy: bool = True) -> EmulatedArray:
        """In another type."""
        return self._wrap(self._memory.astype(dtype, copy=copy))

    def transpose(self, *axes: Any) -> EmulatedArray:
        """A view with its axes permuted."""
        return self._wrap(self._memory.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> EmulatedArray:
        """A view with two axes exchanged."""
        return self._wrap(self._memory.swapaxes(axis1, axis2))

    def reshape(self, *shape: Any) -> EmulatedArray:
        """In another shape, over the same memory if that can be."""
        return self._wrap(self._memory.reshape(*shape))

    def conj(self) -> EmulatedArray:
        """Conjugates."""
        return self._wrap(self._memory.conj())

    def sum(self, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> EmulatedArray:
        """Sum over axes."""
        return self._wrap(self._memory.sum(axis, dtype, keepdims=keepdims))

    def mean(self, axis: Any = None) -> EmulatedArray:
        """Mean over axes."""
        return self._wrap(self._memory.mean(axis))

    def max(self, axis: Any = None, *, keepdims: bool = False) -> EmulatedArray:
        """Largest along axes; of no elements there is none."""
        return self._wrap(self._memory.max(axis, keepdims=keepdims))

    def any(self) -> EmulatedArray:
        """Whether an element is true."""
        return self._wrap(self._memory.any())

    def argmax(self, axis: Any = None) -> EmulatedArray:
        """Place of the largest along an axis."""
        return self._wrap(self._memory.argmax(axis))

    def _wrap(self, result: Any) -> EmulatedArray:
        """A result of NumPy's as memory of the device; a view keeps what it is a view of."""
        array = np.asarray(result)
        if np.may_share_memory(array, self._owner):
            return EmulatedArray(self.device, array, self._owner)
        return self.device.adopt(array)

    def _lower(self, operand: Any) -> Any:
        """The memory of an array of this device, and numbers; CuPy takes nothing else either."""
        return lowered(self.device, operand)

    def _index(self, key: Any) -> Any:
        if isinstance(key, tuple):
            return tuple(self._index(k) for k in key)
        return self._lower(key) if isinstance(key, EmulatedArray) else key


def lowered(device: EmulatedDevice, operand: Any) -> Any:
    """The memory of an operand that lies on a device; numbers as they are.

    Raises:
        TypeError: An array that lies elsewhere.
    """
    if isinstance(operand, EmulatedArray):
        if operand.device is not device:
            raise TypeError(f"{operand} is not on {device}")
        return operand._memory
    if isinstance(operand, np.ndarray):
        raise TypeError(f"Unsupported type {type(operand)}")  # CuPy's words
    return operand


class EmulatedNamespace:
    """NumPy's functions for arrays of one device: those of :data:`FUNCTIONS` and no others."""

    def __init__(self, device: EmulatedDevice) -> None:
        self._device = device

    def __repr__(self) -> str:
        return f"<NumPy's functions on {self._device}>"

    def __getattr__(self, name: str) -> Any:
        known = FUNCTIONS if name in FUNCTIONS else CREATORS if name in CREATORS else None
        if known is None:
            raise AttributeError(f"the emulated device has no {name}: see FUNCTIONS")

        def call(*operands: Any, **keywords: Any) -> Any:
            unknown = keywords.keys() - set(known[name].split())
            if unknown:
                raise TypeError(f"{name} got {unknown}, which CuPy's {name} may not have")
            made = getattr(np, name)(
                *(self._lower(o, known is CREATORS) for o in operands),
                **{n: self._lower(v, False) for n, v in keywords.items()},
            )
            return None if made is None else self._raise(made, operands)

        if isinstance(getattr(np, name), np.ufunc):
            call.at = self._at(getattr(np, name))  # type: ignore[attr-defined]
        return call

    def _at(self, ufunc: np.ufunc) -> Any:
        """A function's way to write in place, where elements may be named twice."""
        return lambda array, index, values: array.__array_ufunc__(ufunc, "at", array, index, values)

    def _lower(self, operand: Any, may_be_host: bool) -> Any:
        if may_be_host and isinstance(operand, np.ndarray):
            return operand
        return lowered(self._device, operand)

    def _raise(self, made: Any, operands: tuple[Any, ...]) -> EmulatedArray:
        """A result as an array of the device; it may be a view of the first operand."""
        first = operands[0] if operands else None
        if isinstance(first, EmulatedArray):
            return first._wrap(made)
        array = np.asarray(made)
        if isinstance(first, np.ndarray) and np.may_share_memory(array, first):
            array = array.copy()  # else it would be memory of host and device
        return self._device.adopt(array)
