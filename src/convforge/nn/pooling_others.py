"""Pooling layers beside the maximum and the mean: power means, random windows, unpooling."""

from __future__ import annotations

from typing import Any

from convforge import functional
from convforge.functional.lp_pooling import require_norm
from convforge.nn.arguments import counts, require_choice
from convforge.nn.module import Module
from convforge.ops.arguments import channels_last, flag, output_sizes, spread
from convforge.ops.fractional import require_ratios


class _LPPool(Module):
    """Root of the sum of powers of each window; see :func:`convforge.functional.lp_pool2d`.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    rank: int

    def __init__(
        self,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
        *,
        layout: str | None = None,
        algorithm: str | None = None,
    ) -> None:
        super().__init__()
        require_choice(algorithm)
        channels_last(layout, self.rank)
        require_norm(norm_type)
        self.norm_type = norm_type
        self.kernel_size = counts("kernel_size", kernel_size, self.rank, 1)
        self.stride = None if stride is None else counts("stride", stride, self.rank, 1)
        self.ceil_mode = flag("ceil_mode", ceil_mode)
        self.layout = layout
        self.algorithm = algorithm

    def forward(self, input: Any) -> Any:
        return getattr(functional, f"lp_pool{self.rank}d")(
            input,
            self.norm_type,
            self.kernel_size,
            self.stride,
            self.ceil_mode,
            layout=self.layout,
            algorithm=self.algorithm,
        )

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """Root of the sum of powers of each window of a sequence."""

    rank = 1


class LPPool2d(_LPPool):
    """Root of the sum of powers of each window of an image."""

    rank = 2


class LPPool3d(_LPPool):
    """Root of the sum of powers of each window of a volume."""

    rank = 3


class _FractionalMaxPool(Module):
    """Largest element of windows at random distances.

    See :func:`convforge.functional.fractional_max_pool2d`.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    rank: int

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
        *,
        layout: str | None = None,
    ) -> None:
        super().__init__()
        channels_last(layout, self.rank)
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"output_size is {output_size!r} and output_ratio {output_ratio!r}; wanted one of "
                "them"
            )
        if output_size is not None:
            output_sizes(output_size, self.rank)
        else:
            require_ratios(output_ratio, self.rank)
        self.kernel_size = counts("kernel_size", kernel_size, self.rank, 1)
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = flag("return_indices", return_indices)
        self._random_samples = _random_samples
        self.layout = layout

    def forward(self, input: Any) -> Any:
        return getattr(functional, f"fractional_max_pool{self.rank}d")(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
            layout=self.layout,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Largest element of windows at random distances in an image."""

    rank = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Largest element of windows at random distances in a volume."""

    rank = 3


class _MaxUnpool(Module):
    """Elements put back where a max pooling found them.

    See :func:`convforge.functional.max_unpool2d`.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    rank: int

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *, layout: str | None = None
    ) -> None:
        super().__init__()
        channels_last(layout, self.rank)
        stride = kernel_size if stride is None else stride
        self.kernel_size = spread(counts("kernel_size", kernel_size, self.rank, 1), self.rank)
        self.stride = spread(counts("stride", stride, self.rank, 1), self.rank)
        self.padding = spread(counts("padding", padding, self.rank, 0), self.rank)
        self.layout = layout

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        return getattr(functional, f"max_unpool{self.rank}d")(
            input,
            indices,
            self.kernel_size,
            self.stride,
            self.padding,
            output_size,
            layout=self.layout,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Elements put back where a max pooling of a sequence found them."""

    rank = 1


class MaxUnpool2d(_MaxUnpool):
    """Elements put back where a max pooling of an image found them."""

    rank = 2


class MaxUnpool3d(_MaxUnpool):
    """Elements put back where a max pooling of a volume found them."""

    rank = 3
