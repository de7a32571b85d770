"""Gradients of images whose border was not zeros: what stood outside is added where it came from.

The gradient of the padded image is that of a convolution without padding. A pixel then gets its own
place of it, and those places outside that showed it: on each axis one run before the image and one
behind it, which are empty for most pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from numba import cuda

from convforge.contract import Buffer, Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import Types, divider, inlined, loader, number_type
from convforge.kernels.cuda_numba._epilogue import finisher, post_code
from convforge.kernels.cuda_numba._geometry import MODES, named, steps, three, three_axes
from convforge.problem import Axis, ConvProblem, PadMode
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
_REFLECT, _REPLICATE, _CIRCULAR = 1, 2, 3
FOLD = Constants(
    "Fold",
    "pixels channels post accumulate D H W x_n x_c x_d x_h x_w p_n p_c p_d p_h p_w "
    "before_d behind_d mode_d before_h behind_h mode_h before_w behind_w mode_w",
)


def is_bordered(problem: ConvProblem) -> bool:
    """Whether something other than zeros stands around the image."""
    return any(axis.pad_mode is not PadMode.ZEROS for axis in problem.axes)


def unpadded(problem: ConvProblem) -> ConvProblem:
    """The problem whose image is the padded one, in the type of the sums."""
    axes = tuple(
        Axis(size=axis.padded, filter=axis.filter, stride=axis.stride, dilation=axis.dilation)
        for axis in problem.axes
    )
    x = replace(problem.x, dtype=problem.acc)
    return replace(problem, axes=axes, x=x, post=(), accumulate=False)


def shown_of(index: str) -> Callable[..., Any]:
    """``shown(part, i, size, before, behind, mode)``: places of the padded axis that show pixel i.

    From the first result up to the second, without it: before the image, in it, and behind it.
    """
    integer = number_type(index)

    @inlined
    def shown(part, i, size, before, behind, mode):
        first, count = i, 1
        if part == 0:
            count = 0
            if mode == _REFLECT and i >= 1:
                first, count = -i, 1
            elif mode == _CIRCULAR:
                first, count = i - size, 1
            elif mode == _REPLICATE and i == 0:
                first, count = -before, before
            if first < -before:
                count = 0
        elif part == 2:
            count = 0
            if mode == _REFLECT and i <= size - 2:
                first, count = 2 * (size - 1) - i, 1
            elif mode == _CIRCULAR:
                first, count = i + size, 1
            elif mode == _REPLICATE and i == size - 1:
                first, count = size, behind
            if first >= size + behind:
                count = 0
        return integer(first + before), integer(first + before + count)

    return shown


@kernel(FOLD, threads=THREADS, registers={"f32": 112, "f64": 112})
def conv_direct_fold(config):
    """Each pixel of dx: the sum over its places in the gradient of the padded image."""
    padded_dtype, target_dtype, *_ = config.pointers
    index, acc = number_type(config.index), number_type(config.acc)
    load, finish = loader(padded_dtype, config.acc), finisher(target_dtype, config.acc)
    divide, shown = divider(config.index), shown_of(config.index)

    def conv_direct_fold(g, padded, target, bias, residual):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.pixels:
            return
        rest, w = divide(i, g.W)
        rest, h = divide(rest, g.H)
        rest, d = divide(rest, g.D)
        n, c = divide(rest, g.channels)
        plane = index(n * g.p_n + c * g.p_c)
        total = acc(0)
        for part_d in range(3):
            d0, d1 = shown(part_d, d, g.D, g.before_d, g.behind_d, g.mode_d)
            for part_h in range(3):
                h0, h1 = shown(part_h, h, g.H, g.before_h, g.behind_h, g.mode_h)
                for part_w in range(3):
                    w0, w1 = shown(part_w, w, g.W, g.before_w, g.behind_w, g.mode_w)
                    for z in range(d0, d1):
                        for p in range(h0, h1):
                            for q in range(w0, w1):
                                place = index(plane + z * g.p_d + p * g.p_h + q * g.p_w)
                                total += load(padded, place)
        at = index(n * g.x_n + c * g.x_c + d * g.x_d + h * g.x_h + w * g.x_w)
        finish(total, g.post, g.accumulate, target, at, bias, c, residual)

    return conv_direct_fold


def fold_step(problem: ConvProblem, config: Types) -> tuple[Step, Buffer]:
    """The launch that follows on the gradient of the padded image, and the buffer of that."""
    inner = unpadded(problem)
    windows: dict[str, int] = {}
    for name, axis in zip("dhw", three_axes(problem.axes), strict=True):
        windows |= named(
            f"before_{name} behind_{name} mode_{name}",
            (axis.pad_lo, axis.pad_hi, MODES.index(axis.pad_mode)),
        )
    pixels = prod(problem.x_shape)
    constants = FOLD.pack(
        config.index,
        pixels=pixels,
        channels=problem.C,
        post=post_code(problem),
        accumulate=problem.accumulate,
        **named("D H W", three(problem.size)),
        **named("x_n x_c x_d x_h x_w", steps(problem.x.order, problem.N, problem.C, problem.size)),
        **named("p_n p_c p_d p_h p_w", steps(inner.x.order, inner.N, inner.C, inner.size)),
        **windows,
    )
    x, padded = problem.x.dtype.value, problem.acc.value
    nbytes = prod(inner.x_shape) * problem.acc.itemsize
    step = Step(
        name="fold",
        kernel=KernelRef(conv_direct_fold, Types(config.index, padded, (padded, x, x, x))),
        operands=(
            "padded",
            "x",
            *(op if op in problem.post else "" for op in ("bias", "residual")),
        ),
        constants=constants,
        tasks=-(-pixels // THREADS),
        cost=Cost(bytes=nbytes + pixels * problem.x.dtype.itemsize),
    )
    return step, Buffer(name="padded", nbytes=nbytes)
