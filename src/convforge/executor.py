"""Run a program: compiled entry points, packed arguments, a workspace, one launch a step."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Sequence

import numpy as np

from convforge.contract import Buffer, Machine, Program, Step
from convforge.runtime.jit import address_of
from convforge.runtime.launch import MAX_POINTERS, STEP_WORDS, launch, serial_steps
from convforge.runtime.memory import borrow, guarded, is_poisoned

_MAX_WORDS = 64
_SERIAL_NS = 4_000.0
"""Work shorter than this stays on the calling thread: waking another costs as much."""


class _Slots(threading.local):
    """Where a thread writes the addresses of its next run and the pointers of its next launch."""

    def __init__(self) -> None:
        self.words = bytearray(8 * _MAX_WORDS)
        self.words_address = _address(self.words)
        self.pointers = bytearray(8 * MAX_POINTERS)
        self.pointers_address = _address(self.pointers)


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


_slots = _Slots()


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
            if len(step.operands) > MAX_POINTERS or len(index) > _MAX_WORDS:
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

        self._table = self._serial_table() if max(workers, default=1) == 1 else None
        self._table_address = 0 if self._table is None else self._table.ctypes.data
        self._pack_words = struct.Struct(f"={len(index)}q").pack_into

    def _serial_table(self) -> np.ndarray:
        """The steps as :func:`serial_steps` reads them: one call from Python runs them all."""
        table = np.zeros((len(self._launches), STEP_WORDS), np.int64)
        for row, (entry, constants, _, indices, workers) in zip(table, self._launches, strict=True):
            row[:4] = entry, constants, workers, len(indices)
            row[4 : 4 + len(indices)] = indices
        return table

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
        slots = _slots
        pointers, address = slots.pointers, slots.pointers_address
        if self._table is not None:
            self._pack_words(slots.words, 0, *words)
            serial_steps(self._table_address, len(self._launches), slots.words_address, address)
            return
        for entry, constants, pack_into, indices, workers in self._launches:
            pack_into(pointers, 0, *[words[i] for i in indices])
            launch(entry, constants, address, workers)
