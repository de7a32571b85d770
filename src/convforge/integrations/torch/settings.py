"""The integers of PyTorch's signatures, by loops that its compilers can follow."""

from __future__ import annotations

from typing import Any

Pairs = tuple[int, ...]
"""Low and high width of every axis, one after the other."""


def each(value: Any, rank: int) -> tuple[int, ...]:
    """One integer for each axis, from one for all or a sequence.

    Raises:
        ValueError: Another number of them.
    """
    if isinstance(value, int):
        return (value,) * rank
    values = tuple(value)
    if len(values) == 1:
        return values * rank
    if len(values) != rank:
        raise ValueError(f"{len(values)} integers are given for {rank} axes")
    return values


def paddings(padding: Any, size: Any, stride: tuple[int, ...], dilation: tuple[int, ...]) -> Pairs:
    """Widths around an image, from integers or a word.

    Raises:
        ValueError: A word that PyTorch does not have, or not for this stride.
    """
    if not isinstance(padding, str):
        if isinstance(padding, int):
            return (padding,) * (2 * len(size))
        return tuple([p for width in each(padding, len(size)) for p in (width, width)])
    if padding == "valid":
        return (0,) * (2 * len(size))
    if padding != "same" or max(stride) > 1:
        raise ValueError(f"padding {padding!r} with stride {stride}")
    totals = [d * (k - 1) for k, d in zip(size, dilation)]  # noqa: B905
    return tuple([p for total in totals for p in (total // 2, total - total // 2)])


def flat(borders: Pairs) -> list[int]:
    """The same widths as ``torch.nn.functional.pad`` wants them, from the last axis on."""
    return [w for i in range(len(borders) - 2, -1, -2) for w in (borders[i], borders[i + 1])]


def require_output_padding(
    extra: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """The same, if PyTorch takes it: less than the stride or the dilation.

    Raises:
        ValueError: It does not.
    """
    for e, s, d in zip(extra, stride, dilation):  # noqa: B905
        if not 0 <= e < max(s, d, 1):
            raise ValueError(f"output_padding {extra} with stride {stride}, dilation {dilation}")
    return extra
