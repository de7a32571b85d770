"""Convolution, transposed convolution and the linear map, with PyTorch's signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F

from convforge.contract import UnsupportedProblem
from convforge.integrations.torch.autocast import lowered
from convforge.integrations.torch.conv_operators import dgrad, fprop, run_fprop
from convforge.integrations.torch.fallback import FLOATS, fall_through, refusal
from convforge.integrations.torch.packed import PackedWeights
from convforge.integrations.torch.policies import word_of
from convforge.integrations.torch.settings import (
    Pairs,
    each,
    flat,
    paddings,
    require_output_padding,
)

if TYPE_CHECKING:
    from convforge.policy import Policy


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.conv1d`; see :func:`conv2d`."""
    word = word_of(policy, algorithm)
    return convolve(1, input, weight, bias, stride, padding, dilation, groups, word)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.conv2d`.

    Args:
        input, weight, bias: Tensors, of float16, bfloat16, float32, float64 or complex numbers.
            Under ``torch.autocast`` they are cast as PyTorch does.
        stride, padding, dilation, groups: As in PyTorch.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced; gradients choose
            for themselves.
        policy: Limits within which an algorithm is chosen.

    Returns:
        A tensor; channels last if the input or the weight is.

    Raises:
        RuntimeError: PyTorch's own errors, by PyTorch: what is not taken here is left to it.
        UnsupportedProblem: The named algorithm cannot run it.
    """
    word = word_of(policy, algorithm)
    return convolve(2, input, weight, bias, stride, padding, dilation, groups, word)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.conv3d`; see :func:`conv2d`."""
    word = word_of(policy, algorithm)
    return convolve(3, input, weight, bias, stride, padding, dilation, groups, word)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.conv_transpose1d`; see :func:`conv2d`."""
    word = word_of(policy, algorithm)
    settings = stride, padding, output_padding, groups, dilation
    return transpose(1, input, weight, bias, *settings, word)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.conv_transpose2d`; see :func:`conv2d`."""
    word = word_of(policy, algorithm)
    settings = stride, padding, output_padding, groups, dilation
    return transpose(2, input, weight, bias, *settings, word)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.conv_transpose3d`; see :func:`conv2d`."""
    word = word_of(policy, algorithm)
    settings = stride, padding, output_padding, groups, dilation
    return transpose(3, input, weight, bias, *settings, word)


def linear(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """:func:`torch.nn.functional.linear`, as a convolution of one row of pixels."""
    return multiply(input, weight, bias, word_of(policy, algorithm))


_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolve(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    word: str,
    *,
    mode: str = "zeros",
    borders: Pairs | None = None,
    packed: PackedWeights | None = None,
) -> Any:
    """Convolution of any rank.

    Args:
        mode: What stands outside of the image. borders: If not zeros, instead of ``padding``;
            PyTorch pads by a copy then.
        packed: The weights that a layer keeps prepared, for calls that record nothing.
    """
    why = refusal(FLOATS, input, weight, bias)
    if why is None and not (weight.dim() == rank + 2 and rank + 1 <= input.dim() <= rank + 2):
        why = "the shapes make no convolution"
    if why is None:
        x, w, b = lowered(input, weight, bias)
        try:
            steps, spread = each(stride, rank), each(dilation, rank)
            around = paddings(padding, weight.shape[2:], steps, spread)
            settings = steps, around if borders is None else borders, spread, groups, mode, word
            if rank == 1:
                x = x.contiguous()  # of sequences PyTorch has one format only
            if input.dim() == rank + 1:
                return fprop(x.unsqueeze(0), w, b, *settings).squeeze(0)
            if packed is not None and w is weight and fprop.is_direct(x, w, b):
                return run_fprop(x, w, b, *settings, prepare=packed.of(weight))
            return fprop(x, w, b, *settings)
        except UnsupportedProblem:
            raise
        except (TypeError, ValueError) as error:
            why = _first_line(error)
    if borders is not None:
        input, padding = F.pad(input, flat(borders), mode), 0
    return fall_through(
        _CONV[rank], why, word, input, weight, bias, stride, padding, dilation, groups
    )


def transpose(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    word: str,
) -> Any:
    """Transposed convolution of any rank: the input's gradient, for an input that it makes."""
    why = refusal(FLOATS, input, weight, bias)
    if why is None and not (weight.dim() == rank + 2 and rank + 1 <= input.dim() <= rank + 2):
        why = "the shapes make no convolution"
    if why is None:
        x, w, b = lowered(input, weight, bias)
        try:
            steps, spread, cut = each(stride, rank), each(dilation, rank), each(padding, rank)
            extra = require_output_padding(each(output_padding, rank), steps, spread)
            if rank == 1:
                x = x.contiguous()
            if input.dim() == rank + 1:
                x = x.unsqueeze(0)
            # A whole stride of output padding is a zero of input more.
            zeros = [e // s for e, s in zip(extra, steps)]  # noqa: B905  # no keywords: compiled
            if any(zeros):
                x = F.pad(x, [width for count in zeros[::-1] for width in (0, count)])
            size = [
                (n - 1) * s - 2 * p + d * (k - 1) + e % s + 1
                for n, s, p, d, k, e in zip(  # noqa: B905
                    x.shape[2:], steps, cut, spread, w.shape[2:], extra
                )
            ]
            if min(size) < 1:
                raise ValueError(f"the result would have the size {size}")
            around = [p for each_cut in cut for p in (each_cut, each_cut)]
            y = dgrad(x, w, b, size, steps, around, spread, groups, "zeros", word)
            return y.squeeze(0) if input.dim() == rank + 1 else y
        except UnsupportedProblem:
            raise
        except (TypeError, ValueError) as error:
            why = _first_line(error)
    settings = stride, padding, output_padding, groups, dilation
    return fall_through(_TRANSPOSED[rank], why, word, input, weight, bias, *settings)


def multiply(
    input: Any, weight: Any, bias: Any, word: str, *, packed: PackedWeights | None = None
) -> Any:
    """The linear map; ``packed`` as in :func:`convolve`."""
    why = refusal(FLOATS, input, weight, bias)
    if why is None and not (
        weight.dim() == 2 and input.dim() >= 1 and input.shape[-1] == weight.shape[1]
    ):
        why = "the shapes make no product"
    if why is not None:
        return fall_through(F.linear, why, word, input, weight, bias)
    x, w, b = lowered(input, weight, bias)
    K, C = weight.shape
    # One image, its channels last, whose pixels are the rows.
    pixels = x.reshape(1, -1, C).transpose(1, 2)
    try:
        filters = w.unsqueeze(-1)
        if packed is not None and w is weight and fprop.is_direct(x, w, b):
            y = run_fprop(pixels, filters, b, *_ROWS, word, prepare=packed.of(weight))
        else:
            y = fprop(pixels, filters, b, *_ROWS, word)
    except UnsupportedProblem:
        raise
    except (TypeError, ValueError) as error:
        return fall_through(F.linear, _first_line(error), word, input, weight, bias)
    return y.transpose(1, 2).reshape(*input.shape[:-1], K)


_ROWS = ((1,), (0, 0), (1,), 1, "zeros")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
