"""Other libraries as runners, each used the way it is fastest, each optional.

Adapters are small: they build one layer, say what they cannot run (:class:`Unable`), and hand out
calls. Whoever times them checks their results first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable

from convforge.bench.peers.mnn import MNN
from convforge.bench.peers.ncnn import NCNN
from convforge.bench.peers.onnxruntime import OnnxRuntime
from convforge.bench.peers.openvino import OpenVINO
from convforge.bench.peers.torch import Torch, TorchLinear
from convforge.bench.rows import Runner
from convforge.problem import Order

__all__ = [
    "MNN",
    "NCNN",
    "PEERS",
    "OnnxRuntime",
    "OpenVINO",
    "Torch",
    "TorchLinear",
    "family",
    "load",
]

PEERS: dict[str, Callable[[], Runner]] = {
    "torch": Torch,
    "torch-nhwc": lambda: Torch(Order.CHANNELS_LAST),
    "torch-nchw": lambda: Torch(Order.CHANNELS_FIRST),
    "torch-linear": TorchLinear,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
    "ncnn": NCNN,
    "mnn": MNN,
}
_MODULES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "mnn": ("MNN",),
}


def load(names: Iterable[str]) -> tuple[list[Runner], list[str]]:
    """The peers with these names that are installed, and a sentence for each that is not.

    Raises:
        ValueError: A name that is not a peer's.
    """
    runners: list[Runner] = []
    missing: list[str] = []
    for name in names:
        if name not in PEERS:
            raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS)}")
        library = family(name)
        needed = [n for n in _MODULES[library] if importlib.util.find_spec(n) is None]
        if needed:
            said = f"{library} was not measured: {' and '.join(needed)} not installed"
            missing += [said] if said not in missing else []
        else:
            runners.append(PEERS[name]())
    return runners, missing


def family(name: str) -> str:
    """The library behind a peer: ``torch-nchw`` is torch."""
    return name.partition("-")[0]
