"""Convolutions of ``jax.lax`` with axes in any order.

Source: https://docs.jax.dev/en/latest/jax.lax.html#convolution-operators . Images are spread and
filters are not flipped: :func:`conv_transpose` is a gradient only with ``transpose_kernel=True``.
Negative padding takes elements away.

Unlike JAX integers do not wrap (say which type holds the sums), a filter larger than the padded
image raises instead of giving nothing, and ``precision`` is always the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convforge.conventions.common import (
    Pair,
    array_of,
    each,
    permute,
    rank_of,
    reshape,
)
from convforge.conventions.spread import convolve_spread, cropped, flipped
from convforge.functional import convolution
from convforge.ops.arguments import paddings

_WORDS = {"VALID": "valid", "SAME": "same_upper", "SAME_LOWER": "same_lower"}
_TRANSPOSED = {
    1: ("NHC", "HIO", "NHC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NHWDC", "HWDIO", "NHWDC"),
}


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Convolution of a spread image with a spread filter.

    Args:
        lhs: Images, axes as ``dimension_numbers`` say.
        rhs: Filters.
        window_strides: One integer for each spatial axis, in the order of the filters' axes, like
            all that follow.
        padding: ``"VALID"``, ``"SAME"``, ``"SAME_LOWER"``, or a (low, high) pair for each axis.
        lhs_dilation: Distance of the image's elements, with zeros between; then padding is pairs.
        rhs_dilation: Distance of the filter's taps.
        dimension_numbers: Three words such as ``("NHWC", "HWIO", "NHWC")``, or three tuples of
            positions, (batch, feature, spatial...); None is ``("NCHW", "OIHW", "NCHW")``.
        feature_group_count: Groups of channels that do not see each other.
        batch_group_count: Groups of images, each with its part of the filters.
        precision: Not looked at.
        preferred_element_type: Type of the result; to be named for integers.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type.
    """
    rank = rank_of("rhs", rhs)
    lhs_axes, rhs_axes, out_axes = _axes(dimension_numbers, rank)
    x, w, groups = permute(lhs, lhs_axes), permute(rhs, rhs_axes), feature_group_count
    _require_a_type(lhs, preferred_element_type)
    if batch_group_count != 1:
        if feature_group_count != 1:
            raise ValueError(
                f"feature_group_count is {feature_group_count} and batch_group_count "
                f"{batch_group_count}: one of them must be 1"
            )
        x, groups = _batch_to_channels(x, batch_group_count), batch_group_count
    strides = each("window_strides", window_strides, rank)
    spread = each("lhs_dilation", lhs_dilation, rank)
    dilations = each("rhs_dilation", rhs_dilation, rank)
    pads = padding_of(padding, rank)
    if any(step != 1 for step in spread):
        if isinstance(pads, str):
            raise ValueError(
                f"padding is {padding!r} and lhs_dilation {spread}: give pairs, or call "
                "conv_transpose"
            )
        y = convolve_spread(x, w, strides, pads, spread, dilations, groups, preferred_element_type)
    else:
        if not isinstance(pads, str):
            x, pads = cropped(x, pads)
        y = convolution.conv(
            rank, x, w, None, strides, pads, dilations, groups, out_dtype=preferred_element_type
        )
    return permute(y, np.argsort(out_axes).tolist())


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sequence[int],
    padding: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """:func:`conv_general_dilated` of ``(N, C, ...)`` with ``(O, I, ...)``."""
    return conv_general_dilated(
        lhs, rhs, window_strides, padding, preferred_element_type=preferred_element_type
    )


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sequence[int],
    padding: Any,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Any:
    """Convolution of an image spread by ``strides``: extents ``n * s`` of "SAME".

    ``"VALID"`` gives ``n * s + max(k - s, 0)``. Pairs are put around the spread image, or, with
    ``use_consistent_padding``, are those of the convolution whose gradient this is. Axes are
    ``("NHWC", "HWIO", "NHWC")`` by default. ``transpose_kernel`` flips the filter's spatial axes
    and exchanges its channels. Other arguments are those of :func:`conv_general_dilated`.
    """
    rank = rank_of("rhs", rhs)
    numbers = _TRANSPOSED[rank] if dimension_numbers is None else dimension_numbers
    _, rhs_axes, _ = _axes(numbers, rank)
    steps = each("strides", strides, rank)
    spans = each("rhs_dilation", rhs_dilation, rank)
    pads = padding if isinstance(padding, str) else padding_of(padding, rank)
    if isinstance(pads, str) or use_consistent_padding:
        extents = [
            d * (rhs.shape[axis] - 1) + 1 for axis, d in zip(rhs_axes[2:], spans, strict=True)
        ]
        given = [pads] * rank if isinstance(pads, str) else pads
        pads = [_transposed_pads(*axis) for axis in zip(extents, steps, given, strict=True)]
    if transpose_kernel:
        rhs = flipped(rhs, rhs_axes[2:])
        exchanged = list(range(rank + 2))
        O, I = rhs_axes[:2]  # noqa: E741
        exchanged[O], exchanged[I] = I, O
        rhs = permute(rhs, exchanged)
    return conv_general_dilated(
        lhs, rhs, (1,) * rank, pads, steps, spans, numbers,
        preferred_element_type=preferred_element_type,
    )  # fmt: skip


