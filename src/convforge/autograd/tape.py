"""The tape: values, the operations that made them, and the way back."""

from __future__ import annotations

import heapq
import itertools
from typing import Any, NamedTuple

import numpy as np

from convforge.arrays import (
    Array,
    Device,
    as_array,
    as_numpy,
    common_device,
    current,
    home_of,
    namespace,
)
from convforge.autograd.mode import is_grad_enabled

_serials = itertools.count()
NUMBERS = (bool, int, float, complex)


class Value:
    """What the tape knows of a Tensor.

    Attributes:
        requires_grad: Whether operations on it are recorded.
        grad: Sum of the gradients of all backward passes so far; leaves only.
    """

    __slots__ = ("_data", "_maker", "_version", "grad", "requires_grad")

    _data: Array
    _maker: Function | None
    _version: int
    """Raised by every write that the tape knows of."""
    grad: Any
    requires_grad: bool

    @staticmethod
    def _wrap(data: Array) -> Any:
        """A new Tensor that nothing is recorded of."""
        raise NotImplementedError

    def _accumulate(self, grad: Array, *, owned: bool = False) -> None:
        # Two leaves may be handed one array: it is copied if others may hold it, and the next are
        # not added in place.
        if self.grad is not None:
            grad = self.grad._data + grad
        elif not owned:
            grad = namespace(grad).array(grad)
        self.grad = self._wrap(as_whole(grad))


class _Edge(NamedTuple):
    """Where the gradient of one operand goes.

    ``target`` is the operation that made the operand, or the leaf itself.
    """

    target: Function | Value
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    version: int


