"""Pooling layers."""

from __future__ import annotations

from typing import Any

from convforge import functional
from convforge.nn.arguments import count, require_choice, window
from convforge.nn.module import Module
from convforge.ops.arguments import channels_last, flag, output_sizes, spread


class _MaxPool(Module):
    """Largest element of each window; see :func:`convforge.functional.max_pool2d`.

    The arguments after ``dilation`` stand in the order of PyTorch's layer, which is not that of
    its function.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    rank: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        layout: str | None = None,
        algorithm: str | None = None,
    ) -> None:
        super().__init__()
        require_choice(algorithm)
        channels_last(layout, self.rank)
        stride = kernel_size if stride is None else stride
        self.kernel_size, self.stride, self.padding, self.dilation = window(
            self.rank, kernel_size, stride, padding, dilation, pool=True
        )
        self.return_indices = flag("return_indices", return_indices)
        self.ceil_mode = flag("ceil_mode", ceil_mode)
        self.layout = layout
        self.algorithm = algorithm

    def forward(self, input: Any) -> Any:
        return getattr(functional, f"max_pool{self.rank}d")(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
            layout=self.layout,
            algorithm=self.algorithm,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """Largest element of each window of a sequence."""

    rank = 1


class MaxPool2d(_MaxPool):
    """Largest element of each window of an image."""

    rank = 2


class MaxPool3d(_MaxPool):
    """Largest element of each window of a volume."""

    rank = 3


class _AvgPool(Module):
    """Mean of each window; see :func:`convforge.functional.avg_pool2d`.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    rank: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        layout: str | None = None,
        algorithm: str | None = None,
    ) -> None:
        super().__init__()
        require_choice(algorithm)
        channels_last(layout, self.rank)
        stride = kernel_size if stride is None else stride
        self.kernel_size, self.stride, self.padding, _ = window(
            self.rank, kernel_size, stride, padding, 1, pool=True
        )
        self.ceil_mode = flag("ceil_mode", ceil_mode)
        self.count_include_pad = flag("count_include_pad", count_include_pad)
        if divisor_override is not None:
            divisor_override = count("divisor_override", divisor_override, 1)
        self.divisor_override = divisor_override
        self.layout = layout
        self.algorithm = algorithm

    def forward(self, input: Any) -> Any:
        divisor = {} if self.rank == 1 else {"divisor_override": self.divisor_override}
        return getattr(functional, f"avg_pool{self.rank}d")(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            **divisor,
            layout=self.layout,
            algorithm=self.algorithm,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """Mean of each window of a sequence."""

    rank = 1

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        layout: str | None = None,
        algorithm: str | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad,
            layout=layout, algorithm=algorithm,
        )  # fmt: skip
        # PyTorch's layer keeps, and prints, tuples of one.
        self.kernel_size, self.stride = spread(self.kernel_size, 1), spread(self.stride, 1)
        if isinstance(self.padding, int):
            self.padding = (self.padding,)


class AvgPool2d(_AvgPool):
    """Mean of each window of an image."""

    rank = 2


class AvgPool3d(_AvgPool):
    """Mean of each window of a volume."""

    rank = 3


class _AdaptivePool(Module):
    """Windows that follow from the result's extents.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    rank: int
    kind: str

    def __init__(
        self,
        output_size: Any,
        return_indices: bool = False,
        *,
        layout: str | None = None,
        algorithm: str | None = None,
    ) -> None:
        super().__init__()
        require_choice(algorithm)
        channels_last(layout, self.rank)
        sizes = output_sizes(output_size, self.rank)
        self.output_size = sizes if isinstance(output_size, list | tuple) else output_size
        self.return_indices = flag("return_indices", return_indices)
        self.layout = layout
        self.algorithm = algorithm

    def forward(self, input: Any) -> Any:
        indices = {"return_indices": True} if self.return_indices else {}
        return getattr(functional, f"adaptive_{self.kind}_pool{self.rank}d")(
            input, self.output_size, layout=self.layout, algorithm=self.algorithm, **indices
        )

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_AdaptivePool):
    """Mean of each window; see :func:`convforge.functional.adaptive_avg_pool2d`.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    kind = "avg"

    def __init__(
        self, output_size: Any, *, layout: str | None = None, algorithm: str | None = None
    ) -> None:
        super().__init__(output_size, layout=layout, algorithm=algorithm)


class _AdaptiveMaxPool(_AdaptivePool):
    """Largest element of each window; see :func:`convforge.functional.adaptive_max_pool2d`.

    Raises:
        TypeError, ValueError: An argument that makes no pooling.
    """

    kind = "max"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean of each of ``output_size`` windows of a sequence."""

    rank = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean of each of ``output_size`` windows of an image."""

    rank = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean of each of ``output_size`` windows of a volume."""

    rank = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Largest element of each of ``output_size`` windows of a sequence."""

    rank = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Largest element of each of ``output_size`` windows of an image."""

    rank = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Largest element of each of ``output_size`` windows of a volume."""

    rank = 3
