"""Weights of small groups, as strips of outputs multiply by them."""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Program, Step, WeightFormat
from convforge.kernels.cpu._group_strip import GroupStrip, group_columns, group_members
from convforge.kernels.cpu._vector import itemsize, lanes, load_scalar, store_scalar
from convforge.problem import ConvProblem, Direction, Order
from convforge.runtime.args import Layout
from convforge.runtime.jit import kernel
from convforge.runtime.tasks import claimed

_PACK = Layout("GroupedPack", "channels taps group_bytes input_bytes output_bytes tap_bytes flip")
_pack = _PACK.view
_POINTERS = Layout("GroupedPackPointers", "plain packed")
_pointers = _POINTERS.view


@kernel
def pack_groups(strip, constants, pointers, worker, work):
    """Tap by tap the vectors of a strip; a task is those of some channels.

    Narrow groups: lane i of vector d is what input i gives to output ``i ^ d`` of its group, and
    the last vector overlaps the one before where channels do not fill it. Wide groups: for every
    input the outputs in their order.
    """
    g, p = _pack(constants), _pointers(pointers)
    size, members = itemsize(strip), group_members(strip)
    width = group_columns(strip) * lanes(strip)
    for task in claimed(work, worker):
        first = min(task * width, g.channels - width)
        target = p.packed + task * g.taps * members * width * size
        for place in range(g.taps):
            tap = g.taps - 1 - place if g.flip else place
            for d in range(members):
                for group in range(0, width, members):
                    source = p.plain + (first + group) // members * g.group_bytes
                    source += tap * g.tap_bytes
                    for i in range(members):
                        c, k = (i, i ^ d) if members < width else (d, i)
                        at = source + c * g.input_bytes + k * g.output_bytes
                        store_scalar(strip, target, load_scalar(strip, at))
                        target += size


def group_format(problem: ConvProblem, lanes: int) -> WeightFormat:
    """What :func:`pack_groups` makes of the weights, whatever the length of strips."""
    size, members = problem.w.dtype.itemsize, problem.group_C
    strip = GroupStrip(problem.w.dtype.value, lanes, 1, members)
    first = problem.w.order is Order.CHANNELS_FIRST
    k_bytes = members * problem.taps * size
    c_bytes = problem.taps * size if first else size
    dgrad = problem.direction is Direction.DGRAD
    width = strip.columns * strip.lanes
    tasks = -(-problem.C // width)
    nbytes = tasks * width * members * problem.taps * size
    step = Step(
        name="pack",
        kernel=KernelRef(pack_groups, strip),
        operands=("w", "packed"),
        constants=_PACK.pack(
            channels=problem.C,
            taps=problem.taps,
            group_bytes=members * k_bytes,
            input_bytes=k_bytes if dgrad else c_bytes,
            output_bytes=c_bytes if dgrad else k_bytes,
            tap_bytes=size if first else members * size,
            flip=dgrad,
        ),
        tasks=tasks,
        cost=Cost(bytes=2 * nbytes),
    )
    letter = "c" if dgrad else "k"
    geometry = "x".join(str(n) for n in (problem.C, members, *problem.filter))
    return WeightFormat(
        id=f"{letter}groups{lanes}:{problem.w.dtype}:{geometry}",
        nbytes=nbytes,
        pack=Program(steps=(step,)),
    )
