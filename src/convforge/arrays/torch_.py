"""Tensors of PyTorch. Imported only where the caller has imported torch already."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

from convforge.arrays.numpy_ import Array

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def as_numpy(tensor: Any, name: str) -> Array:
    """See a CPU tensor as a NumPy array over the same memory, bfloat16 included.

    Raises:
        TypeError: The tensor is on another device, or recorded by torch's autograd.
    """
    if tensor.device.type != "cpu":
        raise TypeError(
            f"{name} is a torch tensor on {tensor.device}, and this operator runs on the CPU: "
            f"pass {name}.cpu()"
        )
    tensor = lent(tensor, name)
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(_BFLOAT16)  # type: ignore[no-any-return]
    return tensor.numpy()  # type: ignore[no-any-return]


def lent(tensor: Any, name: str) -> Any:
    """A tensor over the same memory that torch's autograd knows nothing of.

    Raises:
        TypeError: It is recorded.
    """
    if tensor.requires_grad:
        if torch.is_grad_enabled():
            raise TypeError(
                f"{name} is a torch tensor that requires grad, and torch cannot see through "
                f"convforge: pass {name}.detach(), or compute under torch.no_grad()"
            )
        tensor = tensor.detach()
    return tensor.resolve_conj().resolve_neg()


def from_array(array: Array) -> Any:
    """A tensor over the memory of an array, of the host's or of a device's."""
    if array.__class__ is np.ndarray and array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(array)
