"""Everybody on AVX2, whatever the processor has: by variables that libraries read when they start.

convforge follows the target of Numba's code generator, PyTorch and OpenVINO that of oneDNN.
onnxruntime, ncnn and MNN obey no variable and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from convforge.bench.groups import Part
from convforge.bench.peers import family
from convforge.bench.rows import Row

ENVIRONMENT = {
    # The name alone keeps the features of the host.
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2,+bmi,+bmi2,+f16c,+popcnt,+lzcnt,+movbe",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""What a process must have been started with."""
LIBRARIES = ("torch", "openvino")
"""Those that obey it."""
_COLD = ("conv3x3",)
"""Groups that promise something for cold weights."""


def parts(groups: Mapping[str, Callable[[], tuple[Part, ...]]]) -> tuple[Part, ...]:
    """Of each group the layers that it also measures in batches, one image and many."""
    return tuple(part for name, group in groups.items() for part in _limited(name, group()))


def _limited(group: str, made: tuple[Part, ...]) -> tuple[Part, Part]:
    one, many = (part for part in made if part.name in ("batch1", "batch16"))
    few = {layer.label for layer in many.layers}
    one = replace(one, layers=tuple(layer for layer in one.layers if layer.label in few))
    rows = (Row.WARM, Row.COLD) if group in _COLD else (Row.WARM,)
    first, second = (
        replace(
            part,
            name=f"{group}_{part.name}",
            title=f"{group}, {part.title}",
            rows=allowed,
            peers=tuple(peer for peer in part.peers if family(peer) in LIBRARIES),
        )
        for part, allowed in ((one, rows), (many, (Row.WARM,)))
    )
    return first, second