class Function:
    """An operation that knows its gradient. An instance is one use of it: a node of the tape.

    A subclass takes its settings in ``__init__`` and its operands in :meth:`forward`; whatever it
    keeps on ``self`` is there in :meth:`backward`, and is dropped after it. ::

        class Square(Function):
            def forward(self, x):
                self.x = x
                return x * x

            def backward(self, grad):
                return (2 * self.x * grad,)

        y = Square()(x)  # an array of an array, a recorded Tensor of a Tensor

    Attributes:
        needs: For each operand whether its gradient is wanted, and empty where nothing is
            recorded; known in :meth:`forward`, so that what no gradient needs is not kept.
        reads_operands: Set it to False where :meth:`backward` reads no operand's memory: only
            then may an operand be overwritten before.
        makes_gradients: Set it to True where :meth:`backward` returns arrays of their own, which
            nothing else holds: a leaf then keeps them instead of copies.
        on_host: Set it to True where arrays must be in host memory; those of a device are refused.
            Others compute with the functions of :func:`convforge.arrays.namespace`.
    """

    reads_operands = True
    makes_gradients = False
    on_host = False
    needs: tuple[bool, ...] = ()

    def forward(self, *operands: Any) -> Array:
        """Compute the result from arrays, numbers and None; all arrays lie in one place."""
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        """Compute the operands' gradients from the result's; None where there is none."""
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def __call__(self, *operands: Any) -> Any:
        """Apply to operands, and record that if a Tensor among them requires a gradient."""
        values = [o for o in operands if isinstance(o, Value)]
        recorded = is_grad_enabled() and any(v.requires_grad for v in values)
        if recorded:
            self.needs = tuple([isinstance(o, Value) and o.requires_grad for o in operands])
        arrays = [self._array(i, o) for i, o in enumerate(operands)]
        device = self._device(arrays)
        if device is None:
            result = self.forward(*arrays)
        else:
            with device.current():
                result = self.forward(*arrays)
        result = as_whole(result)
        if not values:
            first = operands[0]
            return result if first.__class__ is np.ndarray else home_of(first)(result)
        made = values[0]._wrap(result)
        if recorded:
            self._serial = next(_serials)
            self._edges: tuple[_Edge | None, ...] | None = tuple(
                _Edge(o._maker or o, o._data.shape, o._data.dtype, o._version) if needed else None
                for o, needed in zip(operands, self.needs, strict=True)
            )
            made._maker = self
            made.requires_grad = True
        return made

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _device(self, arrays: list[Any]) -> Device | None:
        """The device of arrays that are not the host's.

        Raises:
            TypeError: They lie in different places.
        """
        for array in arrays:
            known = array is None or array.__class__ is np.ndarray or isinstance(array, NUMBERS)
            if not known:
                names = map(self._name, range(len(arrays)))
                given = zip(names, arrays, strict=True)
                return common_device(**{n: a for n, a in given if not isinstance(a, NUMBERS)})
        return None

    def _name(self, position: int) -> str:
        names = type(self).forward.__code__.co_varnames[1:]
        return names[position] if position < len(names) else f"operand {position}"

    def _array(self, position: int, operand: Any) -> Any:
        """What :meth:`forward` gets for an operand."""
        if isinstance(operand, Value):
            data = operand._data
            plain = not self.on_host or data.__class__ is np.ndarray
            return data if plain else as_numpy(data, self._name(position))
        if operand is None or operand.__class__ is np.ndarray:
            return operand
        if isinstance(operand, np.generic):
            # A number of NumPy would widen what it meets; a number of Python does not.
            return operand.item()
        if isinstance(operand, NUMBERS):
            return operand
        see = as_numpy if self.on_host else as_array
        return see(operand, self._name(position))

    def _gradients(self, grad: Array) -> list[tuple[_Edge, Array]]:
        """Every wanted gradient, checked, with where it goes."""
        if self._edges is None:
            raise RuntimeError(
                f"backward went through {self} before, and what it had kept is dropped: compute "
                "the result again, or call backward(retain_graph=True) the first time"
            )
        if self.reads_operands:
            self._require_unchanged(self._edges)
        with current(grad):
            grads = self.backward(grad)
        if len(grads) != len(self._edges):
            raise RuntimeError(
                f"{self}.backward gave {len(grads)} gradients for {len(self._edges)} operands"
            )
        found = []
        for edge, g in zip(self._edges, grads, strict=True):
            if edge is not None and g is not None:
                if g.shape != edge.shape:
                    raise RuntimeError(
                        f"{self}.backward gave a gradient of shape {g.shape} for an operand of "
                        f"shape {edge.shape}"
                    )
                found.append((edge, as_type(g, edge.dtype)))
        return found

    def _require_unchanged(self, edges: tuple[_Edge | None, ...]) -> None:
        for edge in edges:
            if edge is None or not isinstance(edge.target, Value):
                continue
            if edge.target._version != edge.version:
                raise RuntimeError(
                    f"a leaf of shape {edge.shape} was written to after {self} had read it, so "
                    "gradients would be wrong: write after backward, or compute the result again"
                )

    def _drop(self) -> None:
        """Forget everything kept for the way back."""
        self.__dict__ = {"_serial": self._serial, "_edges": None}


def backpropagate(root: Value, grad: Array, *, retain_graph: bool) -> None:
    """Add the gradient of ``root`` to every leaf it was made from, last operation first."""
    if root._maker is None:
        root._accumulate(grad)
        return
    waiting = {root._maker: grad}
    heap = [(-root._maker._serial, root._maker)]
    while heap:
        node = heapq.heappop(heap)[1]
        found = node._gradients(waiting.pop(node))
        if not retain_graph:
            node._drop()
        for edge, g in found:
            target = edge.target
            if isinstance(target, Value):
                with current(g):
                    target._accumulate(g, owned=node.makes_gradients)
            elif target in waiting:
                with current(g):
                    waiting[target] = waiting[target] + g
            else:
                waiting[target] = g
                heapq.heappush(heap, (-target._serial, target))


def as_whole(result: Any) -> Array:
    """An array also where NumPy's arithmetic, of arrays without axes, has made a number."""
    return np.asarray(result) if isinstance(result, np.generic) else result


def as_type(grad: Array, dtype: np.dtype[Any]) -> Array:
    """A gradient in its operand's type: of a real operand the real part."""
    if grad.dtype.kind == "c" and dtype.kind != "c":
        grad = grad.real
    return grad.astype(dtype, copy=False)
