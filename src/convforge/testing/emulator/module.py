"""Modules of PTX and their kernels, as Python calls them."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convforge.testing.emulator.build import build
from convforge.testing.emulator.report import Finding, Kind, Report
from convforge.testing.emulator.translate import Entry, translate

Order = Literal["forward", "backward"] | int
_COUNTS = (
    "block_barriers",
    "warp_collectives",
    "matrix_multiplications",
    "asynchronous_copies",
    "shared_requests",
    "shared_passes",
    "shared_extra_passes",
    "ldmatrix_phases",
    "ldmatrix_extra",
    "global_requests",
    "global_sectors",
)
_MOST_BLOCKS = (2**31 - 1, 65535, 65535)
_MOST_THREADS = (1024, 1024, 64)
_MOST_THREADS_OF_A_BLOCK = 1024
_MOST_SHARED_BYTES = 227 * 1024
_MOST_PARAMETER_BYTES = 4096
_SEEDS = 2**31 - 2
_Triple = ctypes.c_uint32 * 3
_RUNNING = threading.Lock()  # equal modules are one library, whose state is global


class _Launch(ctypes.Structure):
    """In step with ``Launch`` of cpp/block.cpp."""

    _fields_ = (
        ("entry", ctypes.c_uint32),
        ("order", ctypes.c_uint32),
        ("late", ctypes.c_uint32),
        ("shared", ctypes.c_uint32),
        ("grid", _Triple),
        ("block", _Triple),
        ("parameters", ctypes.c_void_p),
        ("regions", ctypes.c_void_p),
        ("region_count", ctypes.c_uint64),
    )


class _Result(ctypes.Structure):
    """In step with ``Result`` of cpp/block.cpp."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("line", ctypes.c_int),
        ("block", _Triple),
        ("thread", _Triple),
        ("counts", ctypes.c_uint64 * len(_COUNTS)),
        ("message", ctypes.c_char * 8192),
    )


class Emulated:
    """A module of PTX, translated to C++, compiled, and loaded.

    Compiling takes a second or so; the result is kept on disk for the next time. Launches wait
    for each other.

    Attributes:
        entries: Names of the kernels, in the order of the text.
    """

    def __init__(self, ptx: str) -> None:
        """Translate and build.

        Raises:
            UnsupportedPTX: The PTX holds an opcode, or a form of one, that is not known.
            RuntimeError: There is no C++ compiler.
        """
        translation = translate(ptx)
        self._lines = ptx.splitlines()
        self._sites = translation.sites
        self._entries = translation.entries
        self.entries = tuple(translation.entries)
        self._library = ctypes.CDLL(str(build(translation.source)))

    def __getitem__(self, name: str) -> EmulatedKernel:
        """The kernel of this name."""
        if name not in self._entries:
            raise KeyError(f"no entry {name!r}; there are {', '.join(self.entries)}")
        return EmulatedKernel(self, name, self._entries[name])

    def _run(self, launch: _Launch, name: str) -> Report:
        result = _Result()
        extra = np.zeros(max(len(self._sites), 1), np.uint64)
        with _RUNNING:
            self._library.emulator_run(
                ctypes.byref(launch), ctypes.byref(result), ctypes.c_void_p(extra.ctypes.data)
            )
        if result.kind:
            raise Finding(
                list(Kind)[result.kind - 1],
                name,
                tuple(result.block),
                tuple(result.thread),
                result.line,
                self._lines[result.line - 1].strip() if result.line else "",
                result.message.decode("utf-8", "replace"),
            )
        conflicts: dict[int, int] = {}
        for line, count in zip(self._sites, extra.tolist(), strict=False):
            if count:
                conflicts[line] = conflicts.get(line, 0) + count
        counts = dict(zip(_COUNTS, result.counts, strict=True))
        return Report(**counts, conflicts=conflicts)


