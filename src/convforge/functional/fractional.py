"""Fractional max pooling, whose windows lie at random distances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convforge.arrays import Array, as_numpy, dtype_of, home_of
from convforge.autograd import Function, Tensor
from convforge.ops.arguments import flag
from convforge.ops.fractional import fractional_max, fractional_size, windows
from convforge.ops.planes import Images
from convforge.ops.unpooling import Places
from convforge.random import default_generator


def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    layout: str | None = None,
    generator: np.random.Generator | None = None,
) -> Any:
    """Largest element of windows that lie at random distances (Graham 2014, arXiv:1412.6071).

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: Extent of the window: one integer, or ``(h, w)``.
        output_size: Extents of the result: one integer, or ``(h, w)``.
        output_ratio: The same as a share of the input's, between 0 and 1; ``output_size`` wins.
        return_indices: Return positions too.
        _random_samples: Numbers from 0 to 1, shape ``(N, C, 2)``, for the windows of the columns
            and of the rows; drawn where there are none.
        layout: ``"nchw"`` (also None) or ``"nhwc"``.
        generator: Where the randomness comes from; by default what
            :func:`convforge.manual_seed` seeds.

    Returns:
        Shape ``(N, C, P, Q)``, in the framework and memory order of ``input``; with
        ``return_indices`` a pair of it and int64 positions, counted along one plane ``H * W``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type, or more windows than
            start in the input.
    """
    node = _FractionalMax(
        2, kernel_size, output_size, output_ratio, _random_samples, layout, generator
    )
    return _with_indices(node, input, flag("return_indices", return_indices))


def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    layout: str | None = None,
    generator: np.random.Generator | None = None,
) -> Any:
    """Largest element of windows at random distances in a volume.

    ``_random_samples`` are for the axes d, h and w; see :func:`fractional_max_pool2d`.
    """
    node = _FractionalMax(
        3, kernel_size, output_size, output_ratio, _random_samples, layout, generator
    )
    return _with_indices(node, input, flag("return_indices", return_indices))


def _with_indices(node: _FractionalMax, input: Any, return_indices: bool) -> Any:
    y = node(input)
    if not return_indices:
        return y
    indices = node.indices
    return y, Tensor(indices) if isinstance(y, Tensor) else home_of(input)(indices)


class _FractionalMax(Function):
    """A fractional max pooling; the way back adds to the positions of the maxima."""

    on_host = True
    reads_operands = False
    makes_gradients = True

    def __init__(
        self,
        rank: int,
        kernel_size: Any,
        output_size: Any,
        output_ratio: Any,
        samples: Any,
        layout: str | None,
        generator: np.random.Generator | None,
    ) -> None:
        self.rank = rank
        self.window = windows(kernel_size, rank)
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.samples = samples
        self.layout = layout
        self.generator = generator

    def forward(self, input: Array) -> Array:
        if dtype_of(input.dtype, "input").eps == 0 or input.dtype.kind == "c":
            raise TypeError(f"input has dtype {input.dtype}; wanted real floating-point numbers")
        self.images = Images.of("input", input, self.rank, self.layout)
        size = fractional_size(self.images.size, self.window, self.output_size, self.output_ratio)
        if self.samples is None:
            generator = self.generator or default_generator()
            samples = generator.random((self.images.N, self.images.C, self.rank))
        else:
            given = self.samples
            samples = as_numpy(
                given.data if isinstance(given, Tensor) else given, "_random_samples"
            )
        y, self.indices = fractional_max(self.images, input, self.window, size, samples)
        return y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        pooled = replace(self.images, size=grad.shape)
        return (Places(pooled, grad, self.indices, self.images.size).add(grad),)
