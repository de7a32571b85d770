"""Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array, as_array, common_device, namespace
from convforge.autograd import Function, Tensor
from convforge.ops.arguments import channels_last


def batch_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str | None = None,
) -> Any:
    """Bring each channel to mean 0 and variance 1, then scale and shift it.

    Args:
        input: Shape ``(N, C)`` or ``(N, C, ...)``.
        running_mean: Shape ``(C,)``: read outside training, in training updated in place.
        running_var: As ``running_mean``.
        weight: Scale of each channel, shape ``(C,)``.
        bias: Shift of each channel, shape ``(C,)``.
        training: Take mean and variance of the batch.
        momentum: Share of the batch in the updated running values.
        eps: Added to the variance.
        layout: Such as ``"nhwc"``, where the channel axis is the last one, not the second.

    Raises:
        ValueError: Shapes that do not go together, no running values outside training, or one
            value a channel in training.
    """
    mean = _values(running_mean, "running_mean")
    var = _values(running_var, "running_var")
    last = channels_last(layout, input.ndim - 2) if layout else False
    return _BatchNorm(mean, var, training, momentum, eps, last)(input, weight, bias)


def _values(running: Any, name: str) -> Array | None:
    if running is None:
        return None
    return running._data if isinstance(running, Tensor) else as_array(running, name)


class _BatchNorm(Function):
    """Normalisation of channels, in float32 for half types; sums are taken in float64."""

    def __init__(
        self,
        running_mean: Array | None,
        running_var: Array | None,
        training: bool,
        momentum: float,
        eps: float,
        channels_last: bool,
    ) -> None:
        self.running_mean = running_mean
        self.running_var = running_var
        self.training = training
        self.momentum = momentum
        self.eps = eps
        self.channels_last = channels_last

    def forward(self, input: Array, weight: Array | None, bias: Array | None) -> Any:
        if input.ndim < 2:
            raise ValueError(f"input has shape {input.shape}; wanted (N, C) or (N, C, ...)")
        channel = input.ndim - 1 if self.channels_last else 1
        self.others = tuple(axis for axis in range(input.ndim) if axis != channel)
        self.column = tuple(-1 if axis == channel else 1 for axis in range(input.ndim))
        channels = input.shape[channel]
        for name, value in (
            ("running_mean", self.running_mean),
            ("running_var", self.running_var),
            ("weight", weight),
            ("bias", bias),
        ):
            if value is not None and value.shape != (channels,):
                raise ValueError(
                    f"{name} has shape {value.shape}; wanted ({channels},) for input of shape "
                    f"{input.shape}"
                )
        common_device(input=input, running_mean=self.running_mean, running_var=self.running_var)
        self.wide = np.float32 if input.dtype.itemsize == 2 else input.dtype
        mean, var = self._batch(input, channels) if self.training else self._running()
        deviation = namespace(input).sqrt(var + self.eps)
        self.scale = (1 / deviation).astype(self.wide).reshape(self.column)
        self.mean = mean.astype(self.wide).reshape(self.column)
        self.x, self.weight, self.has_bias = input, weight, bias is not None
        y = self._normalised()
        if weight is not None:
            y = y * weight.astype(self.wide, copy=False).reshape(self.column)
        if bias is not None:
            y = y + bias.astype(self.wide, copy=False).reshape(self.column)
        return y.astype(input.dtype, copy=False)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        grad = grad.astype(self.wide, copy=False)
        normalised = self._normalised()
        db = self._sum(grad)
        dw = self._sum(grad * normalised)
        share = grad * self.scale
        if self.weight is not None:
            share = share * self.weight.astype(self.wide, copy=False).reshape(self.column)
        if self.training:
            count = max(grad.size // max(db.size, 1), 1)
            mean = (self._sum(share) / count).astype(self.wide).reshape(self.column)
            along = (self._sum(share * normalised) / count).astype(self.wide)
            share = share - mean - normalised * along.reshape(self.column)
        return share, dw if self.weight is not None else None, db if self.has_bias else None

    def _sum(self, array: Array) -> Any:
        return array.sum(axis=self.others, dtype=np.float64)

    def _normalised(self) -> Any:
        return (self.x.astype(self.wide, copy=False) - self.mean) * self.scale

    def _running(self) -> tuple[Array, Array]:
        if self.running_mean is None or self.running_var is None:
            raise ValueError("running_mean and running_var are None; wanted both unless training")
        return self.running_mean.astype(np.float64), self.running_var.astype(np.float64)

    def _batch(self, input: Array, channels: int) -> tuple[Array, Array]:
        count = input.size // max(channels, 1)
        if count == 1:
            raise ValueError(
                f"input has shape {input.shape}: one value a channel has no variance to train on"
            )
        mean = self._sum(input) / max(count, 1)
        wide = input.astype(self.wide, copy=False)
        centred = wide - mean.astype(self.wide).reshape(self.column)
        var = self._sum(centred * centred) / max(count, 1)
        share = self.momentum
        if self.running_mean is not None:
            self.running_mean[...] = (1 - share) * self.running_mean + share * mean
        if self.running_var is not None and count > 1:
            unbiased = var * (count / (count - 1))
            self.running_var[...] = (1 - share) * self.running_var + share * unbiased
        return mean, var
