"""ncnn: weights prepared when a net is loaded; one image at a time, 16 channels together.

Images enter and leave in the packed form that its layers hand to each other, so nothing but the
layer is timed. Reduced precision is switched off; Winograd is on, as by default.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convforge.bench.peers import parts
from convforge.bench.rows import Array, Call, Row, Unable, copies_past_cache, taking_turns
from convforge.problem import ConvProblem, Order, PoolKind, PoolProblem, Problem
from convforge.testing.data import Operands

_REDUCED = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
)
_MOST_COPIES = 512
"""Nets that are worth loading for cold weights."""
_PACKS = (16, 8, 4, 1)
_PARAMS_VERSION = 7767517


class NCNN:
    """Nets of one layer in two dimensions."""

    name = "ncnn"

    def __init__(self) -> None:
        import ncnn

        self._ncnn = ncnn
        self._threads = 1

    def set_threads(self, count: int) -> None:
        """Nets loaded from now on have this many threads."""
        self._threads = count

    def quiet(self) -> AbstractContextManager[Any]:
        """Nothing to switch off."""
        return nullcontext()

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Cold weights are copies of the net in turns: all share the threads of OpenMP."""
        parts.require_inference(problem, self.name)
        if problem.rank != 2:
            raise Unable("only images are compared with ncnn")
        if isinstance(problem, PoolProblem):
            layer, weights = _pool(problem), b""
        else:
            layer = _convolution(problem)
            # A flag before the weights says that they are float32.
            weights = struct.pack("<I", 0) + parts.filters_first(problem, data).tobytes()
        images = [self._packed(x) for x in parts.images_first(problem, data)]
        read = partial(self._read, order=parts.result_order(problem))
        made = {Row.WARM: Call(partial(self._run, self._net(layer, weights), images), read)}
        copies = copies_past_cache(len(weights))
        if Row.COLD in set(rows) and weights and copies <= _MOST_COPIES:
            nets = [self._net(layer, weights) for _ in range(copies)]
            calls = [partial(self._run, net, images) for net in nets]
            made[Row.COLD] = Call(taking_turns(calls), read)
        return made

    def _net(self, layer: str, weights: bytes) -> Any:
        net = self._ncnn.Net()
        net.opt.num_threads = self._threads
        for name in _REDUCED:
            setattr(net.opt, name, False)
        lines = [f"{_PARAMS_VERSION}", "2 2", "Input images 0 1 x", layer]
        if net.load_param_mem("\n".join(lines) + "\n"):
            raise Unable(f"ncnn cannot read {layer}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.bin"
            path.write_bytes(weights)
            if net.load_model(str(path)):
                raise Unable(f"ncnn cannot load the weights of {layer}")
        return net

    def _packed(self, image: Array) -> Any:
        pack = next(n for n in _PACKS if image.shape[0] % n == 0)
        plain = self._ncnn.Mat(image)
        return self._ncnn.convert_packing(plain.clone(), pack, self._ncnn.Option())

    def _run(self, net: Any, images: list[Any]) -> list[Any]:
        results = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("x", image)
            # Type 1: as the layer left it.
            results.append(extractor.extract("y", 1)[1])
        return results

    def _read(self, results: list[Any], order: Order) -> Array:
        plain = self._ncnn.Option()
        unpacked = [self._ncnn.convert_packing(one, 1, plain) for one in results]
        return parts.in_order(np.stack([_three_axes(np.array(one)) for one in unpacked]), order)


def _three_axes(image: Array) -> Array:
    """Global pooling leaves channels alone."""
    return image if image.ndim == 3 else image.reshape(-1, 1, 1)


def _layer(kind: str, options: dict[int, int]) -> str:
    return f"{kind} layer 1 1 x y " + " ".join(f"{key}={value}" for key, value in options.items())


def _convolution(problem: ConvProblem) -> str:
    vertical, horizontal = problem.axes
    options = {
        0: problem.K,
        1: horizontal.filter,
        11: vertical.filter,
        2: horizontal.dilation,
        12: vertical.dilation,
        3: horizontal.stride,
        13: vertical.stride,
        4: horizontal.pad_lo,
        15: horizontal.pad_hi,
        14: vertical.pad_lo,
        16: vertical.pad_hi,
        5: 0,
        6: problem.K * problem.group_C * problem.taps,
    }
    if problem.groups == 1:
        return _layer("Convolution", options)
    return _layer("ConvolutionDepthWise", options | {7: problem.groups})


def _pool(problem: PoolProblem) -> str:
    if problem.divisor is not None:
        raise Unable("ncnn has no divisor of one's own")
    if any(axis.dilation != 1 for axis in problem.axes):
        raise Unable("ncnn has no dilated pooling")
    kind = 0 if problem.kind is PoolKind.MAX else 1
    if parts.covers_image(problem):
        return _layer("Pooling", {0: kind, 4: 1})
    vertical, horizontal = problem.axes
    full, valid = 0, 1
    return _layer(
        "Pooling",
        {
            0: kind,
            1: horizontal.filter,
            11: vertical.filter,
            2: horizontal.stride,
            12: vertical.stride,
            3: horizontal.pad_lo,
            14: horizontal.pad_hi,
            13: vertical.pad_lo,
            15: vertical.pad_hi,
            5: full if problem.ceil_mode else valid,
            6: int(problem.count_include_pad),
        },
    )
