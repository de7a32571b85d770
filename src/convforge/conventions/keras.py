"""Convolutions and poolings of ``keras.ops``: channels last, kernels ``(k1, ..., C, K)``.

Source: https://keras.io/api/ops/nn/ , where backends disagree the rule of TensorFlow. ``"same"``
depends on the input's extents and puts an odd element at the end; its averages leave the padding
out, and what transposed convolution has too much is cut off at the end first.

Unlike Keras nothing is cast: arrays of one call have one type. A window or kernel that does not fit
into the image raises. Convolutions take ``bias`` and ``activation`` too, by keyword only, as layers
have them; both are applied before the result leaves the registers.
"""

from __future__ import annotations

from typing import Any

from convforge.conventions.common import Pair, cropped_transpose, each, permute, rank_of, reshape
from convforge.functional import convolution
from convforge.functional.pooling import pool
from convforge.ops import Prepare, adaptive_arguments, pool_arguments
from convforge.problem import Order, PoolKind


def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    prepare: Prepare | None = None,
) -> Any:
    """Convolution, with as many groups as the kernel's channels go into the input's.

    Args:
        inputs: Images ``(N, H, W, C)``, or ``(N, C, H, W)`` with ``data_format="channels_first"``.
        kernel: Filters ``(R, S, C // groups, K)``, whatever the data format.
        strides: One integer, or one for each axis.
        padding: ``"valid"``, ``"same"``, or on one axis ``"causal"``.
        data_format: None is ``"channels_last"``.
        dilation_rate: Distance of the kernel's taps.
        bias: Added to each output channel.
        activation: Applied last: relu, relu6, silu, gelu or gelu_tanh.
        prepare: Hands plans the weights that a layer keeps.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type.
    """
    rank = rank_of("kernel", kernel)
    layout = _layout(data_format, rank)
    C, taken = inputs.shape[-1 if layout.endswith("c") else 1], kernel.shape[-2]
    if taken and C % taken:
        raise ValueError(f"inputs have {C} channels; the kernel's {taken} must divide them")
    # The kernel's last axes come first: (K, C // groups, R, S).
    weight = permute(kernel, (rank + 1, rank, *range(rank)))
    return convolution.conv(
        rank, inputs, weight, bias, strides, _word(padding, causal=True), dilation_rate,
        C // taken if taken else 1, layout=layout, activation=activation, prepare=prepare,
    )  # fmt: skip


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    prepare: Prepare | None = None,
) -> Any:
    """Convolution of every channel with filters of its own; the kernel is ``(R, S, C, m)``.

    Channel ``c * m + j`` of the result is channel ``c`` of the inputs with its filter ``j``. Other
    arguments are those of :func:`conv`.
    """
    rank = rank_of("kernel", kernel)
    *taps, C, multiplier = kernel.shape
    weight = reshape(permute(kernel, (rank, rank + 1, *range(rank))), (C * multiplier, 1, *taps))
    return convolution.conv(
        rank, inputs, weight, bias, strides, _word(padding), dilation_rate, C,
        layout=_layout(data_format, rank), activation=activation, prepare=prepare,
    )  # fmt: skip


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
) -> Any:
    """:func:`depthwise_conv`, then :func:`conv` with a kernel ``(1, 1, C * m, K)``."""
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(
        y, pointwise_kernel, data_format=data_format, bias=bias, activation=activation,
    )  # fmt: skip


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
    *,
    bias: Any = None,
    activation: str | None = None,
    prepare: Prepare | None = None,
) -> Any:
    """Transposed convolution; the kernel is ``(R, S, K, C)``.

    Extents of the result, with ``k`` that of the dilated kernel:

    ======= ================================== ===============================================
    padding output_padding None                an integer, also of a stride and more
    ======= ================================== ===============================================
    valid   ``(n - 1) * s + max(k, s)``        ``(n - 1) * s + k + output_padding``
    same    ``n * s``                          ``(n - 1) * s + k % 2 + output_padding``
    ======= ================================== ===============================================
    """
    rank = rank_of("kernel", kernel)
    steps, spans = each("strides", strides, rank), each("dilation_rate", dilation_rate, rank)
    extra: tuple[int | None, ...] = (None,) * rank
    if output_padding is not None:
        extra = given = each("output_padding", output_padding, rank)
        if min(given) < 0:
            raise ValueError(f"output_padding is {output_padding}; wanted at least 0")
    same = _word(padding) == "same_upper"
    crops = [
        _crop(d * (k - 1) + 1, s, e, same)
        for k, s, d, e in zip(kernel.shape, steps, spans, extra, strict=False)
    ]
    weight = permute(kernel, (rank + 1, rank, *range(rank)))
    layout = _layout(data_format, rank)
    return cropped_transpose(
        inputs, weight, bias, steps, crops, spans,
        layout=layout, activation=activation, prepare=prepare,
    )  # fmt: skip


