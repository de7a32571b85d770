"""Layers of PyTorch whose forward calls are run here.

Each is a subclass of the layer of the same name: its arguments, parameters and ``state_dict`` are
that layer's.
"""

from __future__ import annotations

from typing import Any

import torch

from convforge.integrations.torch import convolution, pooling
from convforge.integrations.torch.packed import PackedWeights
from convforge.integrations.torch.settings import paddings


class _Converted:
    """What converted layers hold besides PyTorch's own.

    Attributes:
        convforge_policy: Limits within which algorithms are chosen, as a word.
        convforge_packed: Keeps prepared weights, where the layer is frozen.
    """

    convforge_policy = ""
    convforge_packed: PackedWeights | None = None


class _Conv(_Converted):
    """Convolution layers, all but the number of axes."""

    rank: int

    def _conv_forward(self: Any, input: Any, weight: Any, bias: Any) -> Any:
        borders = None
        if self.padding_mode != "zeros":
            borders = paddings(self.padding, self.kernel_size, self.stride, self.dilation)
        return convolution.convolve(
            self.rank, input, weight, bias, self.stride, self.padding, self.dilation, self.groups,
            self.convforge_policy, mode=self.padding_mode, borders=borders,
            packed=self.convforge_packed,
        )  # fmt: skip


class _ConvTransposed(_Converted):
    """Transposed convolution layers, all but the number of axes."""

    rank: int

    def forward(self: Any, input: Any, output_size: Any = None) -> Any:
        rank = self.rank
        extra = self._output_padding(
            input, output_size, self.stride, self.padding, self.kernel_size, rank, self.dilation
        )
        return convolution.transpose(
            rank, input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
            self.dilation, self.convforge_policy,
        )  # fmt: skip


class Conv1d(_Conv, torch.nn.Conv1d):
    """:class:`torch.nn.Conv1d`."""

    rank = 1


class Conv2d(_Conv, torch.nn.Conv2d):
    """:class:`torch.nn.Conv2d`."""

    rank = 2


class Conv3d(_Conv, torch.nn.Conv3d):
    """:class:`torch.nn.Conv3d`."""

    rank = 3


class ConvTranspose1d(_ConvTransposed, torch.nn.ConvTranspose1d):
    """:class:`torch.nn.ConvTranspose1d`."""

    rank = 1


class ConvTranspose2d(_ConvTransposed, torch.nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d`."""

    rank = 2


class ConvTranspose3d(_ConvTransposed, torch.nn.ConvTranspose3d):
    """:class:`torch.nn.ConvTranspose3d`."""

    rank = 3


class Linear(_Converted, torch.nn.Linear):
    """:class:`torch.nn.Linear`."""

    def forward(self, input: Any) -> Any:
        """Apply to rows."""
        return convolution.multiply(
            input, self.weight, self.bias, self.convforge_policy, packed=self.convforge_packed
        )


class MaxPool1d(_Converted, torch.nn.MaxPool1d):
    """:class:`torch.nn.MaxPool1d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        policy = self.convforge_policy
        return pooling.max_pool(1, input, window, self.return_indices, policy)


class MaxPool2d(_Converted, torch.nn.MaxPool2d):
    """:class:`torch.nn.MaxPool2d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        policy = self.convforge_policy
        return pooling.max_pool(2, input, window, self.return_indices, policy)


class MaxPool3d(_Converted, torch.nn.MaxPool3d):
    """:class:`torch.nn.MaxPool3d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        policy = self.convforge_policy
        return pooling.max_pool(3, input, window, self.return_indices, policy)


class AdaptiveMaxPool1d(_Converted, torch.nn.AdaptiveMaxPool1d):
    """:class:`torch.nn.AdaptiveMaxPool1d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        wanted = self.output_size, self.return_indices
        return pooling.adaptive_max_pool(1, input, *wanted, self.convforge_policy)


class AdaptiveMaxPool2d(_Converted, torch.nn.AdaptiveMaxPool2d):
    """:class:`torch.nn.AdaptiveMaxPool2d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        wanted = self.output_size, self.return_indices
        return pooling.adaptive_max_pool(2, input, *wanted, self.convforge_policy)


class AdaptiveMaxPool3d(_Converted, torch.nn.AdaptiveMaxPool3d):
    """:class:`torch.nn.AdaptiveMaxPool3d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        wanted = self.output_size, self.return_indices
        return pooling.adaptive_max_pool(3, input, *wanted, self.convforge_policy)


class AvgPool1d(_Converted, torch.nn.AvgPool1d):
    """:class:`torch.nn.AvgPool1d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        window = (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            None,
        )  # fmt: skip
        return pooling.avg_pool(1, input, window, self.convforge_policy)


class AvgPool2d(_Converted, torch.nn.AvgPool2d):
    """:class:`torch.nn.AvgPool2d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        window = (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip
        return pooling.avg_pool(2, input, window, self.convforge_policy)


class AvgPool3d(_Converted, torch.nn.AvgPool3d):
    """:class:`torch.nn.AvgPool3d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        window = (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip
        return pooling.avg_pool(3, input, window, self.convforge_policy)


class AdaptiveAvgPool1d(_Converted, torch.nn.AdaptiveAvgPool1d):
    """:class:`torch.nn.AdaptiveAvgPool1d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        return pooling.adaptive_avg_pool(1, input, self.output_size, self.convforge_policy)


class AdaptiveAvgPool2d(_Converted, torch.nn.AdaptiveAvgPool2d):
    """:class:`torch.nn.AdaptiveAvgPool2d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        return pooling.adaptive_avg_pool(2, input, self.output_size, self.convforge_policy)


class AdaptiveAvgPool3d(_Converted, torch.nn.AdaptiveAvgPool3d):
    """:class:`torch.nn.AdaptiveAvgPool3d`."""

    def forward(self, input: Any) -> Any:
        """Apply to images."""
        return pooling.adaptive_avg_pool(3, input, self.output_size, self.convforge_policy)
