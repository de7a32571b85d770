"""Run a program on a device: loaded kernels, parameters in place, one enqueued launch a step."""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from convforge.contract import Program
from convforge.runtime.cuda.device import Device, Launch
from convforge.runtime.cuda.jit import CudaKernel, index_dtype

_MOST_BLOCKS = 2**31 - 1


class _Frame:
    """One thread's launches: tables of parameters whose pointers are written before each run.

    The driver copies parameters while a launch is enqueued, so that the next run may write them;
    but another thread may not, so each has its own. The constants that the tables point at are
    kept here: threads that start together may each have made a template, of which one is kept.
    """

    def __init__(
        self,
        template: tuple[Launch, ...],
        tables: list[np.ndarray],
        constants: list[np.ndarray],
        words: int,
    ) -> None:
        self._constants = constants
        self.words = bytearray(8 * words)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.words))
        # Entries below the number of words are indices of words; the others are addresses already.
        self._tables = [np.where(table < words, base + 8 * table, table) for table in tables]
        self.launches = tuple(
            launch._replace(parameters=table.ctypes.data)
            for launch, table in zip(template, self._tables, strict=True)
        )


class CudaExecutable:
    """A program bound to a device: call :meth:`run` with the addresses of its arrays.

    Kernels are compiled and loaded by the first run.

    Attributes:
        workspace_bytes: Exact scratch memory of a run.
    """

    def __init__(self, program: Program, names: Sequence[str], device: Device) -> None:
        if any(buffer.scope != "call" for buffer in program.buffers):
            raise ValueError("a GPU has no workers: its buffers are for the call")
        layout = program.layout(1)
        self.workspace_bytes = max((end for _, end in layout.values()), default=0)
        self._device = device
        self._steps = tuple(step for step in program.steps if step.tasks)
        self._offsets = tuple(start for start, _ in layout.values())
        self._index = {name: i for i, name in enumerate([*names, *layout, ""])}
        self._count = len(self._index)
        self._pack = struct.Struct(f"={self._count}Q").pack_into
        for step in self._steps:
            if step.tasks > _MOST_BLOCKS:
                raise ValueError(f"step {step.name} has {step.tasks} blocks; {_MOST_BLOCKS} fit")
        self._frames = threading.local()

    @cached_property
    def _template(self) -> tuple[tuple[Launch, ...], list[np.ndarray], list[np.ndarray]]:
        """Launches of loaded kernels, their tables, and the constants that these point at."""
        launches, tables, kept = [], [], []
        for step in self._steps:
            kernel, config = step.kernel.function, step.kernel.config
            assert isinstance(kernel, CudaKernel)
            constants = np.frombuffer(step.constants, index_dtype(config.index)).copy()
            first, size = constants.ctypes.data, constants.itemsize
            table = [first + size * i for i in range(len(constants))]
            table += [self._index[name] for name in step.operands]
            kept.append(constants)
            tables.append(np.array(table, np.uint64))
            shared = getattr(config, "shared_bytes", 0)
            function = self._device.load(step.kernel)
            launches.append(Launch(function, step.tasks, kernel.threads, shared, 0))
        return tuple(launches), tables, kept

    def run(self, addresses: list[int]) -> None:
        """Enqueue every step. ``addresses`` follow the names; 0 stands for an absent array."""
        try:
            frame: _Frame = self._frames.own
        except AttributeError:
            self._device.attach()
            frame = self._frames.own = _Frame(*self._template, self._count)
        if not self.workspace_bytes:
            self._pack(frame.words, 0, *addresses, 0)
            self._device.launch(frame.launches)
            return
        base, _kept = self._device.workspace(self.workspace_bytes)
        self._pack(frame.words, 0, *addresses, *[base + at for at in self._offsets], 0)
        self._device.launch(frame.launches)
