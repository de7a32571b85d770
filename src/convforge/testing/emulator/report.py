"""What a launch found: an exception where a kernel is wrong, counts where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What may be wrong. In step with ``Finding`` of cpp/emulator.h, from 1."""

    SHARED_ACCESS = "shared memory"
    GLOBAL_ACCESS = "global memory"
    LOCAL_ACCESS = "local memory"
    READ_ONLY = "read-only memory"
    DIVERGENCE = "divergence"
    DEADLOCK = "deadlock"
    COPY = "asynchronous copy"
    MBARRIER = "mbarrier"
    TENSOR = "tensor instruction"
    ENDLESS = "endless loop"
    ASSERTION = "assertion"
    LAUNCH = "launch"


class Finding(AssertionError):
    """A kernel did what it must not.

    Attributes:
        kind: What sort of thing.
        kernel: The entry's name.
        block: x, y, z of the block.
        thread: x, y, z of the thread in it.
        line: Of the PTX, from 1; 0 where no instruction is to blame.
        instruction: That line.
        detail: What was wrong, in words.
    """

    def __init__(
        self,
        kind: Kind,
        kernel: str,
        block: tuple[int, int, int],
        thread: tuple[int, int, int],
        line: int,
        instruction: str,
        detail: str,
    ) -> None:
        self.kind = kind
        self.kernel = kernel
        self.block = block
        self.thread = thread
        self.line = line
        self.instruction = instruction
        self.detail = detail
        where = f"PTX line {line}: {instruction}\n" if line else ""
        super().__init__(f"{kernel}, block {block}, thread {thread}: {kind.value}\n{where}{detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a launch did, summed over its blocks.

    Requests are instructions of a warp. A request of shared memory is served in passes over its 32
    banks; the extra ones are conflicts. One of global memory touches sectors of 32 bytes.

    Attributes:
        block_barriers: Barriers of a block that were completed.
        warp_collectives: Meetings of lanes, counted by lane.
        matrix_multiplications: ``mma`` by warp and ``wgmma`` by warpgroup.
        asynchronous_copies: ``cp.async`` by thread, bulk and tensor copies.
        shared_requests: Of ``ld``, ``st``, ``atom`` and ``cp.async`` into shared memory.
        shared_passes: That these took.
        shared_extra_passes: How many of them were conflicts.
        ldmatrix_phases: Eight rows that ``ldmatrix`` and ``stmatrix`` move at a time.
        ldmatrix_extra: Passes that their conflicts added.
        global_requests: Of global memory.
        global_sectors: That these touched.
        conflicts: Extra passes by PTX line.
    """

    block_barriers: int
    warp_collectives: int
    matrix_multiplications: int
    asynchronous_copies: int
    shared_requests: int
    shared_passes: int
    shared_extra_passes: int
    ldmatrix_phases: int
    ldmatrix_extra: int
    global_requests: int
    global_sectors: int
    conflicts: Mapping[int, int]