def _batch_to_channels(x: Any, groups: int) -> Any:
    """Images of every group side by side, as channels."""
    N, C, *size = x.shape
    if N % groups:
        raise ValueError(f"batch_group_count is {groups}; it must divide the {N} images of lhs")
    split = reshape(x, (groups, N // groups, C, *size))
    return reshape(
        permute(split, (1, 0, *range(2, len(size) + 3))), (N // groups, groups * C, *size)
    )


def _transposed_pads(k: int, s: int, given: Any) -> Pair:
    """What is put around a spread image for the padding of the convolution that it undoes."""
    if not isinstance(given, str):
        return k - 1 - given[0], k - 1 - given[1]
    if given not in ("SAME", "VALID"):
        raise ValueError(f"padding is {given!r}; wanted 'SAME', 'VALID' or pairs (low, high)")
    total = k + s - 2 + (max(k - s, 0) if given == "VALID" else 0)
    low = k - 1 if given == "VALID" or s > k - 1 else -(-total // 2)
    return low, total - low


def _axes(numbers: Any, rank: int) -> tuple[tuple[int, ...], ...]:
    """For images, filters and results: the axes of batch (or O), feature (or I), and space."""
    if numbers is None:
        return (tuple(range(rank + 2)),) * 3
    if not all(isinstance(spec, str) for spec in numbers):
        found = tuple(tuple(each("dimension_numbers", spec, rank + 2)) for spec in numbers)
        if len(found) == 3 and all(sorted(spec) == list(range(rank + 2)) for spec in found):
            return found
        raise ValueError(f"dimension_numbers are {numbers}; wanted three orders of {rank + 2} axes")
    space = [letter for letter in numbers[1] if letter not in "OI"]
    orders = (["N", "C", *space], ["O", "I", *space], ["N", "C", *space])
    pairs = list(zip(numbers, orders, strict=True))
    if len(space) != rank or any(sorted(spec) != sorted(order) for spec, order in pairs):
        raise ValueError(
            f"dimension_numbers are {numbers}; wanted words such as ('NHWC', 'HWIO', 'NHWC') with "
            f"the same {rank} spatial letters"
        )
    return tuple(tuple(spec.index(letter) for letter in order) for spec, order in pairs)


def padding_of(padding: Any, rank: int) -> Any:
    """A word or pairs as ``functional`` has them."""
    if not isinstance(padding, str):
        return paddings([tuple(pair) for pair in padding], rank)
    if padding.upper() not in _WORDS:
        raise ValueError(f"padding is {padding!r}; wanted one of {', '.join(_WORDS)}, or pairs")
    return _WORDS[padding.upper()]


def _require_a_type(lhs: Any, preferred: Any) -> None:
    dtype = array_of("lhs", lhs).dtype
    if dtype.kind in "iu" and preferred is None:
        raise TypeError(
            f"lhs has dtype {dtype}, in which JAX's sums wrap: pass "
            f"preferred_element_type=np.{'int32' if dtype.itemsize < 4 else 'int64'}"
        )
