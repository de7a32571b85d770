"""Windows as columns of a matrix, and back."""

from __future__ import annotations

from typing import Any

from convforge.arrays import Array
from convforge.autograd import Function
from convforge.ops.arguments import ints, spread
from convforge.ops.folding import fold_columns, folding_axes, image_form, unfold_images
from convforge.ops.planes import Images


def unfold(
    input: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    layout: str | None = None,
) -> Any:
    """Take every window of an image out as a column.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: Extent of the window: one integer, or ``(h, w)``.
        dilation: Distance of the window's elements.
        padding: Rows and columns of zeros around the image.
        stride: Distance of windows.
        layout: ``"nchw"`` (also None) or ``"nhwc"``, of the input.

    Returns:
        Shape ``(N, C * R * S, P * Q)``, a window's elements from channel to row to column, or
        without N; a copy in the framework of ``input``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind or shape, or a window that does not
            fit.
    """
    return _Unfold((kernel_size, dilation, padding, stride), layout)(input)


def fold(
    input: Any,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    *,
    layout: str | None = None,
) -> Any:
    """Add columns of :func:`unfold` up to images; where windows overlap, their elements add.

    Args:
        input: Columns, shape ``(N, C * R * S, P * Q)``, or without N.
        output_size: Extents of the images: one integer, or ``(h, w)``.
        kernel_size, dilation, padding, stride: As those of :func:`unfold`.
        layout: ``"nchw"`` (also None) or ``"nhwc"``, of the result.

    Returns:
        Shape ``(N, C, H, W)`` or ``(C, H, W)``, in the framework of ``input``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, or columns of another shape than
            these windows have.
    """
    size = spread(ints("output_size", output_size, 2), 2)
    return _Fold(size, (kernel_size, dilation, padding, stride), layout)(input)


class _Unfold(Function):
    """Windows to columns."""

    on_host = True
    reads_operands = False

    def __init__(self, geometry: tuple[Any, ...], layout: str | None) -> None:
        self.geometry = geometry
        self.layout = layout

    def forward(self, input: Array) -> Array:
        self.images = Images.of("input", input, 2, self.layout)
        self.axes = folding_axes(self.images.size, *self.geometry)
        return unfold_images(self.images, input, self.axes)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (fold_columns(self.images, grad, self.axes),)


class _Fold(Function):
    """Columns to images."""

    on_host = True
    reads_operands = False

    def __init__(
        self, size: tuple[int, ...], geometry: tuple[Any, ...], layout: str | None
    ) -> None:
        self.size = size
        self.geometry = geometry
        self.layout = layout

    def forward(self, input: Array) -> Array:
        self.axes = folding_axes(self.size, *self.geometry)
        self.images = image_form(input.shape, self.axes, self.layout)
        return fold_columns(self.images, input, self.axes)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (unfold_images(self.images, grad, self.axes),)
