"""What stands outside an image, as the place inside it that is read instead.

Outside an axis of ``size`` positions, position ``i`` is ``sign * i + before`` below zero and
``sign * i + behind`` from ``size`` on. Where that is outside again stands a zero.
"""

from __future__ import annotations

from convforge.problem import ConvProblem, PadMode
from convforge.runtime.jit import inlined

Outside = tuple[int, int, int]


def outside(mode: PadMode, size: int) -> Outside:
    """``sign``, ``before`` and ``behind`` of an axis."""
    return {
        PadMode.ZEROS: (0, -1, -1),
        PadMode.REFLECT: (-1, 0, 2 * (size - 1)),
        PadMode.REPLICATE: (0, 0, size - 1),
        PadMode.CIRCULAR: (1, size, -size),
    }[mode]


def around(problem: ConvProblem) -> tuple[Outside, ...]:
    """What stands outside the images on each axis; nothing where it is zeros on all."""
    if all(axis.pad_mode is PadMode.ZEROS for axis in problem.axes):
        return ()
    return tuple(outside(axis.pad_mode, axis.size) for axis in problem.axes)


ZEROS = outside(PadMode.ZEROS, 0)


def fields_of(values: tuple[Outside, ...]) -> dict[str, int]:
    """Fields ``sign_d`` to ``behind_w`` of a struct, from those of one to three axes."""
    three = (ZEROS,) * (3 - len(values)) + values
    return {
        f"{name}_{axis}": value
        for axis, triple in zip("dhw", three, strict=True)
        for name, value in zip(("sign", "before", "behind"), triple, strict=True)
    }


@inlined
def inside(index, size, sign, before, behind):
    """The index that stands at ``index``, -1 for a zero."""
    if 0 <= index < size:
        return index
    at = sign * index + (before if index < 0 else behind)
    return at if 0 <= at < size else -1
