"""Hypothesis strategies for problems. Everything drawn is valid, small and shrinks to plain."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from convforge.problem import (
    Axis,
    ConvProblem,
    Direction,
    DType,
    Operand,
    Order,
    PadMode,
    PoolKind,
    PoolProblem,
    PostOp,
)

_ACTIVATIONS = (PostOp.RELU, PostOp.RELU6, PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH)


@st.composite
def axes(draw: st.DrawFn, modes: Sequence[PadMode] = tuple(PadMode), largest: int = 9) -> Axis:
    """One spatial axis that its filter fits on."""
    mode = draw(st.sampled_from(modes))
    filter_ = draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 3))
    stride = draw(st.integers(1, 4))
    extent = dilation * (filter_ - 1) + 1
    if mode is PadMode.ZEROS:
        pad_lo, pad_hi = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        least = max(0, extent - pad_lo - pad_hi)
        size = draw(st.integers(least, max(least, largest)))
    else:
        least = max(1, extent)
        size = draw(st.integers(least, max(least, largest)))
        widest = size - 1 if mode is PadMode.REFLECT else size
        pad_lo, pad_hi = (draw(st.integers(0, min(4, widest))) for _ in range(2))
    return Axis(
        size=size,
        filter=filter_,
        stride=stride,
        dilation=dilation,
        pad_lo=pad_lo,
        pad_hi=pad_hi,
        pad_mode=mode,
    )


@st.composite
def conv_problems(
    draw: st.DrawFn,
    directions: Sequence[Direction] = tuple(Direction),
    dtypes: Sequence[DType] = (DType.F32, DType.F64),
    ranks: Sequence[int] = (2, 1, 3),
    modes: Sequence[PadMode] = (PadMode.ZEROS,),
    post: bool = True,
) -> ConvProblem:
    """A convolution with at most a few thousand products a channel.

    What it draws from are the arguments, the simplest first; ``post`` adds bias, residual,
    activations and accumulation.
    """
    rank = draw(st.sampled_from(ranks))
    direction = draw(st.sampled_from(directions))
    dtype = draw(st.sampled_from(dtypes))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    channels = st.integers(0, 20) | st.sampled_from((31, 33, 48, 65))
    ops: list[PostOp] = []
    if post and direction is not Direction.WGRAD:
        ops += draw(st.lists(st.sampled_from((PostOp.BIAS, PostOp.RESIDUAL)), unique=True))
        if dtype in (DType.F16, DType.BF16, DType.F32, DType.F64):
            ops += draw(st.lists(st.sampled_from(_ACTIVATIONS), max_size=1))
    orders = st.sampled_from(tuple(Order))
    image = draw(orders)
    return ConvProblem(
        direction=direction,
        N=draw(st.integers(0, 3)),
        C=groups * draw(channels),
        K=groups * draw(channels),
        groups=groups,
        axes=tuple(draw(axes(modes, 6 if rank == 3 else 9)) for _ in range(rank)),
        x=Operand(dtype=dtype, order=image),
        w=Operand(dtype=dtype, order=draw(orders)),
        y=Operand(dtype=dtype, order=image),
        acc=dtype.accumulator,
        accumulate=post and draw(st.booleans()),
        post=tuple(ops),
    )


@st.composite
def pool_problems(
    draw: st.DrawFn,
    directions: Sequence[Direction] = (Direction.FPROP, Direction.DGRAD),
    kinds: Sequence[PoolKind] = tuple(PoolKind),
    dtypes: Sequence[DType] = (DType.F32, DType.F64),
    ranks: Sequence[int] = (2, 1, 3),
    adaptive: Sequence[bool] = (False, False, False, True),
) -> PoolProblem:
    """A pooling; every window sees at least one element."""
    kind = draw(st.sampled_from(kinds))
    direction = draw(st.sampled_from(directions))
    average = kind is PoolKind.AVG
    shares = draw(st.sampled_from(adaptive))
    windows = _shares() if shares else _windows()
    return PoolProblem(
        direction=direction,
        kind=kind,
        N=draw(st.integers(0, 3)),
        C=draw(st.integers(0, 20) | st.sampled_from((31, 33, 64))),
        axes=tuple(draw(windows) for _ in range(draw(st.sampled_from(ranks)))),
        x=Operand(dtype=draw(st.sampled_from(dtypes)), order=draw(st.sampled_from(tuple(Order)))),
        ceil_mode=not shares and draw(st.booleans()),
        count_include_pad=shares or not average or draw(st.booleans()),
        divisor=draw(st.none() | st.integers(1, 9)) if average and not shares else None,
        indices=not average and direction is Direction.FPROP and draw(st.booleans()),
    )


@st.composite
def _shares(draw: st.DrawFn) -> Axis:
    return Axis.adaptive(draw(st.integers(1, 11)), draw(st.integers(1, 8)))


@st.composite
def _windows(draw: st.DrawFn) -> Axis:
    filter_ = draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 3))
    extent = dilation * (filter_ - 1) + 1
    pad_lo, pad_hi = (draw(st.integers(0, extent // 2)) for _ in range(2))
    # At least as wide as the gaps of a dilated window, which could step over it otherwise.
    least = max(1, extent - pad_lo - pad_hi, dilation)
    return Axis(
        size=draw(st.integers(least, max(least, 9))),
        filter=filter_,
        stride=draw(st.integers(1, 4)),
        dilation=dilation,
        pad_lo=pad_lo,
        pad_hi=pad_hi,
    )
