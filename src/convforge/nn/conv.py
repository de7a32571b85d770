"""Convolution layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from convforge.functional.convolution import conv, conv_transpose
from convforge.nn.arguments import count, counts, require_choice, require_groups, window
from convforge.nn.linear import reset_weight_and_bias
from convforge.nn.module import Module, Parameter
from convforge.nn.packed import PackedWeights
from convforge.ops.arguments import activation_word, channels_last, ints, pad_mode, spread

if TYPE_CHECKING:
    from convforge.policy import Policy


class _Conv(Module):
    """What convolution layers of every rank and both ways have in common."""

    rank: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        output_padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        layout: str | None,
        activation: str | None,
        algorithm: str | None,
        policy: Policy | None,
        dtype: DTypeLike,
    ) -> None:
        super().__init__()
        rank = self.rank
        in_channels = count("in_channels", in_channels)
        out_channels = count("out_channels", out_channels)
        kernel_size, stride, padding, dilation = window(
            rank, kernel_size, stride, padding, dilation
        )
        pad_mode(padding_mode)
        channels_last(layout, rank)
        require_choice(algorithm, policy)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = spread(kernel_size, rank)
        self.stride = spread(stride, rank)
        self.padding = (padding,) * rank if isinstance(padding, int) else padding
        self.output_padding = spread(counts("output_padding", output_padding, rank, 0), rank)
        self.dilation = spread(dilation, rank)
        self.groups = require_groups(groups, in_channels=in_channels, out_channels=out_channels)
        self.padding_mode = padding_mode
        self.layout = layout
        self.activation = activation_word(activation)
        self.algorithm = algorithm
        self.policy = policy
        filters, channels = (
            (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        )
        self.weight = Parameter(
            np.zeros((filters, channels // self.groups, *self.kernel_size), dtype)
        )
        self.register_parameter("bias", Parameter(np.zeros(out_channels, dtype)) if bias else None)
        self._packed = PackedWeights()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values by PyTorch's rule: uniform within ``1 / sqrt(fan_in)``."""
        reset_weight_and_bias(self)

    def forward(self, input: Any) -> Any:
        return conv(
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            padding_mode=self.padding_mode,
            layout=self.layout,
            activation=self.activation,
            algorithm=self.algorithm,
            policy=self.policy,
            prepare=self._prepare(self.weight),
        )

    def extra_repr(self) -> str:
        none = (0,) * self.rank
        settings = {
            "kernel_size": (self.kernel_size, None),
            "stride": (self.stride, None),
            "padding": (self.padding, none),
            "dilation": (self.dilation, (1,) * self.rank),
            "output_padding": (self.output_padding, none),
            "groups": (self.groups, 1),
            "bias": (self.bias is not None, True),
            "padding_mode": (self.padding_mode, "zeros"),
            "layout": (self.layout, None),
            "activation": (self.activation, None),
            "algorithm": (self.algorithm, None),
        }
        shown = [f"{name}={value}" for name, (value, usual) in settings.items() if value != usual]
        return ", ".join([f"{self.in_channels}", f"{self.out_channels}", *shown])


