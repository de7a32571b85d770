"""The types that ``torch.autocast`` computes in, as PyTorch's own functions follow it."""

from __future__ import annotations

from typing import Any

import torch


def lowered(*tensors: Any) -> tuple[Any, ...]:
    """Tensors of a convolution or a matrix product: in autocast's type, where it is on."""
    if not torch.is_autocast_enabled("cpu"):
        return tensors
    return _cast(torch.get_autocast_dtype("cpu"), tensors)


def widened(tensor: Any) -> Any:
    """A tensor of those functions that autocast has computed in float32."""
    if not torch.is_autocast_enabled("cpu"):
        return tensor
    return _cast(torch.float32, (tensor,))[0]


def _cast(dtype: Any, tensors: tuple[Any, ...]) -> tuple[Any, ...]:
    # float64 and complex numbers stay what they are.
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t
        for t in tensors
    )
