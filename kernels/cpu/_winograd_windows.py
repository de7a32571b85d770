"""Where the windows of a Winograd convolution lie: fprop and dgrad, dilation, depth.

A dilated filter sees ``dilation`` interleaved images along an axis, each as an ordinary one:
windows are counted through all of them, one such *phase* after another, and their pixels lie a
dilation apart. Along depth there is no transform: its taps are more terms of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convforge.contract import Machine
from convforge.kernels.cpu._inside import Outside, around
from convforge.kernels.cpu._winograd_minimal import TAPS, Interleaved, Minimal
from convforge.problem import ConvProblem, Direction

Pair = tuple[int, int]
_LINE_BYTES = 64
WINDOWS_AHEAD = 2
"""Windows between what is computed and what memory is asked for: one is over before it answers."""
_FAR = 2
"""Images of so many L2 and more are asked for; of nearer ones it costs more than it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """All windows of a problem; what is read is the source, what is written the target.

    Attributes:
        images: Of a batch. inputs, outputs: Channels of a group, summed and written.
        depths: Of the source. target_depths: Of the target. taps: Of the filter along depth.
        source, target: Extents of a plane. pad: Rows and columns before it. pad_depth: The same
            along depth. around: What stands outside the source; none means zeros.
        step: Between pixels of a window, down and across: the dilation.
        phases: Interleaved images. run: Windows of one of them, down and across.
    """

    images: int
    inputs: int
    outputs: int
    depths: int
    target_depths: int
    taps: int
    source: Pair
    target: Pair
    pad: Pair
    pad_depth: int
    around: tuple[Outside, ...] = ()
    step: Pair
    phases: Pair
    run: Pair

    @property
    def grid(self) -> Pair:
        """Windows of a plane, down and across."""
        return self.phases[0] * self.run[0], self.phases[1] * self.run[1]

    @property
    def planes(self) -> int:
        """Windows of one depth of all images."""
        return self.images * prod(self.grid)


def windows_of(problem: ConvProblem, minimal: Minimal | Interleaved) -> Windows:
    """Those of fprop and wgrad, or of dgrad, which reads dy beyond its border."""
    fprop = problem.direction is not Direction.DGRAD
    source, target = (problem.size, problem.out) if fprop else (problem.out, problem.size)
    if isinstance(minimal, Interleaved):
        pads = [minimal.lead(a.pad_lo) for a in problem.axes]
    else:
        pads = [a.pad_lo if fprop else a.extent - 1 - a.pad_lo for a in problem.axes]
    down, across = (a.dilation for a in problem.axes[-2:])
    height, width = target[-2:]
    return Windows(
        images=problem.N,
        inputs=problem.group_C if fprop else problem.group_K,
        outputs=problem.group_K if fprop else problem.group_C,
        depths=prod(source[:-2]),
        target_depths=prod(target[:-2]),
        taps=prod(problem.filter[:-2]),
        source=(source[-2], source[-1]),
        target=(height, width),
        pad=(pads[-2], pads[-1]),
        pad_depth=sum(pads[:-2]),
        around=around(problem) if fprop else (),
        step=(down, across),
        phases=(min(down, height), min(across, width)),
        run=(-(-height // (down * minimal.m)), -(-width // (across * minimal.m))),
    )


def places(minimal: Minimal | Interleaved) -> int:
    """Products of a window."""
    return minimal.side**2


def is_plane_of_threes(filter_size: tuple[int, ...]) -> bool:
    """Whether a filter is 3x3 in the plane, of any depth."""
    return len(filter_size) in (2, 3) and filter_size[-2:] == (TAPS, TAPS)


def apart(nbytes: int) -> int:
    """At least so many bytes, an odd number of lines: neighbours fall on different cache sets."""
    return (nbytes + _LINE_BYTES - 1) // (2 * _LINE_BYTES) * (2 * _LINE_BYTES) + _LINE_BYTES


def is_far(nbytes: int, machine: Machine) -> bool:
    """Whether images of so many bytes come from memory, which should be asked ahead of time."""
    return nbytes > _FAR * machine.l2_bytes
