"""Checks and sizes that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from convforge.arrays import Array, dtype_of, is_writeable, overlaps_itself, same_memory
from convforge.problem import DType, Problem
from convforge.problem.words import SIZE_NAMES

Shape = tuple[int, ...]
Spec = tuple[Shape, Shape, np.dtype[Any]]
"""Shape, strides and type: what is known of an array without its data."""

CALLS_KEPT = 4096
"""Kinds of calls whose preparation is kept, the least recently used dropped first."""


def spec_of(array: Array) -> Spec:
    """What is known of an array without its data."""
    return array.shape, array.strides, array.dtype


def split_image(
    name: str, shape: Shape, rank: int, *, channels_last: bool
) -> tuple[bool, int, int, Shape]:
    """Whether an image array has a batch axis, then N, channels and spatial extents.

    Raises:
        ValueError: Another number of axes.
    """
    sizes = SIZE_NAMES[rank].upper()
    axes = [*sizes, "C"] if channels_last else ["C", *sizes]
    if len(shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name} has shape {shape}; wanted ({', '.join(['N', *axes])}) or, for one image, "
            f"({', '.join(axes)})"
        )
    batched = len(shape) == rank + 2
    N, *rest = shape if batched else (1, *shape)
    if channels_last:
        return batched, N, rest[-1], tuple(rest[:-1])
    return batched, N, rest[0], tuple(rest[1:])


@contextmanager
def told(arrays: dict[str, Spec], settings: dict[str, Any]) -> Iterator[None]:
    """Let errors end with the arguments as they came, where these make no problem to name."""
    try:
        yield
    except (TypeError, ValueError) as error:
        came = [f"{name} {shape} {dtype.name}" for name, (shape, _, dtype) in arrays.items()]
        came += [f"{name} {value}" for name, value in settings.items() if value is not None]
        raise type(error)(f"{error} ({', '.join(came)})") from None


def require_dtype(
    name: str, dtype: np.dtype[Any], wanted: DType, why: str, problem: Problem
) -> None:
    """Raise ``TypeError`` unless an array has the type it needs."""
    if dtype_of(dtype, name) is not wanted:
        raise TypeError(
            f"{name} has dtype {dtype.name}; wanted {wanted.numpy_name}, {why}: "
            f"pass {name}.astype({wanted.numpy_name!r}) ({problem})"
        )


def require_out(
    out: Array,
    shape: Shape,
    dtype: np.dtype[Any],
    inputs: dict[str, Array | None],
    problem: Problem,
) -> None:
    """Raise unless a result of this shape and type can be written to ``out``."""
    if out.dtype != dtype and out.dtype.newbyteorder("=") == dtype:
        raise TypeError(f"out has dtype {out.dtype.str}; wanted native byte order ({problem})")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}; wanted {dtype} ({problem})")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; wanted {shape} ({problem})")
    if not is_writeable(out):
        raise ValueError(f"out is read-only ({problem})")
    if overlaps_itself(out):
        raise ValueError(
            f"out overlaps itself: with strides {out.strides} several elements of shape "
            f"{out.shape} are one place in memory; pass an array of its own memory ({problem})"
        )
    for name, array in inputs.items():
        if array is not None and same_memory(out, array):
            raise ValueError(
                f"out shares memory with {name}, which must stay readable until the end: "
                f"pass another array ({problem})"
            )
