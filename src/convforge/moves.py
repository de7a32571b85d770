"""Launches for operators that have no problem and no plan: elements that move, and powers.

In host memory elements are float32, float64 or int64; on a device also of a half type.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from convforge.executor import Executable
from convforge.problem import Direction, PoolProblem
from convforge.runtime import machine
from convforge.runtime.cuda.device import Device
from convforge.runtime.cuda.executable import CudaExecutable
from convforge.runtime.memory import array_address
from convforge.runtime.threads import get_num_threads

Array = np.ndarray[Any, Any]
_KINDS = {
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(np.int64): "i64",
}


def send(
    here: Array, indices: Array, there: Array, *, images: int, channels: int, last: bool, adds: bool
) -> bool:
    """Write zeros ``there``, and each element of ``here`` where its index says.

    Args:
        here, indices: Of one shape and memory order; indices are int64 positions in a plane.
        there: Written. All arrays are contiguous.
        images, channels: Of both. last: Channels come last in memory.
        adds: Elements with equal indices are added up; else the last one stays.

    Returns:
        Whether every index was a position of the plane; elements with others were left out.
    """
    outside = np.zeros(1, np.int64)
    fields = _fields(here, there, images, channels, last) | {"adds": adds}
    _run("send_program", here.dtype, fields, (here, indices, there, outside))
    return not outside[0]


def fetch(
    here: Array, indices: Array, there: Array, *, images: int, channels: int, last: bool
) -> None:
    """Write each element of ``here`` from where its index says; no index may be outside."""
    fields = _fields(here, there, images, channels, last) | {"adds": False}
    _run("fetch_program", here.dtype, fields, (here, indices, there, indices))


def largest_of_windows(
    x: Array, y: Array, indices: Array, starts: tuple[Array, ...], **fields: int
) -> None:
    """Write the largest elements of windows that start where three tables say, and where they are.

    Args:
        x, y, indices: Contiguous, in one memory order.
        starts: First positions on the axes d, h and w, int64, one row a plane.
        fields: Those of the kernel's struct.
    """
    _run("windows_program", x.dtype, fields, (x, y, indices, *starts))


class Borders(NamedTuple):
    """What a launch for borders knows besides its arrays; the kernel's program explains."""

    images: int
    axes: tuple[tuple[int, int, int], ...]
    mode: str
    run: int


def borders(small: Array, large: Array, value: Array, *, back: bool, fields: Borders) -> None:
    """Write ``large`` from ``small``, with borders; or back, where what they hold adds up.

    Args:
        small, large: Contiguous. value: One element, which a border may hold.
    """
    made = _borders(_KINDS[small.dtype], back, fields, get_num_threads())
    made.run([array_address(small), array_address(large), array_address(value)])


@lru_cache(maxsize=256)
def _borders(dtype: str, back: bool, fields: Borders, threads: int) -> Executable:
    # Numba is imported by the first call.
    from convforge.kernels.cpu import _borders as room

    made = room.borders_program(dtype, back=back, **fields._asdict())
    return Executable(made, made.steps[0].operands, machine.cpu(threads))


def folding(images: Array, columns: Array, *, back: bool, **fields: int) -> None:
    """Write the columns of the images' windows; or back, where what overlaps adds up.

    Args:
        images, columns: Contiguous.
        fields: Those of the kernel's struct.
    """
    _run("folding_program", images.dtype, fields | {"back": back}, (images, columns))


def powers(x: Array, result: Array, power: int, *, times: bool) -> bool:
    """Write ``x ** power``, a power of at least 1, or multiply the result by it.

    Returns:
        Whether it was done: both are float32 or float64, and dense in one memory order.
    """
    dense = x.strides == result.strides and x.dtype == result.dtype and _is_one_run(result)
    if not dense or x.dtype.kind != "f" or x.dtype not in _KINDS or not x.flags.aligned:
        return False
    if x.size:
        _run(
            "powers_program",
            x.dtype,
            {"count": x.size, "power": power, "times": times},
            (x, result),
        )
    return True


class PowersOn(NamedTuple):
    """Power means over the windows of a device's array, in one launch, and their gradient in one.

    Attributes:
        device: Where the arrays lie.
        problem: The average of the powers: its divisor is 1 for their sum, None for the mean
            scaled up to a whole window.
        power: Any number but 0.
    """

    device: Device
    problem: PoolProblem
    power: float

    def forward(self, x: Any, roots: Any, sums: Any = None) -> None:
        """Write the roots, and the sums where there is an array for them.

        Args:
            x, roots: C-contiguous, of the problem's shapes.
            sums: In the type of its accumulator; the way back reads them.
        """
        address = self.device.address
        made = _powers_on(self, sums is not None)
        made.run([address(x), address(roots), 0 if sums is None else address(sums)])

    def backward(self, dy: Any, sums: Any, x: Any, dx: Any) -> None:
        """Write the gradient of ``x``."""
        back = self._replace(problem=replace(self.problem, direction=Direction.DGRAD))
        _powers_on(back, False).run([self.device.address(array) for array in (dy, sums, x, dx)])


@lru_cache(maxsize=256)
def _powers_on(powers: PowersOn, keeps_sums: bool) -> CudaExecutable:
    # Numba is imported by the first call.
    from convforge.kernels.cuda_numba import _pool_powers as room

    made = room.powers_program(powers.problem, powers.power, keeps_sums=keeps_sums)
    return CudaExecutable(made, made.steps[0].operands, powers.device)


def _is_one_run(array: Array) -> bool:
    """Whether an array's elements are one run of memory, whatever the order of its axes."""
    expected = array.itemsize
    for stride, extent in sorted(zip(array.strides, array.shape, strict=True)):
        if extent != 1:
            if stride != expected:
                return False
            expected *= extent
    return True


def _fields(here: Array, there: Array, images: int, channels: int, last: bool) -> dict[str, int]:
    planes = images * channels
    return {
        "images": images,
        "channels": channels,
        "here": here.size // planes,
        "there": there.size // planes,
        "last": last,
    }


def _run(
    program: str, dtype: np.dtype[Any], fields: dict[str, Any], arrays: tuple[Array, ...]
) -> None:
    made = _executable(program, _KINDS[dtype], get_num_threads(), **fields)
    made.run([array_address(array) for array in arrays])


@lru_cache(maxsize=256)
def _executable(program: str, dtype: str, threads: int, **fields: Any) -> Executable:
    # Numba is imported by the first call.
    from convforge.kernels.cpu import _folding, _positions, _powers

    rooms = {"folding_program": _folding, "powers_program": _powers}
    made = getattr(rooms.get(program, _positions), program)(dtype, **fields)
    return Executable(made, made.steps[0].operands, machine.cpu(threads))
