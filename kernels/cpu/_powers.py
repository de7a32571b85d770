"""Powers of adjacent elements by multiplication; a task is a piece of them."""

from __future__ import annotations

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.kernels.cpu._vector import (
    Vector,
    itemsize,
    lanes,
    load,
    load_first,
    store,
    store_first,
)
from convforge.runtime.args import Layout
from convforge.runtime.jit import inlined, kernel
from convforge.runtime.tasks import claimed

_PIECE = 4096
"""Elements of a task."""
_POWERS = Layout("Powers", "count power times")
_powers = _POWERS.view
_POINTERS = Layout("PowerPointers", "x result")
_pointers = _POINTERS.view


def powers_program(dtype: str, **fields: int) -> Program:
    """``x`` to a power of at least 1; with ``times`` the result is multiplied by it."""
    count = fields["count"]
    step = Step(
        name="powers",
        kernel=KernelRef(multiply_powers, Vector(dtype)),
        operands=("x", "result"),
        constants=_POWERS.pack(**fields),
        tasks=-(-count // _PIECE),
        cost=Cost(flops=count * fields["power"], bytes=count * (12 if dtype == "f32" else 24)),
    )
    return Program(steps=(step,))


@inlined
def _raised(x, power):
    """Product of so many factors."""
    product = x
    for _ in range(power - 1):
        product = product * x
    return product


@kernel
def multiply_powers(kind, constants, pointers, worker, work):
    """Products from the left, as they are written."""
    g, p = _powers(constants), _pointers(pointers)
    size, width = itemsize(kind), lanes(kind)
    for piece in claimed(work, worker):
        end = min((piece + 1) * _PIECE, g.count)
        for i in range(piece * _PIECE, end, width):
            place, count = p.result + i * size, end - i
            if count >= width:
                power = _raised(load(kind, p.x + i * size), g.power)
                store(place, load(kind, place) * power if g.times else power)
            else:
                power = _raised(load_first(kind, p.x + i * size, count), g.power)
                if g.times:
                    power = load_first(kind, place, count) * power
                store_first(place, power, count)
