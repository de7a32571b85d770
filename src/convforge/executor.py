"""Run a program: compiled entry points, packed arguments, a workspace, one launch a step."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence

import numpy as np

from convforge.contract import Buffer, Machine, Program, Step
from convforge.runtime.jit import address_of
from convforge.runtime.launch import launch
from convforge.runtime.memory import borrow, guarded, is_poisoned

_MAX_POINTERS = 16
_SERIAL_NS = 4_000.0
"""Work shorter than this stays on the calling thread: waking another costs as much."""


class _Pointers(threading.local):
    """Where a thread writes the pointers of its next launch."""

    def __init__(self) -> None:
        self.words = np.zeros(_MAX_POINTERS, np.int64)
        self.address = self.words.ctypes.data


_pointers = _Pointers()


def useful_workers(step: Step, machine: Machine) -> int:
    """Workers worth waking for a step; depends on its work and never on what it computes."""
    nanoseconds = max(step.cost.flops / 50.0, step.cost.bytes / 20.0)
    if nanoseconds < _SERIAL_NS:
        return 1
    return max(1, min(machine.threads, step.tasks))


def prepend(first: Program, then: Program, buffer_name: str, nbytes: int) -> Program:
    """One program out of two, the first of which fills a buffer the second reads."""
    return Program(
        steps=(*first.steps, *then.steps),
        buffers=(Buffer(name=buffer_name, nbytes=nbytes), *first.buffers, *then.buffers),
    )


class Executable:
    """A program bound to a machine: call :meth:`run` with the addresses of its arrays.

    Attributes:
        workspace_bytes: Exact scratch memory of a run.
    """

    def __init__(self, program: Program, names: Sequence[str], machine: Machine) -> None:
        workers = [useful_workers(step, machine) for step in program.steps]
        layout = program.layout(max(workers, default=1))
        self.workspace_bytes = max((end for _, end in layout.values()), default=0)
        self._offsets = tuple(start for start, _ in layout.values())
        index = {name: i for i, name in enumerate([*names, *layout, ""])}
        self._launches: list[tuple[int, int, Callable[..., None], tuple[int, ...], int]] = []
        self._constants = []  # keeps the arrays alive whose addresses the launches hold
        for step, count in zip(program.steps, workers, strict=True):
            constants = np.frombuffer(step.constants or bytes(8), np.int64).copy()
            self._constants.append(constants)
            if len(step.operands) > _MAX_POINTERS:
                raise ValueError(f"step {step.name} has {len(step.operands)} operands")
            self._launches.append(
                (
                    address_of(step.kernel),
                    constants.ctypes.data,
                    struct.Struct(f"={len(step.operands)}q").pack_into,
                    tuple(index[name] for name in step.operands),
                    count,
                )
            )

    def run(self, addresses: list[int]) -> None:
        """Launch every step. ``addresses`` follow the names; 0 stands for an absent array."""
        if not self.workspace_bytes:
            self._launch([*addresses, 0])
        elif is_poisoned():
            with guarded(self.workspace_bytes) as base:
                self._launch([*addresses, *[base + at for at in self._offsets], 0])
        else:
            base, _kept = borrow(self.workspace_bytes)
            self._launch([*addresses, *[base + at for at in self._offsets], 0])

    def _launch(self, words: list[int]) -> None:
        pointers, address = _pointers.words, _pointers.address
        for entry, constants, pack_into, indices, workers in self._launches:
            pack_into(pointers, 0, *[words[i] for i in indices])
            launch(entry, constants, address, workers)
