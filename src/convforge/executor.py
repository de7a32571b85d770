"""Run a program: compiled entry points, packed arguments, a workspace, one launch a step."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from convforge.contract import Buffer, Machine, Program, Step
from convforge.runtime.jit import address_of
from convforge.runtime.launch import MAX_POINTERS, STEP_WORDS, launch_bytes, run_steps
from convforge.runtime.memory import aligned_empty, borrow, guarded, is_poisoned

_MAX_WORDS = 64
_SERIAL_NS = 4_000.0
"""Work shorter than this stays on the calling thread: waking another costs as much."""


class _Slots(threading.local):
    """Where a thread writes the addresses of its next run, and the room of its launches."""

    def __init__(self) -> None:
        self._words: Any = (ctypes.c_int64 * _MAX_WORDS)()
        self.make_room(1 << 12)

    def make_room(self, nbytes: int) -> None:
        """Have room for launches of so many bytes."""
        self._room = aligned_empty(nbytes)
        # In one attribute: to find each of a thread's takes as long as to write the words.
        self.now = nbytes, self._words, ctypes.addressof(self._words), self._room.ctypes.data


_slots = _Slots()


def useful_workers(step: Step, machine: Machine) -> int:
    """Workers worth waking for a step; depends on its work and never on what it computes."""
    nanoseconds = max(step.cost.flops / 50.0, step.cost.bytes / 20.0)
    if nanoseconds < _SERIAL_NS:
        return 1
    return max(1, min(machine.threads, step.tasks))


def shared_workers(steps: Sequence[Step], machine: Machine) -> list[int]:
    """Workers of each step; those of a step and of the ones that join it are the same."""
    workers: list[int] = []
    first = 0
    for i, step in enumerate(steps):
        first = first if step.joins else i
        workers.append(useful_workers(step, machine))
        workers[first:] = [max(workers[first:])] * (i + 1 - first)
    return workers


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
        workers = shared_workers(program.steps, machine)
        layout = program.layout(max(workers, default=1))
        self.workspace_bytes = max((end for _, end in layout.values()), default=0)
        self._offsets = tuple(start for start, _ in layout.values())
        index = {name: i for i, name in enumerate([*names, *layout, ""])}
        self._workers = max(workers, default=1)
        self._count = len(workers)
        self._constants = []  # keeps the arrays alive whose addresses the table holds
        self._table = np.zeros((self._count, STEP_WORDS), np.int64)
        joined = [*(step.joins for step in program.steps[1:]), False][: self._count]
        for row, step, count, joins in zip(
            self._table, program.steps, workers, joined, strict=True
        ):
            constants = np.frombuffer(step.constants or bytes(8), np.int64).copy()
            self._constants.append(constants)
            operands = [index[name] for name in step.operands]
            if len(operands) > MAX_POINTERS or len(index) > _MAX_WORDS:
                raise ValueError(f"step {step.name} has {len(operands)} operands")
            entry = address_of(step.kernel)
            fixed = (entry, constants.ctypes.data, count, joins, step.tasks, len(operands))
            row[: len(fixed)] = fixed
            row[len(fixed) : len(fixed) + len(operands)] = operands
        self._table_address = self._table.ctypes.data
        self._room_bytes = launch_bytes(self._count, self._workers)

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
        nbytes, slots, address, room = _slots.now
        if nbytes < self._room_bytes:
            _slots.make_room(self._room_bytes)
            room = _slots.now[-1]
        slots[: len(words)] = words
        run_steps(self._table_address, self._count, address, room, self._workers)
