"""Batch normalisation layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from convforge import functional
from convforge.nn.module import Module, Parameter


class _BatchNorm(Module):
    """Bring each channel to mean 0 and variance 1, then scale and shift it.

    Args:
        num_features: Channels.
        eps: Added to the variance.
        momentum: Share of the batch in the running values; None is their plain average.
        affine: Learn a scale and a shift.
        track_running_stats: Keep running values, for eval mode; without them eval mode takes the
            batch's.
        bias: Whether ``affine`` learns a shift too.
        layout: Such as ``"nhwc"``, where channels stand last.
        dtype: Type of the parameters and running values.

    Attributes:
        weight, bias: Scale and shift, shape ``(num_features,)``.
        running_mean, running_var, num_batches_tracked: Buffers.
    """

    ndims: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        layout: str | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.layout = layout
        ones, zeros = (np.full(num_features, value, dtype) for value in (1, 0))
        tracked = track_running_stats
        self.register_parameter("weight", Parameter(ones) if affine else None)
        self.register_parameter("bias", Parameter(zeros) if affine and bias else None)
        self.register_buffer("running_mean", zeros.copy() if tracked else None)
        self.register_buffer("running_var", ones.copy() if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def forward(self, input: Any) -> Any:
        if input.ndim not in self.ndims:
            wanted = " or ".join(f"{n}" for n in self.ndims)
            raise ValueError(
                f"input has shape {tuple(input.shape)}; {type(self).__name__} wants {wanted} axes"
            )
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.copy_(self.num_batches_tracked.data + 1)
            if self.momentum is None:
                momentum = 1 / self.num_batches_tracked.item()
        return functional.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum,
            self.eps,
            layout=self.layout,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of ``(N, C)`` or ``(N, C, W)``."""

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of ``(N, C, H, W)``."""

    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of ``(N, C, D, H, W)``."""

    ndims = (5,)
