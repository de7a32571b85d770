"""How an array lies in memory: orders, views, element types. NumPy's, or one of a device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convforge.problem import DType, Order
from convforge.runtime.cuda.device import Device, device_of

Array = NDArray[Any]
Shape = tuple[int, ...]

_DTYPES = {dtype.numpy_name: dtype for dtype in DType}
# Beyond this many steps the exact answer costs more than it is worth.
_OVERLAP_WORK = 100_000


def dtype_of(dtype: np.dtype[Any], name: str) -> DType:
    """Our name of an element type.

    Raises:
        TypeError: A type nothing can be computed in, such as bool; ``name`` says whose it is.
    """
    found = _DTYPES.get(dtype.name)
    if found is None:
        hint = f"; pass {name}.astype(np.uint8)" if dtype == np.bool_ else ""
        raise TypeError(f"{name} has dtype {dtype}; wanted one of {', '.join(_DTYPES)}{hint}")
    return found


@dataclass(frozen=True, slots=True)
class View:
    """The way from an array as the caller sees it to the same data in memory order, and back.

    Attributes:
        order: Where channels lie in memory.
        batched: False where the caller's array has no image axis; memory always has one.
        to_memory: Axes of the batched array in memory order; None if that is how it comes.
        to_caller: The inverse permutation.
    """

    order: Order
    batched: bool = True
    to_memory: tuple[int, ...] | None = None
    to_caller: tuple[int, ...] | None = None

    def memory(self, array: Array) -> Array:
        """The array in memory order, copied only if it is not dense, aligned and native there."""
        if not self.batched:
            array = array[None]
        if self.to_memory is not None:
            array = array.transpose(self.to_memory)
        return dense(array)

    def caller(self, array: Array) -> Array:
        """A result in memory order as the caller's kind of view; never copies."""
        if self.to_caller is not None:
            array = array.transpose(self.to_caller)
        return array if self.batched else array[0]

    def caller_shape(self, lead: int, channels: int, spatial: Shape) -> Shape:
        """The shape that :meth:`caller` gives a result of these sizes."""
        shape = self.order.arrange(lead, channels, spatial)
        if self.to_caller is not None:
            shape = tuple(shape[axis] for axis in self.to_caller)
        return shape if self.batched else shape[1:]

    @staticmethod
    @cache
    def of(order: Order, rank: int, *, channels_last: bool = False, batched: bool = True) -> View:
        """The view of arrays that lie in ``order`` and whose channel axis comes last or first."""
        if channels_last == (order is Order.CHANNELS_LAST):
            return View(order, batched)
        first_to_last = (0, *range(2, rank + 2), 1)
        last_to_first = (0, rank + 1, *range(1, rank + 1))
        if channels_last:
            return View(order, batched, last_to_first, first_to_last)
        return View(order, batched, first_to_last, last_to_first)


def dense(array: Array) -> Array:
    """The array, copied only if it is not C-contiguous, aligned and in native byte order."""
    flags = array.flags
    if array.__class__ is not np.ndarray:
        return array if flags.c_contiguous else _device(array).copy(array)
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


