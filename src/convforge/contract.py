"""What a kernel file promises: programs of steps, weight formats, algorithms.

A kernel file describes its work as data. :class:`Program` is a tuple of launches with their
costs and the exact workspace they need, so that it can be printed, costed and checked without
running; :class:`Algorithm` is the stateless object that makes one for a problem. Nothing here
knows NumPy, Numba or a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from convforge.problem import Problem

__all__ = [
    "Algorithm",
    "Buffer",
    "Config",
    "Cost",
    "KernelRef",
    "Machine",
    "Program",
    "Rejected",
    "Step",
    "TakesPlainWeights",
    "Tolerance",
    "Traits",
    "UnsupportedProblem",
    "WeightFormat",
]


class UnsupportedProblem(ValueError):
    """No algorithm, or not the one that was named, can run a problem; lists every reason."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An algorithm's refusal of a problem, in words that complete 'refused because …'."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What kernels may know about where they run.

    Attributes:
        device: ``cpu`` or ``cuda``.
        isa: Vector instruction set that code is generated for, such as ``avx512``; of a GPU the
            architecture, such as ``sm_90``.
        vector_bytes: Bytes of one vector register, or of the widest load of a GPU's thread.
        registers: Vector registers, or those that a GPU's thread may have.
        threads: Workers that may run at once, or multiprocessors.
        l1_bytes, l2_bytes: Data caches of one core; the shared memory that a GPU's block may have,
            and the cache that multiprocessors share. l3_bytes: The last cache before memory.
    """

    device: str
    isa: str
    vector_bytes: int
    registers: int
    threads: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Error an algorithm may make, in units of ``eps * conv(|x|, |w|)``.

    Attributes:
        growth: Largest error in units, for zero-mean data.
        planewise: Divide by the plane's largest unit instead of the element's own: for
            algorithms that mix pixels (Winograd F(4x4), FFT), unfit for wide dynamic range.
        exact: Small integers give exact results.
    """

    growth: float = 4.0
    planewise: bool = False
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Promises about bits.

    Attributes:
        deterministic, thread_invariant, batch_invariant: Equal results from run to run, for any
            number of threads, for any number of images beside this one.
        strict_nan: A NaN or infinity reaches exactly the outputs that it is a factor of. False
            where zeros outside the image are multiplied (0 * inf is NaN) or skipped.
    """

    deterministic: bool = True
    thread_invariant: bool = True
    batch_invariant: bool = True
    strict_nan: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Work of one step: multiplications plus additions, and bytes moved at least once."""

    flops: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class KernelRef:
    """A kernel and the configuration it is compiled for.

    Attributes:
        function: The jitted function (device room), or a plain Python function of arrays
            (host room: the reference).
        config: Singleton whose Numba type carries the configuration, None where there is none.
    """

    function: Callable[..., Any]
    config: Any = None

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.function, "__name__", self.function))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One launch, one named phase.

    Attributes:
        name: The phase, such as ``transform`` or ``multiply``.
        kernel: What runs.
        operands: Names of the arrays and buffers it gets, in the kernel's order; ``""`` is null.
        constants: Its packed argument struct: geometry and flags fixed by the problem.
        tasks: Independent pieces of work, which the launcher hands out: see ``runtime.tasks``. On
            a GPU, blocks of the grid; none launches nothing.
        cost: Flops and bytes.
        joins: A worker needs nothing of the step before but what it did there itself, so that
            nobody waits in between.
    """

    name: str
    kernel: KernelRef
    operands: tuple[str, ...]
    constants: bytes = b""
    tasks: int = 1
    cost: Cost = Cost()
    joins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Scratch memory of a program: one for the call, or one slice for each worker."""

    name: str
    nbytes: int
    scope: Literal["call", "worker"] = "call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Steps run one after another, and the buffers they share."""

    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...] = ()

    def workspace_bytes(self, workers: int) -> int:
        """Exact bytes of all buffers with this many workers, each buffer on its own cache line."""
        return sum(end - start for start, end in self.layout(workers).values())

    def layout(self, workers: int) -> dict[str, tuple[int, int]]:
        """Start and end of each buffer in one workspace."""
        places, offset = {}, 0
        for buffer in self.buffers:
            one = -(-buffer.nbytes // 64) * 64
            size = one * (workers if buffer.scope == "worker" else 1)
            places[buffer.name] = (offset, offset + size)
            offset += size
        return places


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """A layout of prepared weights; free of N, H and W, so that plans of all sizes share it.

    Attributes:
        id: Such as ``kb32:f32``; equal ids mean interchangeable bytes.
        nbytes: Size of the prepared weights.
        pack: Program from ``w`` to ``packed``.
    """

    id: str
    nbytes: int
    pack: Program = field(compare=False)


Config = Any
"""A frozen dataclass of ints and strings, one type an algorithm; ``str`` of it goes into logs."""


@runtime_checkable
class Algorithm(Protocol):
    """One algorithm on one device; stateless. Convolution and pooling, every direction, alike.

    Operand names in programs: ``x w y`` (any direction), ``packed`` for prepared weights,
    ``bias``, ``residual``, ``indices``, and the program's own buffers.
    """

    name: str
    """Room and stem: ``cpu.conv_direct``."""
    revision: int
    """Raised when speed changes; voids tuning results."""
    tolerance: Tolerance
    traits: Traits

    def supports(self, problem: Problem, machine: Machine) -> Rejected | None:
        """None if it can run the problem, else why not. Pure."""

    def configs(self, problem: Problem, machine: Machine, workspace_limit: int) -> Iterable[Config]:
        """Configurations worth trying, the default first; none needs more than the limit."""

    def weight_format(self, problem: Problem, config: Config) -> WeightFormat | None:
        """How it wants weights prepared; None if it reads ``w`` in place."""

    def program(self, problem: Problem, config: Config, machine: Machine) -> Program:
        """The launches that compute the problem, from prepared weights where it has a format."""


@runtime_checkable
class TakesPlainWeights(Protocol):
    """An algorithm that prepares weights within a call better than all of them before it."""

    def plain_program(self, problem: Problem, config: Config, machine: Machine) -> Program | None:
        """The launches from plain ``w``; None where ``weight_format().pack`` comes first."""
