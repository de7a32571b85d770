"""Convolution, convolution of bytes, and transposed convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.autograd import Function
from convforge.conventions.common import Pair, array_of, cropped_transpose, each, rank_of
from convforge.conventions.onnx.attributes import Ints, padding_of
from convforge.functional.convolution import conv


def Conv(
    X: Any,
    W: Any,
    B: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Any:
    """Convolution; ``B`` has shape ``(M,)``.

    Raises:
        TypeError, ValueError: Attributes that contradict each other or the filters, or what
            ``functional.conv2d`` refuses.
    """
    rank = rank_of("W", W)
    _require_kernel_shape(kernel_shape, W, rank)
    return conv(
        rank, X, W, B, each("strides", strides, rank), padding_of(auto_pad, pads, rank),
        each("dilations", dilations, rank), group,
    )  # fmt: skip


def ConvInteger(
    x: Any,
    w: Any,
    x_zero_point: Any = None,
    w_zero_point: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Any:
    """Convolution of int8 or uint8 less their zero points, in int32; padding is a zero point.

    ``w_zero_point`` may be of shape ``(M,)``, one for each filter.
    """
    rank = rank_of("w", w)
    for name, array in (("x", x), ("w", w)):
        if (dtype := array_of(name, array).dtype) not in (np.int8, np.uint8):
            raise TypeError(f"{name} has dtype {dtype}; ConvInteger wants int8 or uint8: call Conv")
    if w_zero_point is not None and np.ndim(w_zero_point) == 1:
        w_zero_point = np.reshape(w_zero_point, (-1,) + (1,) * (rank + 1))
    x, w = _Centred(x_zero_point)(x), _Centred(w_zero_point)(w)
    return Conv(
        x, w, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape,
        pads=pads, strides=strides,
    )  # fmt: skip


def ConvTranspose(
    X: Any,
    W: Any,
    B: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    output_padding: Ints = None,
    output_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Any:
    """Transposed convolution; filters are ``(C, M // group, k1, ...)``.

    With ``output_shape``, pads follow from it: the odd one is cut off the end with SAME_UPPER, else
    off the beginning. The words SAME_UPPER and SAME_LOWER make it at most ``n * stride``; a filter
    shorter than its stride leaves it shorter, as in onnxruntime.
    """
    rank = rank_of("W", W)
    kernel = _require_kernel_shape(kernel_shape, W, rank)
    steps, spans = each("strides", strides, rank), each("dilations", dilations, rank)
    extra = each("output_padding", output_padding, rank, 0)
    if any(not 0 <= e < max(s, d) for e, s, d in zip(extra, steps, spans, strict=True)):
        raise ValueError(
            f"output_padding is {extra}; wanted less than strides {steps} or dilations {spans}: "
            "name the size in output_shape"
        )
    padding = padding_of(auto_pad, pads, rank)
    if output_shape is not None or padding in ("same_upper", "same_lower"):
        lengths = (
            (n - 1) * s + e + d * (k - 1) + 1
            for n, s, e, d, k in zip(X.shape[2:], steps, extra, spans, kernel, strict=True)
        )
        if output_shape is None:
            totals = [
                max(length - n * s, 0)
                for length, n, s in zip(lengths, X.shape[2:], steps, strict=True)
            ]
        else:
            wanted = each("output_shape", tuple(output_shape)[-rank:], rank)
            totals = [length - out for length, out in zip(lengths, wanted, strict=True)]
        crops = [_shared(total, upper=auto_pad == "SAME_UPPER") for total in totals]
    else:
        crops = [(0, 0)] * rank if isinstance(padding, str) else padding
    ends = [(low, high - e) for (low, high), e in zip(crops, extra, strict=True)]
    return cropped_transpose(X, W, B, steps, ends, spans, group)


class _Centred(Function):
    """Bytes less their zero point, in int16, which holds every difference."""

    def __init__(self, zero_point: Any) -> None:
        self.zero_point = 0 if zero_point is None else np.asarray(zero_point, np.int16)

    def forward(self, array: Array) -> Array:
        return np.asarray(array.astype(np.int16) - self.zero_point, np.int16)


def _require_kernel_shape(kernel_shape: Ints, W: Any, rank: int) -> tuple[int, ...]:
    kernel = tuple(W.shape)[2:]
    if kernel_shape is not None and each("kernel_shape", kernel_shape, rank) != kernel:
        raise ValueError(f"kernel_shape is {tuple(kernel_shape)}, but W has shape {tuple(W.shape)}")
    return kernel


def _shared(total: int, *, upper: bool) -> Pair:
    """A total crop shared by both ends; what a negative one adds stands at the end."""
    if total < 0:
        return 0, total
    less, more = total // 2, total - total // 2
    return (less, more) if upper else (more, less)
