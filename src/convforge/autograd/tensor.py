"""An array, NumPy's or a device's, that remembers how it was made."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from convforge.arrays import (
    HOST,
    Array,
    as_array,
    common_device,
    copied,
    current,
    device_of,
    move,
    namespace,
    to_host,
    where,
)
from convforge.autograd import elementary
from convforge.autograd.tape import Value, as_type, as_whole, backpropagate


def _comparison(compare: Callable[[Any, Any], Any]) -> Any:
    """A method that compares elements and gives a Tensor of bool, which nothing is recorded of."""

    def method(self: Tensor, other: Any) -> Tensor:
        other = getattr(other, "_data", other)
        if self._data.__class__ is np.ndarray and device_of(other) is None:
            return Tensor._wrap(np.asarray(compare(self._data, other)))
        if not np.isscalar(other):
            common_device(tensor=self._data, other=other)
        with current(self._data):
            return Tensor._wrap(compare(self._data, other))

    return method


class Tensor(Value):
    """An array, its gradient, and the operation that made it.

    Operators, :mod:`convforge.functional` and :mod:`convforge.nn` take Tensors and give recorded
    Tensors; :meth:`backward` then fills :attr:`grad` of every leaf that requires a gradient.

    Args:
        data: A NumPy array, one of CuPy, or anything :func:`convforge.arrays.as_array` takes; not
            copied, and it stays where it lies.
        requires_grad: Record what is computed from it.

    Attributes:
        requires_grad: Whether operations on it are recorded.
        grad: Sum of the gradients of all backward passes so far, a Tensor; leaves only.

    Raises:
        TypeError: Not an array, or a gradient is wanted for integers.
    """

    __slots__ = ("__weakref__", "_keepers")
    # NumPy arrays on the left of an operator leave it to us: array + Tensor is recorded.
    __array_ufunc__ = None

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        self._data = data._data if isinstance(data, Tensor) else as_array(data, "data")
        self._maker = None
        self._version = 0
        self._keepers: weakref.WeakSet[Any] | None = None
        self.grad: Tensor | None = None
        self.requires_grad = False
        if requires_grad:
            self.requires_grad_()

    @staticmethod
    def _wrap(data: Array) -> Tensor:
        made = Tensor.__new__(Tensor)
        made._data = data
        made._maker = None
        made._version = 0
        made._keepers = None
        made.grad = None
        made.requires_grad = False
        return made

    @property
    def data(self) -> Array:
        """The array itself. On the host it is read-only while a layer keeps packed weights of it.

        Assigning another array, or :meth:`copy_`, is always allowed, and is noticed by whoever
        keeps something made from the old values.
        """
        if not self._keepers or self._data.__class__ is not np.ndarray:
            return self._data
        view = self._data.view()
        view.flags.writeable = False
        return view

    @data.setter
    def data(self, value: Any) -> None:
        value = value._data if isinstance(value, Tensor) else as_array(value, "data")
        # `p.data -= step` has written in place and assigns the same memory back.
        self._data = value
        self._version += 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Extents."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self._maker is None

    @property
    def device(self) -> str:
        """Where it lies: ``"cpu"``, or a device's name such as ``"cuda:0"``."""
        return where(self._data)

    def to(self, device: str) -> Any:
        """The same elements in another place, recorded; itself if it lies there already.

        Args:
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:0"``, or :attr:`device` of another Tensor.

        Raises:
            ValueError: No such place.
            CudaUnavailableError: No GPU, no driver or no CuPy; says what to install.
        """
        moved = elementary.Move(device)
        return self if moved.there is device_of(self._data) else moved(self)

    def cpu(self) -> Any:
        """``to("cpu")``."""
        return self.to(HOST)

    def cuda(self) -> Any:
        """``to("cuda")``."""
        return self.to("cuda")

    def numpy(self) -> Array:
        """The array; the same memory as :attr:`data`.

        Raises:
            TypeError: It is on a device.
        """
        if device_of(self._data) is not None:
            raise TypeError(
                f"this Tensor is on {self.device}, where NumPy does not reach: cpu().numpy() "
                "copies it to host memory first"
            )
        return self.data

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self._data.item()

    def detach(self) -> Tensor:
        """A Tensor over the same memory that knows nothing of how it was made."""
        return Tensor._wrap(self.data)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Change whether operations on this leaf are recorded; returns itself.

        Raises:
            TypeError: Integers have no gradient.
            RuntimeError: An operation made it.
        """
        if not self.is_leaf and not requires_grad:
            raise RuntimeError("only a leaf can stop requiring a gradient: use detach()")
        if (
            requires_grad
            and not np.issubdtype(self.dtype, np.inexact)
            and (self.dtype.name != "bfloat16")
        ):
            raise TypeError(
                f"a Tensor of {self.dtype} cannot require a gradient; wanted floating or complex "
                "numbers: pass data.astype(np.float32)"
            )
        self.requires_grad = requires_grad
        return self

    def copy_(self, value: Any) -> Tensor:
        """Write other values into the same memory, wherever they come from; returns itself.

        Raises:
            ValueError: Another shape.
        """
        value = value._data if isinstance(value, Tensor) else as_array(value, "value")
        if value.shape != self.shape:
            raise ValueError(f"value has shape {value.shape}; wanted {self.shape}")
        with current(self._data):
            self._data[...] = move(value, device_of(self._data))
        self._version += 1
        return self

    def backward(self, grad: Any = None, *, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to :attr:`grad` of every leaf it was made from.

        Args:
            grad: What to go back with, of this shape; 1 by default, for one element only.
            retain_graph: Keep what the operations saved, to go back once more.

        Raises:
            RuntimeError: Nothing was recorded, it was gone back through before, or ``grad`` is
                missing.
            ValueError: ``grad`` has another shape.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "this Tensor has no way back: nothing it was made from has requires_grad=True, "
                "or it was made under no_grad()"
            )
        if grad is None:
            if self.size != 1 or self.dtype.kind == "c":
                raise RuntimeError(
                    f"backward() of shape {self.shape} and dtype {self.dtype} needs a gradient to "
                    "start from: only one real number has 1 by default. Reduce it first, such as "
                    "y.sum().backward(), or pass y.backward(dy)"
                )
            with current(self._data):
                grad = namespace(self._data).ones_like(self._data)
        else:
            grad = grad._data if isinstance(grad, Tensor) else as_array(grad, "grad")
            common_device(tensor=self._data, grad=grad)
            if grad.shape != self.shape:
                raise ValueError(f"grad has shape {grad.shape}; wanted {self.shape}, this Tensor's")
            grad = as_type(grad, self.dtype)
        backpropagate(self, grad, retain_graph=retain_graph)

    def _keep(self, keeper: Any) -> None:
        """Let :attr:`data` be read-only for as long as ``keeper`` lives or until it lets go."""
        if self._keepers is None:
            self._keepers = weakref.WeakSet()
        self._keepers.add(keeper)

    def _let_go(self, keeper: Any) -> None:
        if self._keepers is not None:
            self._keepers.discard(keeper)

    def __add__(self, other: Any) -> Any:
        return elementary.Add()(self, other)

    def __radd__(self, other: Any) -> Any:
        return elementary.Add()(other, self)

    def __sub__(self, other: Any) -> Any:
        return elementary.Sub()(self, other)

    def __rsub__(self, other: Any) -> Any:
        return elementary.Sub()(other, self)

    def __mul__(self, other: Any) -> Any:
        return elementary.Mul()(self, other)

    def __rmul__(self, other: Any) -> Any:
        return elementary.Mul()(other, self)

    def __truediv__(self, other: Any) -> Any:
        return elementary.Div()(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return elementary.Div()(other, self)

    def __matmul__(self, other: Any) -> Any:
        return elementary.MatMul()(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return elementary.MatMul()(other, self)

    def __pow__(self, exponent: float) -> Any:
        return elementary.Pow(exponent)(self)

    def __neg__(self) -> Any:
        return elementary.Neg()(self)

    def __getitem__(self, index: Any) -> Any:
        return elementary.Index(index)(self)

    __eq__ = _comparison(operator.eq)
    __ne__ = _comparison(operator.ne)
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
    # Comparing is elementwise, so what tells Tensors apart in sets is their identity.
    __hash__ = object.__hash__

    def argmax(self, dim: int | None = None) -> Tensor:
        """Position of the largest element, along an axis or of all; int64, not recorded."""
        with current(self._data):
            found = self._data.argmax(dim)
        return Tensor._wrap(as_whole(found))

    def exp(self) -> Any:
        """The exponential of each element."""
        return elementary.Exp()(self)

    def log(self) -> Any:
        """Natural logarithm of each element."""
        return elementary.Log()(self)

    def sum(self, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
        """Sum over axes, or over everything."""
        return elementary.Sum(dim, keepdim)(self)

    def mean(self, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
        """Mean over axes, or over everything."""
        return elementary.Mean(dim, keepdim)(self)

    def reshape(self, *shape: Any) -> Any:
        """The same elements in another shape; one extent may be -1."""
        return elementary.Reshape(shape[0] if shape and np.iterable(shape[0]) else shape)(self)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Any:
        """Make one axis of several."""
        return self.reshape(elementary.flat_shape(self.shape, start_dim, end_dim))

    def transpose(self, dim0: int, dim1: int) -> Any:
        """Exchange two axes."""
        axes = list(range(self.ndim))
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
        return elementary.Permute(axes)(self)

    def permute(self, *dims: Any) -> Any:
        """The axes in another order."""
        return elementary.Permute(dims[0] if dims and np.iterable(dims[0]) else dims)(self)

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **keywords: Any) -> Any:
        """Lend the memory to another library, as NumPy's arrays do.

        Raises:
            BufferError: It requires a gradient, which the other library could not see.
        """
        if self.requires_grad:
            raise BufferError(
                "a Tensor that requires a gradient cannot be exported, because what is computed "
                "from it elsewhere is not recorded: pass tensor.detach()"
            )
        return self.data.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's name of the memory."""
        return self._data.__dlpack_device__()

    def __repr__(self) -> str:
        text = np.array2string(
            to_host(self._data), separator=", ", prefix=f"{type(self).__name__}("
        )
        made = f", made_by={self._maker}" if self._maker else ""
        requires = ", requires_grad=True" if self.requires_grad and not made else ""
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        place = "" if self.device == HOST else f", device={self.device!r}"
        return f"{type(self).__name__}({text}{dtype}{place}{requires}{made})"

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.is_leaf:
            raise RuntimeError(
                f"a Tensor made by {self._maker} cannot be copied or pickled with its history: "
                "use detach()"
            )
        return type(self), (copied(self._data), self.requires_grad), self._extra_state()

    def _extra_state(self) -> dict[str, Any] | None:
        return None if self.grad is None else {"grad": self.grad}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.grad = state["grad"]