def order_of(
    shape: Shape, strides: Shape, itemsize: int, rank: int, *, channels_last: bool = False
) -> Order:
    """Read from strides where the channels of an array lie in memory.

    An array that is dense in one order has that order. Axes of size 1 make some arrays dense in
    both: then exact strides decide, as left behind by a transposition, and in doubt the axes'
    own order does. An array that is dense in neither will be copied, to the nearer order.

    Args:
        shape: Extents, with or without the leading image axis.
        strides: Steps in bytes.
        itemsize: Bytes of an element.
        rank: Number of spatial axes.
        channels_last: Whether the channel axis is the last one or stands before the spatial axes.
    """
    own = Order.CHANNELS_LAST if channels_last else Order.CHANNELS_FIRST
    other = Order.CHANNELS_FIRST if channels_last else Order.CHANNELS_LAST
    if len(shape) == rank + 1:
        shape, strides = (1, *shape), (prod(shape) * itemsize, *strides)
    axes = View.of(other, rank, channels_last=channels_last).to_memory
    assert axes is not None
    moved_shape = tuple(shape[axis] for axis in axes)
    moved_strides = tuple(strides[axis] for axis in axes)
    if _is_dense(shape, strides, itemsize):
        exact = strides == _dense_strides(shape, itemsize)
        moved_exact = moved_strides == _dense_strides(moved_shape, itemsize)
        return other if moved_exact and not exact else own
    if _is_dense(moved_shape, moved_strides, itemsize):
        return other
    channel_axis = -1 if channels_last else 1
    spatial = range(1, rank + 1) if channels_last else range(2, rank + 2)
    steps = [abs(strides[axis]) for axis in spatial if shape[axis] > 1]
    if shape[channel_axis] > 1 and steps and abs(strides[channel_axis]) < min(steps):
        return Order.CHANNELS_LAST
    return Order.CHANNELS_FIRST


def strides_in(order: Order, shape: Shape, itemsize: int, *, channels_last: bool = False) -> Shape:
    """Strides in bytes of a batched array that is dense in ``order``."""
    view = View.of(order, len(shape) - 2, channels_last=channels_last)
    if view.to_memory is None or view.to_caller is None:
        return _dense_strides(shape, itemsize)
    memory = _dense_strides(tuple(shape[axis] for axis in view.to_memory), itemsize)
    return tuple(memory[axis] for axis in view.to_caller)


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays have an element in common; True too where that is too hard to tell."""
    if not may_share_memory(a, b):
        return False
    if a.__class__ is not np.ndarray:
        return True
    try:
        return bool(np.shares_memory(a, b, max_work=_OVERLAP_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def may_share_memory(a: Array, b: Array) -> bool:
    """Whether the bytes between two arrays' first and last elements meet."""
    if a.__class__ is np.ndarray:
        return np.may_share_memory(a, b)
    (first, end), (other, other_end) = _reach(a), _reach(b)
    return first < other_end and other < end


def assign(target: Array, source: Array) -> None:
    """Write one array to another of the same shape, both on the host or both on one device."""
    if target.__class__ is np.ndarray:
        target[...] = source
    else:
        _device(target).assign(target, source)


def is_writeable(array: Array) -> bool:
    """Whether results may be written to an array; CuPy's always are."""
    return array.__class__ is not np.ndarray or array.flags.writeable


def _reach(array: Array) -> tuple[int, int]:
    """Addresses of an array's first byte and of what follows its last one, on its device."""
    first = last = _device(array).address(array)
    if array.size == 0:
        return first, first
    for step, size in zip(array.strides, array.shape, strict=True):
        if step < 0:
            first += step * (size - 1)
        else:
            last += step * (size - 1)
    return first, last + array.itemsize


def _device(array: Array) -> Device:
    device = device_of(array)
    assert device is not None, type(array)
    return device


def overlaps_itself(array: Array) -> bool:
    """Whether two elements may be one place in memory, as a broadcast view's are.

    False for every view that slicing, transposing and reshaping make of an array. A view that
    interleaves its axes in other ways counts as overlapping, although some of those do not.
    """
    if array.size <= 1:
        return False
    reach = array.itemsize
    axes = zip(array.strides, array.shape, strict=True)
    for step, size in sorted((abs(step), size) for step, size in axes if size > 1):
        if step < reach:
            return True
        reach += step * (size - 1)
    return False


def _dense_strides(shape: Shape, itemsize: int) -> Shape:
    strides = []
    step = itemsize
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _is_dense(shape: Shape, strides: Shape, itemsize: int) -> bool:
    if 0 in shape:
        return True
    dense = _dense_strides(shape, itemsize)
    return all(
        step == wanted for size, step, wanted in zip(shape, strides, dense, strict=True) if size > 1
    )
