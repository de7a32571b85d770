"""Pointwise convolution to very few outputs: dot products along the channels of a pixel.

Computes: fprop of 1x1 filters without stride or padding to at most four output channels, one to
    three axes; any post ops.
Layout: channels last, images and weights in place.
Accumulates: in the operands' type, float32 or float64; one sum for each lane, and these in order.
Good at: heads of few classes, at the speed of reading their images. Bad at: fewer channels than a
    vector has lanes.

A register tile has its lanes along outputs, most of which would be empty here. See
docs/algorithms/conv_few.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from convforge.contract import (
    Buffer,
    Cost,
    KernelRef,
    Machine,
    Program,
    Rejected,
    Step,
    Tolerance,
    Traits,
    WeightFormat,
)
from convforge.kernels.cpu._block import block_load, block_transpose, whole_load, whole_store
from convforge.kernels.cpu._copy import copy_elements
from convforge.kernels.cpu._gather import is_pointwise
from convforge.kernels.cpu._planes import is_channels_last
from convforge.kernels.cpu._refuse import NOT_A_CONVOLUTION, refuse_common
from convforge.kernels.cpu._store import pack_store, put_rows, store_view
from convforge.kernels.cpu._vector import (
    Vector,
    fma,
    itemsize,
    lanes,
    load,
    load_first,
    store,
    vector_bytes,
    zeros,
)
from convforge.problem import ConvProblem, Direction, PostOp, Problem
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.rawmem import prefetch, store_word
from convforge.runtime.tasks import claimed

OUTPUTS = 4
"""Summed at once: a pixel's channels are loaded for so many; with more, a tile is as fast."""
_VECTOR_FLOPS = 4
"""For a product of vectors: two loads for each take twice as long as the tile's."""

_AHEAD_BYTES = 8192
"""Lines are asked for this far ahead: prefetchers of CPUs stop at every page of 4096."""

FEW = Layout("Few", "pixels C K plain scratch_bytes")
_few = FEW.view
_FEW_BYTES = FEW.nbytes
_POINTERS = Layout("FewPointers", "x w y bias residual scratch")
_pointers = _POINTERS.view


@kernel
def few_outputs(kind, constants, pointers, worker, work):
    """A task is as many neighbouring pixels as a vector has lanes."""
    c, p = _few(constants), _pointers(pointers)
    s = store_view(constants + _FEW_BYTES)
    many, row = lanes(kind), vector_bytes(kind)
    pixel = c.C * itemsize(kind)
    products = p.scratch + worker * c.scratch_bytes  # [OUTPUTS, pixel, lane]
    sums = products + OUTPUTS * many * row  # [OUTPUTS, pixel]
    slab = sums + OUTPUTS * row  # [pixel, output]
    table = slab + many * row
    for task in claimed(work, worker):
        first = task * many
        count = min(many, c.pixels - first)
        x = p.x + first * pixel
        for i in range(0, count, 2):
            other = min(1, count - 1 - i)
            target = products + i * row
            _multiply(kind, c, x + i * pixel, other * pixel, p.w, target, other * row, many * row)
        for i in range(count):
            store_word(table + 8 * i, first + i)
        for k in range(c.K):
            store(sums + k * row, _sums_of_rows(kind, products + k * many * row))
        block = block_transpose(kind, block_load(kind, sums, row, c.K, many))
        if c.plain:
            # Each row begins where the results of the one before end.
            for i in range(many):
                store(slab + i * s.row_bytes, block[i])
            copy_elements(kind, slab, p.y + first * s.row_bytes, count * c.K)
        else:
            whole_store(kind, block, slab, row)
            put_rows(kind, s, slab, row, count, c.K, table, p.y, p.bias, p.residual)


@inlined
def _multiply(kind, c, x, x_step, w, target, target_step, step):
    """Two pixels: a vector of sums for each output, ``step`` bytes apart.

    Weights are loaded for both. Beyond the last output its sums come again; a pixel without a
    neighbour is its own, at steps of 0.
    """
    size, row = itemsize(kind), c.C * itemsize(kind)
    places = (w, w + min(1, c.K - 1) * row, w + min(2, c.K - 1) * row, w + min(3, c.K - 1) * row)
    a = b = (zeros(kind), zeros(kind), zeros(kind), zeros(kind))
    whole = c.C - c.C % lanes(kind)
    for at in range(0, whole * size, vector_bytes(kind)):
        prefetch(x + at + _AHEAD_BYTES)
        prefetch(x + x_step + at + _AHEAD_BYTES)
        weights = _load_each(kind, places, at, lanes(kind))
        a = _add_products(load(kind, x + at), weights, a)
        b = _add_products(load(kind, x + x_step + at), weights, b)
    if whole < c.C:
        at, left = whole * size, c.C - whole
        weights = _load_each(kind, places, at, left)
        a = _add_products(load_first(kind, x + at, left), weights, a)
        b = _add_products(load_first(kind, x + x_step + at, left), weights, b)
    for k in range(OUTPUTS):
        store(target + k * step, a[k])
        store(target + target_step + k * step, b[k])


