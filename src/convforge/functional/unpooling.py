"""The way back from a maximum's positions."""

from __future__ import annotations

from typing import Any

from convforge.arrays import Array, as_numpy
from convforge.autograd import Function, Tensor
from convforge.ops.planes import Images
from convforge.ops.unpooling import Places, unpooled_size


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str | None = None,
) -> Any:
    """Put elements back where a max pooling found them; see :func:`max_unpool2d`."""
    return _Unpooling(1, indices, (kernel_size, stride, padding, output_size), layout)(input)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str | None = None,
) -> Any:
    """Put elements back where a max pooling found them, zeros elsewhere.

    Args:
        input: What was pooled, shape ``(N, C, P, Q)`` or ``(C, P, Q)``.
        indices: Integers of the same shape, from ``max_pool2d(..., return_indices=True)``. Where
            several are equal the last element in row-major order is taken.
        kernel_size, stride, padding: Those of the pooling.
        output_size: Extents of the result, or its shape, where several were pooled to the same.
        layout: ``"nchw"`` (also None) or ``"nhwc"``.

    Returns:
        Shape ``(N, C, H, W)``, in the framework and memory order of ``input``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type, an ``output_size``
            that such a pooling does not start from, or an index outside the plane.
    """
    return _Unpooling(2, indices, (kernel_size, stride, padding, output_size), layout)(input)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str | None = None,
) -> Any:
    """Put elements back where a max pooling found them; see :func:`max_unpool2d`."""
    return _Unpooling(3, indices, (kernel_size, stride, padding, output_size), layout)(input)


class _Unpooling(Function):
    """Elements at the places that indices name; the way back takes them from there."""

    on_host = True
    reads_operands = False
    makes_gradients = True

    def __init__(
        self, rank: int, indices: Any, geometry: tuple[Any, ...], layout: str | None
    ) -> None:
        self.rank = rank
        self.indices = indices.data if isinstance(indices, Tensor) else indices
        self.geometry = geometry
        self.layout = layout

    def forward(self, input: Array) -> Array:
        images = Images.of("input", input, self.rank, self.layout)
        size = unpooled_size(images.size, *self.geometry)
        self.places = Places(images, input, as_numpy(self.indices, "indices"), size)
        return self.places.put(input)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (self.places.take(grad),)
