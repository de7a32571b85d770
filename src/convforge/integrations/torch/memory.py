"""Tensors as arrays over the same memory, and PyTorch's memory formats."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from convforge.arrays import Array

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def array_of(tensor: Any) -> Array:
    """A CPU tensor as an array over its memory, whatever autograd thinks of it."""
    if tensor.dtype is torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(_BFLOAT16)  # type: ignore[no-any-return]
    # Copies where the conjugation or the sign is still to be done, and only there.
    return tensor.numpy(force=True)  # type: ignore[no-any-return]


def tensor_of(array: Array) -> Any:
    """A tensor over the memory of a result."""
    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def is_last(tensor: Any) -> bool:
    """Whether PyTorch takes images, or filters, for channels last; with one spatial axis too.

    It asks the strides alone, and where those of both formats are the same it says no
    (``is_channels_last_strides_2d`` of c10/core/MemoryFormat.h).
    """
    shape, strides = tensor.shape, tensor.stride()
    if strides[1] == 0:
        return False
    least = 0
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[axis] == 0 or strides[axis] < least:
            return False
        if axis == 0 and least == strides[1]:
            return False
        least = strides[axis] * shape[axis] if shape[axis] > 1 else strides[axis]
    return True


def in_format(tensor: Any, last: bool) -> Any:
    """The tensor, with the strides of this format to the letter.

    Where an axis of one element lets an array be in both formats, kernels would have to guess.
    """
    shape = tensor.shape
    axes = (0, *range(2, len(shape)), 1) if last else range(len(shape))
    wanted = [0] * len(shape)
    step = 1
    for axis in reversed(axes):
        wanted[axis] = step
        step *= max(shape[axis], 1)
    strides = tuple(wanted)
    if tensor.stride() == strides:
        return tensor
    if all(n == 1 or a == b for n, a, b in zip(shape, tensor.stride(), strides, strict=True)):
        return tensor.as_strided(shape, strides)
    return torch.empty_strided(shape, strides, dtype=tensor.dtype).copy_(tensor)


def empty(like: Any, shape: Any, last: bool, dtype: Any = None) -> Any:
    """An uninitialised tensor of a shape ``(N, C, ...)`` in a format."""
    if not last:
        return like.new_empty(shape, dtype=dtype)
    N, C, *size = shape
    return like.new_empty((N, *size, C), dtype=dtype).movedim(-1, 1)
