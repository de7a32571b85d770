"""Layers of windows as columns of a matrix."""

from __future__ import annotations

from typing import Any

from convforge import functional
from convforge.nn.arguments import counts
from convforge.nn.module import Module
from convforge.ops.arguments import channels_last


class _Windows(Module):
    """Geometry of windows, checked."""

    def __init__(
        self,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__()
        channels_last(layout, 2)
        self.kernel_size = counts("kernel_size", kernel_size, 2, 1)
        self.dilation = counts("dilation", dilation, 2, 1)
        self.padding = counts("padding", padding, 2, 0)
        self.stride = counts("stride", stride, 2, 1)
        self.layout = layout

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Unfold(_Windows):
    """Every window of an image as a column; see :func:`convforge.functional.unfold`.

    Raises:
        TypeError, ValueError: An argument that makes no windows.
    """

    def forward(self, input: Any) -> Any:
        """Columns of images."""
        return functional.unfold(
            input, self.kernel_size, self.dilation, self.padding, self.stride, layout=self.layout
        )


class Fold(_Windows):
    """Columns added up to images; see :func:`convforge.functional.fold`.

    Raises:
        TypeError, ValueError: An argument that makes no windows.
    """

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride, layout=layout)
        self.output_size = counts("output_size", output_size, 2, 1)

    def forward(self, input: Any) -> Any:
        """Images of columns."""
        return functional.fold(
            input,
            self.output_size,
            self.kernel_size,
            self.dilation,
            self.padding,
            self.stride,
            layout=self.layout,
        )

    def extra_repr(self) -> str:
        """Arguments, as PyTorch prints them."""
        return f"output_size={self.output_size}, {super().extra_repr()}"
