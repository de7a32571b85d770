"""Weights as dgrad's product sums over them: of each channel, all outputs under every tap."""

from __future__ import annotations

from math import prod

from numba import cuda

from convforge.contract import Buffer, Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import Types, divider, number_type
from convforge.kernels.cuda_numba._geometry import named, steps
from convforge.kernels.cuda_numba._lowering import THREADS, raw, taps_inner
from convforge.problem import ConvProblem
from convforge.runtime.cuda.jit import Constants, kernel

TURN = Constants("Turn", "elements taps_inner group_K group_C taps w_k w_c w_tap")


@kernel(TURN, threads=THREADS, registers={"f32": 24, "f64": 24})
def conv_im2col_turn(config):
    """Weights ``[group, c, k under every tap]``, as dgrad sums over them."""
    index = number_type(config.index)
    divide = divider(config.index)

    def conv_im2col_turn(g, w, turned):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.elements:
            return
        if g.taps_inner != 0:
            rest, tap = divide(i, g.taps)
            rest, k = divide(rest, g.group_K)
        else:
            rest, k = divide(i, g.group_K)
            rest, tap = divide(rest, g.taps)
        group, c = divide(rest, g.group_C)
        filters = index(group * g.group_K + k)
        turned[i] = w[index(filters * g.w_k + c * g.w_c + tap * g.w_tap)]

    return conv_im2col_turn


def turn_step(problem: ConvProblem, index: str) -> tuple[Step, Buffer]:
    """The launch that brings dgrad's weights into its order, and the buffer for them."""
    w_k, w_c, _, _, w_tap = steps(problem.w.order, problem.K, problem.group_C, problem.filter)
    elements, dtype = prod(problem.w_shape), raw(problem.w.dtype)
    constants = TURN.pack(
        index,
        elements=elements,
        taps_inner=taps_inner(problem),
        group_K=problem.group_K,
        group_C=problem.group_C,
        taps=problem.taps,
        **named("w_k w_c w_tap", (w_k, w_c, w_tap)),
    )
    nbytes = elements * problem.w.dtype.itemsize
    acc = "f64" if dtype == "f64" else "f32"
    step = Step(
        name="turn",
        kernel=KernelRef(conv_im2col_turn, Types(index, acc, (dtype, dtype))),
        operands=("w", "turned"),
        constants=constants,
        tasks=-(-elements // THREADS),
        cost=Cost(bytes=2 * nbytes),
    )
    return step, Buffer(name="turned", nbytes=nbytes)
