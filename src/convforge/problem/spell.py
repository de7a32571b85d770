"""From a problem to its text; :mod:`convforge.problem.parse` is the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convforge.problem.words import FILTER_NAMES, SIZE_NAMES, Order, PadMode

if TYPE_CHECKING:
    from convforge.problem.conv import ConvProblem
    from convforge.problem.geometry import Axis
    from convforge.problem.pool import PoolProblem


def spell_conv(problem: ConvProblem) -> str:
    """The canonical text of a convolution."""
    dtypes = _join_operands(problem.x.dtype, problem.w.dtype, problem.y.dtype, problem.x.dtype)
    if problem.acc is not problem.x.dtype.accumulator:
        dtypes += f"^{problem.acc}"
    orders = _join_operands(
        problem.x.order.image(problem.rank),
        problem.w.order.filters(problem.rank),
        problem.y.order.image(problem.rank),
        Order.CHANNELS_FIRST.filters(problem.rank),
    )
    head = [str(problem.direction), dtypes]
    if orders != Order.CHANNELS_FIRST.image(problem.rank):
        head.append(orders)
    aligns = _join_operands(problem.x.align, problem.w.align, problem.y.align, 0)
    if aligns != "0":
        head.append(f"@{aligns}")
    geometry = (
        f"n{problem.N}c{problem.C}"
        + _sizes(problem.axes)
        + f"_k{problem.K}"
        + _geometry(problem.axes)
    )
    if problem.groups != 1:
        geometry += f"_g{problem.groups}"
    flags = ["accumulate"] if problem.accumulate else []
    return "+".join([":".join([*head, geometry]), *flags, *problem.post])


def spell_pool(problem: PoolProblem) -> str:
    """The canonical text of a pooling."""
    head = [str(problem.direction), str(problem.kind), str(problem.x.dtype)]
    if problem.x.order is not Order.CHANNELS_FIRST:
        head.append(problem.x.order.image(problem.rank))
    if problem.x.align:
        head.append(f"@{problem.x.align}")
    geometry = f"n{problem.N}c{problem.C}" + _sizes(problem.axes) + "_" + _geometry(problem.axes)
    flags = [
        name
        for name, on in (
            ("ceil", problem.ceil_mode),
            ("exclude_pad", not problem.count_include_pad),
            (f"divisor{problem.divisor}", problem.divisor is not None),
            ("indices", problem.indices),
        )
        if on
    ]
    return "+".join([":".join([*head, geometry]), *flags])


def _join_operands(x: object, w: object, y: object, w_default: object) -> str:
    """Spell one property of the three operands, leaving defaults out: w's is given, y's is x."""
    if y != x:
        return f"{x}-{w}-{y}"
    return f"{x}-{w}" if w != w_default else f"{x}"


def _sizes(axes: tuple[Axis, ...]) -> str:
    return "".join(f"{n}{a.size}" for n, a in zip(SIZE_NAMES[len(axes)], axes, strict=True))


def _geometry(axes: tuple[Axis, ...]) -> str:
    if axes[0].windows is not None:
        return "a" + "x".join(f"{a.windows}" for a in axes)
    text = "".join(f"{n}{a.filter}" for n, a in zip(FILTER_NAMES[len(axes)], axes, strict=True))
    if any(a.stride != 1 for a in axes):
        text += "_st" + "x".join(f"{a.stride}" for a in axes)
    if any(a.pad_lo or a.pad_hi for a in axes):
        text += "_p" + "x".join(
            f"{a.pad_lo}" if a.pad_lo == a.pad_hi else f"{a.pad_lo}:{a.pad_hi}" for a in axes
        )
    if any(a.dilation != 1 for a in axes):
        text += "_d" + "x".join(f"{a.dilation}" for a in axes)
    if any(a.pad_mode is not PadMode.ZEROS for a in axes):
        text += "_m" + "x".join(f"{a.pad_mode}" for a in axes)
    return text
