"""Attributes that convolutions and poolings share."""

from __future__ import annotations

from collections.abc import Sequence

from convforge.conventions.common import Pair

Ints = Sequence[int] | None
_WORDS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def padding_of(auto_pad: str, pads: Ints, rank: int) -> str | list[Pair]:
    """A word or pairs as ``functional`` has them."""
    if auto_pad not in _WORDS:
        raise ValueError(f"auto_pad is {auto_pad!r}; wanted one of {', '.join(_WORDS)}")
    if auto_pad == "NOTSET":
        return pairs_of(pads, rank)
    if pads is not None and any(pads):
        raise ValueError(f"pads are {list(pads)} and auto_pad is {auto_pad!r}: give one of them")
    return auto_pad.lower()


def pairs_of(pads: Ints, rank: int) -> list[Pair]:
    """``pads`` as a (low, high) pair for each axis."""
    if pads is None:
        return [(0, 0)] * rank
    if len(pads) != 2 * rank:
        raise ValueError(f"pads are {list(pads)}; wanted {rank} beginnings, then {rank} ends")
    return list(zip(pads[:rank], pads[rank:], strict=True))