def _crop(k: int, stride: int, extra: int | None, same: bool) -> Pair:
    """What is cut off both ends of the whole result ``(n - 1) * stride + k``; negative adds."""
    if not same:
        return 0, -(max(stride - k, 0) if extra is None else extra)
    total = k - stride if extra is None else k - k % 2 - extra
    # Of 2 * (k - 1) elements around the spread input, all but the total remain: the larger half
    # of them before it, as far as the kernel reaches.
    before = min((2 * (k - 1) - total + 1) // 2, k - 1)
    low = k - 1 - before
    return low, total - low


def max_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """The largest element of each window; windows are ``pool_size`` apart by default."""
    return _pool(PoolKind.MAX, inputs, pool_size, strides, padding, data_format)


def average_pool(
    inputs: Any,
    pool_size: Any,
    strides: Any = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Any:
    """The mean of what each window holds of the image, without padding."""
    return _pool(PoolKind.AVG, inputs, pool_size, strides, padding, data_format)


def adaptive_max_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """The largest element of each of ``output_size`` windows of nearly equal extent."""
    return _adaptive(PoolKind.MAX, inputs, output_size, data_format)


def adaptive_average_pool(inputs: Any, output_size: Any, data_format: str | None = None) -> Any:
    """The mean of each of ``output_size`` windows of nearly equal extent."""
    return _adaptive(PoolKind.AVG, inputs, output_size, data_format)


def _pool(
    kind: PoolKind, inputs: Any, pool_size: Any, strides: Any, padding: str, data_format: str | None
) -> Any:
    rank = rank_of("inputs", inputs)
    args = pool_arguments(
        kind, rank, pool_size, strides, _word(padding), count_include_pad=False,
        layout=_layout(data_format, rank),
    )  # fmt: skip
    return pool(args, inputs)


def _adaptive(kind: PoolKind, inputs: Any, output_size: Any, data_format: str | None) -> Any:
    rank = rank_of("inputs", inputs)
    layout = _layout(data_format, rank)
    return pool(adaptive_arguments(kind, rank, output_size, layout=layout), inputs)


def _layout(data_format: str | None, rank: int) -> str:
    formats = {"channels_last": Order.CHANNELS_LAST, "channels_first": Order.CHANNELS_FIRST}
    if data_format is not None and data_format not in formats:
        raise ValueError(f"data_format is {data_format!r}; wanted one of {', '.join(formats)}")
    return formats[data_format or "channels_last"].image(rank)


def _word(padding: str, *, causal: bool = False) -> str:
    """``functional``'s word for a padding; its ``"same"`` is another one, PyTorch's."""
    words = {"valid": "valid", "same": "same_upper"} | ({"causal": "causal"} if causal else {})
    if not isinstance(padding, str) or padding.lower() not in words:
        raise ValueError(
            f"padding is {padding!r}; wanted one of {', '.join(words)}; functional.conv2d and its "
            "like take any widths"
        )
    return words[padding.lower()]
