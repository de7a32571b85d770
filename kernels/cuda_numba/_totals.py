"""The end of a gradient of weights that many blocks share: their sums, added in their order."""

from __future__ import annotations

from math import prod

from numba import cuda

from convforge.contract import Buffer, Cost, KernelRef, Step
from convforge.kernels.cuda_numba._element import Types, loader, number_type, storer
from convforge.problem import ConvProblem
from convforge.runtime.cuda.jit import Constants, kernel

THREADS = 128
TOTALS = Constants("Totals", "elements splits accumulate")


@kernel(TOTALS, threads=THREADS, registers={"f32": 40, "f64": 48})
def conv_wgrad_totals(config):
    """Each weight's partial sums ``[split, weight]``; weights in their own memory order."""
    index, acc = number_type(config.index), number_type(config.acc)
    load, store = loader(config.pointers[1], config.acc), storer(config.pointers[1])

    def conv_wgrad_totals(g, partial, w):
        i = index(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if i >= g.elements:
            return
        total = acc(0)
        for split in range(g.splits):
            total += partial[index(split * g.elements + i)]
        if g.accumulate != 0:
            total += load(w, i)
        store(w, i, total)

    return conv_wgrad_totals


def totals_step(problem: ConvProblem, index: str, splits: int) -> tuple[Step, Buffer]:
    """The launch that writes dw, and the buffer that it reads."""
    elements, acc = prod(problem.w_shape), problem.acc
    buffer = Buffer(name="partial", nbytes=splits * elements * acc.itemsize)
    config = Types(index, acc.value, (acc.value, problem.w.dtype.value))
    step = Step(
        name="add",
        kernel=KernelRef(conv_wgrad_totals, config),
        operands=("partial", "w"),
        constants=TOTALS.pack(
            index, elements=elements, splits=splits, accumulate=problem.accumulate
        ),
        tasks=-(-elements // THREADS),
        cost=Cost(flops=splits * elements, bytes=buffer.nbytes),
    )
    return step, buffer
