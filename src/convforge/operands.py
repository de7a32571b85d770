"""The arrays of a problem: their names, shapes and types, and whether an array is one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convforge.problem import ConvProblem, Direction, PoolKind, Problem
from convforge.runtime.cuda.device import Device, device_of
from convforge.runtime.dtypes import numpy_dtype


@dataclass(frozen=True, slots=True)
class PreparedWeights:
    """Weights in the layout an algorithm reads; any plan with the same format takes them.

    Attributes:
        format: Identity of the layout. data: The bytes.
    """

    format: str
    data: Any

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return int(self.data.nbytes)


def names_of(problem: Problem) -> tuple[tuple[str, ...], str]:
    """Names of the inputs, and of the output."""
    if isinstance(problem, ConvProblem):
        return {
            Direction.FPROP: (("x", "w"), "y"),
            Direction.DGRAD: (("y", "w"), "x"),
            Direction.WGRAD: (("x", "y"), "w"),
        }[problem.direction]
    if problem.direction is Direction.FPROP:
        return ("x",), "y"
    return (("y", "indices") if problem.kind is PoolKind.MAX else ("y",)), "x"


def shapes_and_dtypes(
    problem: Problem,
) -> tuple[dict[str, tuple[int, ...]], dict[str, np.dtype[Any]]]:
    """Shape in memory order, and type, of every array that the problem may have."""
    shapes = {"x": problem.x_shape, "y": problem.y_shape}
    dtypes = {"x": numpy_dtype(problem.x.dtype), "y": numpy_dtype(problem.x.dtype)}
    if isinstance(problem, ConvProblem):
        dtypes["y"] = numpy_dtype(problem.y.dtype)
        shapes["w"], dtypes["w"] = problem.w_shape, numpy_dtype(problem.w.dtype)
        out = "x" if problem.direction is Direction.DGRAD else "y"
        shapes["bias"] = (problem.C if out == "x" else problem.K,)
        shapes["residual"] = shapes[out]
        dtypes["bias"] = dtypes["residual"] = dtypes[out]
    else:
        shapes["indices"], dtypes["indices"] = problem.y_shape, np.dtype(np.int64)
    return shapes, dtypes


def require(
    problem: Problem, name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Raise unless ``array`` is the operand that the problem describes."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}; wanted a NumPy array ({problem})")
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; wanted {dtype} ({problem})")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; wanted {shape} ({problem})")
    if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        raise ValueError(
            f"{name} is not C-contiguous, aligned and in native byte order; pass "
            f"np.ascontiguousarray({name}) ({problem})"
        )


def require_writable(problem: Problem, out: np.ndarray, inputs: list[Any]) -> None:
    """Raise unless ``out`` may be written while the inputs, or None, are read."""
    if not out.flags.writeable:
        raise ValueError(f"out is read-only ({problem})")
    for given in inputs:
        if given is not None and np.may_share_memory(out, given):
            raise ValueError(f"out overlaps an input of shape {given.shape} ({problem})")


def require_on(
    device: Device,
    problem: Problem,
    name: str,
    array: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> None:
    """Raise unless ``array`` is the operand that the problem describes, on this device."""
    if device_of(array) is not device:
        raise TypeError(f"{name} is a {type(array).__name__}; wanted one of {device} ({problem})")
    if array.dtype != dtype:
        swapped = array.dtype.newbyteorder() == dtype
        hint = f": pass {name}.astype({str(dtype)!r}), in native byte order" if swapped else ""
        raise TypeError(f"{name} has dtype {array.dtype}; wanted {dtype}{hint} ({problem})")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; wanted {shape} ({problem})")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} is not C-contiguous ({problem})")
    if array.size and device.address(array) % dtype.itemsize:
        raise ValueError(
            f"{name} is not aligned: its address is no multiple of {dtype.itemsize} bytes; copy "
            f"its bytes to memory of their own ({problem})"
        )


def require_packed(device: Device | None, problem: Problem, data: Any, nbytes: int) -> None:
    """Raise unless these are the bytes of prepared weights, where a plan reads them."""
    if device_of(data) is not device or not (device or isinstance(data, np.ndarray)):
        place = device or "host memory"
        raise TypeError(
            f"prepared weights hold a {type(data).__name__}; wanted bytes in {place}: prepare "
            f"them with this plan ({problem})"
        )
    if data.nbytes != nbytes:
        raise ValueError(f"prepared weights have {data.nbytes} bytes; wanted {nbytes} ({problem})")


def overlap_on(device: Device, out: Any, array: Any) -> bool:
    """Whether two dense arrays of a device have a byte in common."""
    first, other = device.address(out), device.address(array)
    return bool(first < other + array.nbytes and other < first + out.nbytes)