class EmulatedKernel:
    """One entry of a module.

    Attributes:
        name: Its name in the PTX.
        parameter_sizes: Bytes of each parameter, in order.
    """

    def __init__(self, module: Emulated, name: str, entry: Entry) -> None:
        self._module = module
        self._entry = entry
        self.name = name
        self.parameter_sizes = tuple(p.nbytes for p in entry.parameters)

    def __call__(
        self,
        *,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        memory: Sequence[NDArray[Any]] = (),
        dynamic_shared_bytes: int = 0,
        order: Order = "forward",
        asynchronous: Literal["late", "early"] = "late",
    ) -> Report:
        """Run the grid.

        Args:
            grid: Blocks along x, y, z.
            block: Threads along x, y, z.
            arguments: One a parameter of the PTX: integers (pointers, or of the parameter's
                width), NumPy scalars, structured scalars and bytes. Which type a float of
                Python means is not known; say it.
            memory: The arrays that global accesses may touch. One that is not writeable must not
                be stored to. Elements between those of a strided array count as its own.
            dynamic_shared_bytes: Shared memory besides what the PTX declares.
            order: Which threads, and blocks, go first; an integer seeds a random order, which
                changes from turn to turn; it counts modulo 2^31 - 2.
            asynchronous: When copies in the background happen: at their wait, or at once.

        Raises:
            Finding: The kernel did what it must not.
        """
        grid, block = _three(grid), _three(block)
        if wrong := self._beyond(grid, block, dynamic_shared_bytes):
            raise Finding(Kind.LAUNCH, self.name, (0, 0, 0), (0, 0, 0), 0, "", wrong)
        regions = np.array([_region(array) for array in memory], np.uint64).reshape(-1, 3)
        parameters = ctypes.create_string_buffer(
            self._pack(arguments), max(self._entry.parameter_bytes, 1)
        )
        launch = _Launch(
            self._entry.number,
            {"forward": 0, "backward": 1}[order] if isinstance(order, str) else order % _SEEDS + 2,
            {"late": 1, "early": 0}[asynchronous],
            dynamic_shared_bytes,
            _Triple(*grid),
            _Triple(*block),
            ctypes.addressof(parameters),
            regions.ctypes.data,
            len(regions),
        )
        return self._module._run(launch, self.name)

    def _beyond(self, grid: Sequence[int], block: Sequence[int], dynamic_shared: int) -> str:
        """What of a launch no device takes; empty if it is fine."""
        for axis, blocks, most in zip("xyz", grid, _MOST_BLOCKS, strict=True):
            if not 1 <= blocks <= most:
                return f"{blocks} blocks along {axis}; a grid has 1 to {most}"
        for axis, threads, most in zip("xyz", block, _MOST_THREADS, strict=True):
            if not 1 <= threads <= most:
                return f"{threads} threads along {axis}; a block has 1 to {most}"
        most, reason = _MOST_THREADS_OF_A_BLOCK, "a block has at most"
        if self._entry.most_threads is not None and self._entry.most_threads < most:
            most, reason = self._entry.most_threads, ".maxntid allows"
        if math.prod(block) > most:
            return f"{math.prod(block)} threads in a block; {reason} {most}"
        shared = self._entry.shared_bytes + dynamic_shared
        if dynamic_shared < 0 or shared > _MOST_SHARED_BYTES:
            return f"{shared} bytes of shared memory; there are {_MOST_SHARED_BYTES}"
        if self._entry.parameter_bytes > _MOST_PARAMETER_BYTES:
            given = self._entry.parameter_bytes
            return f"{given} bytes of parameters; there are {_MOST_PARAMETER_BYTES}"
        return ""

    def _pack(self, arguments: Sequence[Any]) -> bytes:
        """Arguments as the parameter list lays them out."""
        wanted = self._entry.parameters
        if len(arguments) != len(wanted):
            raise TypeError(f"{self.name} has {len(wanted)} parameters, not {len(arguments)}")
        packed = bytearray(self._entry.parameter_bytes)
        for number, (argument, parameter) in enumerate(zip(arguments, wanted, strict=True)):
            given = _bytes_of(argument, parameter.nbytes)
            if given is None or len(given) != parameter.nbytes:
                what = f"{len(given)} bytes" if given is not None else repr(argument)
                raise TypeError(
                    f"argument {number} of {self.name} has {parameter.nbytes} bytes; got {what}"
                )
            packed[parameter.offset : parameter.offset + parameter.nbytes] = given
        return bytes(packed)


def _bytes_of(argument: Any, nbytes: int) -> bytes | None:
    """The bytes of an argument; None for what has no width of its own."""
    if isinstance(argument, bytes | bytearray | memoryview):
        return bytes(argument)
    if isinstance(argument, np.generic | np.ndarray):
        return argument.tobytes()
    if isinstance(argument, int):
        return argument.to_bytes(nbytes, "little", signed=argument < 0)
    return None


def _region(array: NDArray[Any]) -> tuple[int, int, int]:
    """Where an array lies, how many bytes, and whether it may be written."""
    low, high = np.lib.array_utils.byte_bounds(array)
    return low, high - low, int(array.flags.writeable)


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1)[:3]
    return int(x), int(y), int(z)