class _ConvForward(_Conv):
    """What the convolution layers of every rank are; :class:`Conv2d` explains."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        layout: str | None = None,
        activation: str | None = None,
        algorithm: str | None = None,
        policy: Policy | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias,
            padding_mode, layout, activation, algorithm, policy, dtype,
        )  # fmt: skip


class _ConvTransposed(_Conv):
    """What the transposed layers of every rank are; :class:`ConvTranspose2d` explains."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        layout: str | None = None,
        activation: str | None = None,
        algorithm: str | None = None,
        policy: Policy | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(
                f"padding_mode is {padding_mode!r}; a transposed convolution has 'zeros' only"
            )
        if isinstance(padding, str):
            raise ValueError(f"padding is {padding!r}; a transposed convolution wants integers")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation,
            groups, bias, padding_mode, layout, activation, algorithm, policy, dtype,
        )  # fmt: skip

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """Apply to images; ``output_size``, the result's extents, chooses the output padding."""
        padding = self.output_padding
        if output_size is not None:
            padding = self._output_padding(input, output_size)
        return conv_transpose(
            self.rank,
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            padding,
            self.groups,
            self.dilation,
            layout=self.layout,
            activation=self.activation,
            algorithm=self.algorithm,
            policy=self.policy,
            prepare=self._prepare(self.weight),
        )

    def _output_padding(self, input: Any, output_size: Any) -> tuple[int, ...]:
        rank = self.rank
        wanted = spread(ints("output_size", list(output_size)[-rank:], rank), rank)
        shape = tuple(input.shape)
        size = shape[-1 - rank : -1] if channels_last(self.layout, rank) else shape[-rank:]
        pads = [p if isinstance(p, tuple) else (p, p) for p in self.padding]
        least = tuple(
            (n - 1) * s - lo - hi + d * (k - 1) + 1
            for n, s, d, k, (lo, hi) in zip(
                size, self.stride, self.dilation, self.kernel_size, pads, strict=True
            )
        )
        extra = tuple(w - n for w, n in zip(wanted, least, strict=True))
        if not all(0 <= e < max(s, d) for e, s, d in zip(
            extra, self.stride, self.dilation, strict=True
        )):  # fmt: skip
            most = tuple(
                n + max(s, d) - 1 for n, s, d in zip(least, self.stride, self.dilation, strict=True)
            )
            raise ValueError(
                f"output_size is {tuple(output_size)}; wanted {least} to {most} for input of "
                f"shape {shape}"
            )
        return extra


class Conv1d(_ConvForward):
    """A convolution layer for sequences ``(N, C, W)``; arguments as of :class:`Conv2d`."""

    rank = 1


class Conv2d(_ConvForward):
    """A convolution layer for images ``(N, C, H, W)`` or ``(C, H, W)``.

    Args:
        in_channels: Channels of the input.
        out_channels: Filters.
        kernel_size: Extent of a filter: one integer, or one for each axis.
        stride: Distance of outputs.
        padding: Integers, pairs or a word, as in :func:`convforge.functional.conv2d`.
        dilation: Distance of a filter's taps.
        groups: Groups of channels that do not see each other.
        bias: Whether to learn a bias.
        padding_mode: What stands outside: zeros, reflect, replicate or circular; never copied.
        layout: Names of the input's axes, such as ``"nhwc"``.
        activation: Applied last: relu, relu6, silu, gelu or gelu_tanh.
        algorithm: A name or glob of :func:`convforge.algorithms`; never replaced.
        policy: Limits within which an algorithm is chosen.
        dtype: Type of the parameters.

    Attributes:
        weight: Shape ``(out_channels, in_channels // groups, *kernel_size)``.
        bias: Shape ``(out_channels,)``, or None.

    Raises:
        TypeError, ValueError: An argument that makes no convolution.
    """

    rank = 2


class Conv3d(_ConvForward):
    """A convolution layer for volumes ``(N, C, D, H, W)``; arguments as of :class:`Conv2d`."""

    rank = 3


class ConvTranspose1d(_ConvTransposed):
    """A transposed convolution layer for sequences; arguments as of :class:`ConvTranspose2d`."""

    rank = 1


class ConvTranspose2d(_ConvTransposed):
    """A transposed convolution layer for images ``(N, C, H, W)`` or ``(C, H, W)``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel_size: Extent of a filter: one integer, or one for each axis.
        stride: Distance of two inputs in the result.
        padding: What is cut off the result's border.
        output_padding: What the result has more at its end.
        groups: Groups of channels that do not see each other.
        bias: Whether to learn a bias.
        dilation: Distance of a filter's taps.
        padding_mode: Only zeros.
        layout: Names of the input's axes, such as ``"nhwc"``.
        activation: Applied last: relu, relu6, silu, gelu or gelu_tanh.
        algorithm: A name or glob of :func:`convforge.algorithms`; never replaced.
        policy: Limits within which an algorithm is chosen.
        dtype: Type of the parameters.

    Attributes:
        weight: Shape ``(in_channels, out_channels // groups, *kernel_size)``.
        bias: Shape ``(out_channels,)``, or None.

    Raises:
        TypeError, ValueError: An argument that makes no convolution.
    """

    rank = 2


class ConvTranspose3d(_ConvTransposed):
    """A transposed convolution layer for volumes; arguments as of :class:`ConvTranspose2d`."""

    rank = 3
