"""What the adapters share: axes, and transposed convolution with any crop at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from convforge.arrays import Array, as_numpy
from convforge.autograd import Tensor
from convforge.autograd.elementary import Permute, Reshape
from convforge.functional.convolution import convolve, lengthen
from convforge.ops import Prepare, conv_arguments
from convforge.ops.arguments import ints, spread

Pair = tuple[int, int]


def rank_of(name: str, array: Any) -> int:
    """Number of spatial axes, where two more are for images and channels.

    Raises:
        TypeError, ValueError: Not an array, or no such number of axes.
    """
    shape = array_of(name, array).shape
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"{name} has shape {tuple(shape)}; wanted 1, 2 or 3 spatial axes and 2")
    return len(shape) - 2


def array_of(name: str, value: Any) -> Array:
    """The elements of a Tensor or of anybody's array.

    Raises:
        TypeError: Not an array.
    """
    return value.data if isinstance(value, Tensor) else as_numpy(value, name)


def each(name: str, value: Any, rank: int, default: int = 1) -> tuple[int, ...]:
    """One integer for each axis; None stands for the default.

    Raises:
        TypeError, ValueError: Not an integer, or another number of them.
    """
    return spread(ints(name, default if value is None else value, rank), rank)


def permute(array: Any, axes: Iterable[int]) -> Any:
    """The axes in another order, with gradients; a view where the array's memory allows."""
    return Permute(axes)(array)


def reshape(array: Any, shape: Sequence[int]) -> Any:
    """The same elements in another shape, with gradients."""
    return Reshape(shape)(array)


def cropped_transpose(
    input: Any,
    weight: Any,
    bias: Any,
    strides: tuple[int, ...],
    crops: Sequence[Pair],
    dilations: tuple[int, ...],
    groups: int = 1,
    *,
    prepare: Prepare | None = None,
    **keywords: Any,
) -> Any:
    """Transposed convolution, less so many elements at both ends of every axis.

    A negative crop at the end adds elements there, which hold what the scatter gives: zeros where
    nothing reaches. Other arguments are those of ``functional.conv_transpose2d``.

    Raises:
        ValueError: A negative crop at the beginning, or what functional refuses.
    """
    if any(low < 0 for low, _ in crops):
        raise ValueError(
            f"the result would have to begin before the first element reaches: crops {crops} must "
            "not be negative at the beginning; put zeros before the result with functional.pad"
        )
    args = conv_arguments(
        len(strides), strides, [(low, max(high, 0)) for low, high in crops], dilations, groups,
        transposed=True, output_padding=[max(-high, 0) for _, high in crops],
        **keywords,
    )  # fmt: skip
    args, input = lengthen(args, input)
    return convolve(args, input, weight, bias, prepare=prepare)
