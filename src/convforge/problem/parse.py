"""From a text to the problem it spells."""

from __future__ import annotations

import re

from convforge.problem.conv import ConvProblem
from convforge.problem.geometry import Axis, Operand
from convforge.problem.pool import PoolProblem
from convforge.problem.words import (
    FILTER_NAMES,
    SIZE_NAMES,
    Direction,
    DType,
    Order,
    PadMode,
    PoolKind,
    PostOp,
)

Problem = ConvProblem | PoolProblem

_GEOMETRY = re.compile(
    r"n(?P<N>\d+)c(?P<C>\d+)(?P<sizes>(?:[dhw]\d+)+)"
    r"_(?:k(?P<K>\d+))?(?:a(?P<windows>[\dx]+)|(?P<filter>(?:[trs]\d+)+))"
    r"(?:_st(?P<stride>[\dx]+))?(?:_p(?P<pad>[\dx:]+))?(?:_d(?P<dilation>[\dx]+))?"
    r"(?:_m(?P<mode>[a-z]+))?(?:_g(?P<groups>\d+))?"
)
_ORDERS = {
    spelling: order
    for order in Order
    for rank in SIZE_NAMES
    for spelling in (order.image(rank), order.filters(rank))
}


def parse(text: str) -> Problem:
    """Read a problem back from its spelling; ``str(parse(text)) == text`` for any ``str`` of one.

    Raises:
        ValueError: The text is not the spelling of a problem; says which part is not.
    """
    body, *flags = text.strip().split("+")
    *head, geometry = body.split(":") if ":" in body else [body]
    # "p0:1x0:1" holds colons of its own: glue the geometry together again.
    for cut, part in enumerate(head):
        if re.match(r"n\d+c\d", part):
            geometry = ":".join([*head[cut:], geometry])
            head = head[:cut]
            break
    match = _GEOMETRY.fullmatch(geometry)
    if match is None or len(head) < 2:
        raise ValueError(
            f"cannot read problem {text!r}: wanted something like "
            "'fprop:f32:nhwc:n8c64h56w56_k64r3s3_st2x2_p1x1+bias+relu'"
        )
    try:
        direction = Direction(head[0])
        if match["K"] is None:
            return _parse_pool(direction, head[1:], match, flags)
        return _parse_conv(direction, head[1:], match, flags)
    except (ValueError, KeyError) as error:
        raise ValueError(f"cannot read problem {text!r}: {error}") from error


def _parse_axes(match: re.Match[str]) -> tuple[Axis, ...]:
    sizes = re.findall(r"([dhw])(\d+)", match["sizes"])
    filters = re.findall(r"([trs])(\d+)", match["filter"] or "")
    rank = len(sizes)
    if match["windows"]:
        return _parse_adaptive(match, sizes)
    if "".join(n for n, _ in sizes) != SIZE_NAMES.get(rank) or (
        "".join(n for n, _ in filters) != FILTER_NAMES.get(rank)
    ):
        raise ValueError(f"axes {match['sizes']} do not go with filter {match['filter']}")

    def per_axis(name: str, default: str) -> list[str]:
        parts = match[name].split("x") if match[name] else [default] * rank
        if len(parts) != rank:
            raise ValueError(f"{name} {match[name]!r} is not one value per axis")
        return parts

    axes = []
    for i in range(rank):
        lo, _, hi = per_axis("pad", "0")[i].partition(":")
        axes.append(
            Axis(
                size=int(sizes[i][1]),
                filter=int(filters[i][1]),
                stride=int(per_axis("stride", "1")[i]),
                dilation=int(per_axis("dilation", "1")[i]),
                pad_lo=int(lo),
                pad_hi=int(hi or lo),
                pad_mode=PadMode(per_axis("mode", PadMode.ZEROS)[i]),
            )
        )
    return tuple(axes)


def _parse_adaptive(match: re.Match[str], sizes: list[tuple[str, str]]) -> tuple[Axis, ...]:
    windows = match["windows"].split("x")
    if "".join(n for n, _ in sizes) != SIZE_NAMES.get(len(windows)):
        raise ValueError(
            f"axes {match['sizes']} do not go with adaptive windows a{match['windows']}"
        )
    for name in ("stride", "pad", "dilation", "mode", "groups"):
        if match[name]:
            raise ValueError(f"adaptive windows have no {name}, and {match[name]!r} came")
    return tuple(
        Axis.adaptive(int(size), int(out)) for (_, size), out in zip(sizes, windows, strict=True)
    )


def _split_operands(text: str, w_default: str) -> tuple[str, str, str]:
    x, *rest = text.split("-")
    if len(rest) > 2:
        raise ValueError(f"{text!r} names more than x, w and y")
    w = rest[0] if rest else w_default
    y = rest[1] if len(rest) > 1 else x
    return x, w, y


def _parse_head(head: list[str], rank: int) -> tuple[str, str, str]:
    """Split ``[dtypes, orders?, @aligns?]``, filling in the defaults."""
    dtypes, *rest = head
    aligns = rest.pop()[1:] if rest and rest[-1].startswith("@") else "0"
    orders = rest.pop() if rest else Order.CHANNELS_FIRST.image(rank)
    if rest:
        raise ValueError(f"too many parts before the sizes: {rest}")
    return dtypes, orders, aligns


def _parse_conv(
    direction: Direction, head: list[str], match: re.Match[str], flags: list[str]
) -> ConvProblem:
    axes = _parse_axes(match)
    rank = len(axes)
    dtypes, orders, aligns = _parse_head(head, rank)
    dtypes, _, acc = dtypes.partition("^")
    types = _split_operands(dtypes, dtypes.split("-")[0])
    places = _split_operands(orders, Order.CHANNELS_FIRST.filters(rank))
    edges = _split_operands(aligns, "0")
    x, w, y = (
        Operand(dtype=DType(t), order=_ORDERS[o], align=int(a))
        for t, o, a in zip(types, places, edges, strict=True)
    )
    return ConvProblem(
        direction=direction,
        N=int(match["N"]),
        C=int(match["C"]),
        K=int(match["K"]),
        groups=int(match["groups"] or 1),
        axes=axes,
        x=x,
        w=w,
        y=y,
        acc=DType(acc) if acc else x.dtype.accumulator,
        accumulate="accumulate" in flags,
        post=tuple(PostOp(f) for f in flags if f != "accumulate"),
    )


def _parse_pool(
    direction: Direction, head: list[str], match: re.Match[str], flags: list[str]
) -> PoolProblem:
    axes = _parse_axes(match)
    dtype, order, align = _parse_head(head[1:], len(axes))
    divisor = None
    for flag in flags:
        if flag.startswith("divisor"):
            divisor = int(flag.removeprefix("divisor"))
        elif flag not in ("ceil", "exclude_pad", "indices"):
            raise ValueError(f"unknown flag +{flag}")
    return PoolProblem(
        direction=direction,
        kind=PoolKind(head[0]),
        N=int(match["N"]),
        C=int(match["C"]),
        axes=axes,
        x=Operand(dtype=DType(dtype), order=_ORDERS[order], align=int(align)),
        ceil_mode="ceil" in flags,
        count_include_pad="exclude_pad" not in flags,
        divisor=divisor,
        indices="indices" in flags,
    )