@inlined
def _load_each(kind, places, at, count):
    """The first lanes at four places."""
    w0, w1, w2, w3 = places
    return (
        load_first(kind, w0 + at, count),
        load_first(kind, w1 + at, count),
        load_first(kind, w2 + at, count),
        load_first(kind, w3 + at, count),
    )


@inlined
def _add_products(value, weights, sums):
    w0, w1, w2, w3 = weights
    s0, s1, s2, s3 = sums
    return fma(value, w0, s0), fma(value, w1, s1), fma(value, w2, s2), fma(value, w3, s3)


@inlined
def _sums_of_rows(kind, rows):
    """The sum of each row's lanes, as a vector over rows."""
    block = block_transpose(kind, whole_load(kind, rows, vector_bytes(kind)))
    total = block[0]
    for i in range(1, lanes(kind)):
        total = total + block[i]
    return total


@dataclass(frozen=True, slots=True)
class FewConfig:
    """Lanes of a vector, and pixels of a task."""

    lanes: int


class ConvFew:
    """The algorithm ``cpu.conv_few``."""

    name = "cpu.conv_few"
    revision = 1
    tolerance = Tolerance(growth=4.0, exact=True)
    traits = Traits()

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """Pointwise, channels last, fprop, few outputs."""
        if not isinstance(problem, ConvProblem):
            return NOT_A_CONVOLUTION
        if problem.direction is not Direction.FPROP:
            return Rejected(f"{problem.direction}: fprop only")
        # The results of a block of pixels are transposed: as many outputs as lanes.
        most = min(OUTPUTS, machine.vector_bytes // problem.x.dtype.itemsize)
        if most < problem.K or problem.groups > 1:
            return Rejected(f"K={problem.K} in {problem.groups} groups: one, K <= {most} only")
        if not is_pointwise(problem):
            return Rejected("more than one product for a channel and pixel: 1x1, no stride only")
        x_last = is_channels_last(problem.x.order, problem.C, problem.size)
        if not (x_last and is_channels_last(problem.y.order, problem.K, problem.out)):
            return Rejected("channels first: channels last only")
        return refuse_common(problem)

    def configs(
        self, problem: Problem, machine: Machine, workspace_limit: int
    ) -> Iterable[FewConfig]:
        """There is one."""
        config = FewConfig(machine.vector_bytes // problem.x.dtype.itemsize)
        workspace = self.program(problem, config, machine).workspace_bytes(machine.threads)
        if workspace <= workspace_limit:
            yield config

    def weight_format(self, problem: Problem, config: FewConfig) -> WeightFormat | None:
        """None: channels of a filter are adjacent as they are."""
        return None

    def program(self, problem: Problem, config: FewConfig, machine: Machine) -> Program:
        """One launch."""
        assert isinstance(problem, ConvProblem)
        size, pixels = problem.x.dtype.itemsize, problem.N * prod(problem.size)
        row = config.lanes * size
        scratch = (OUTPUTS * config.lanes + OUTPUTS + config.lanes) * row + 8 * config.lanes
        scratch = -(-scratch // 64) * 64
        vectors = -(-problem.C // config.lanes) * OUTPUTS + OUTPUTS * problem.K
        step = Step(
            name="multiply",
            kernel=KernelRef(few_outputs, Vector(problem.x.dtype.value)),
            operands=(
                *("x", "w", "y"),
                "bias" if PostOp.BIAS in problem.post else "",
                "residual" if PostOp.RESIDUAL in problem.post else "",
                "scratch",
            ),
            constants=FEW.pack(
                pixels=pixels,
                C=problem.C,
                K=problem.K,
                plain=not (problem.post or problem.accumulate),
                scratch_bytes=scratch,
            )
            + pack_store(problem, problem.K * size),
            tasks=-(-pixels // config.lanes),
            cost=Cost(flops=_VECTOR_FLOPS * pixels * vectors * config.lanes, bytes=problem.bytes),
        )
        return Program(
            steps=(step,), buffers=(Buffer(name="scratch", nbytes=scratch, scope="worker"),)
        )


ALGORITHMS = (ConvFew(),)
