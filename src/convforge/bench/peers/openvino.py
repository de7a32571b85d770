"""OpenVINO: weights prepared when a model is compiled, NCHW outside."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from convforge.bench.peers import parts
from convforge.bench.peers.onnxruntime import MOST_FLOPS, MOST_NODES
from convforge.bench.rows import Array, Call, Row, Unable, copies_past_cache
from convforge.problem import ConvProblem, Order, PoolKind, PoolProblem, Problem
from convforge.testing.data import Operands


class OpenVINO:
    """Compiled models of one layer; of many layers for cold weights.

    float32 is asked for by name: on processors with bfloat16 instructions it is not the default.
    """

    name = "openvino"

    def __init__(self) -> None:
        import openvino

        self._core = openvino.Core()
        self._threads = 1

    def set_threads(self, count: int) -> None:
        """Models compiled from now on have this many threads."""
        self._threads = count

    def quiet(self) -> AbstractContextManager[Any]:
        """Nothing to switch off."""
        return nullcontext()

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Cold weights are one graph of many layers, as for onnxruntime."""
        parts.require_inference(problem, self.name)
        read = partial(_first, order=parts.result_order(problem))
        x = parts.images_first(problem, data)
        if isinstance(problem, PoolProblem):
            return {Row.WARM: Call(self._request(problem, x, []), read)}
        w = parts.filters_first(problem, data)
        made = {Row.WARM: Call(self._request(problem, x, [w]), read)}
        nodes = copies_past_cache(w.nbytes)
        affordable = nodes <= MOST_NODES and nodes * problem.flops <= MOST_FLOPS
        if Row.COLD in set(rows) and affordable:
            # Different numbers in each, or equal ones might be merged and no longer be cold.
            weights = [np.roll(w, i) for i in range(nodes)]
            made[Row.COLD] = Call(self._request(problem, x, weights), read, layers=nodes)
        return made

    def _request(self, problem: Problem, x: Array, weights: list[Array]) -> Any:
        import openvino
        from openvino import opset13

        images = opset13.parameter(list(x.shape), np.float32)
        if isinstance(problem, PoolProblem):
            layers = [_pool(opset13, problem, images)]
        else:
            layers = [_convolution(opset13, problem, images, w) for w in weights]
        model = openvino.Model([opset13.result(y) for y in layers], [images], "layers")
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = self._core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

        def run(keep_alive: Array = x) -> Any:
            request.infer()
            return request

        return run


def _convolution(ops: Any, problem: ConvProblem, x: Any, w: Array) -> Any:
    stride, before, dilation = parts.geometry(problem)
    after = parts.pads_after(problem)
    if problem.groups == 1:
        return ops.convolution(x, ops.constant(w), stride, before, after, dilation)
    w = w.reshape(problem.groups, problem.group_K, *w.shape[1:])
    return ops.group_convolution(x, ops.constant(w), stride, before, after, dilation)


def _pool(ops: Any, problem: PoolProblem, x: Any) -> Any:
    if problem.divisor is not None:
        raise Unable("a divisor of one's own is a second operator there")
    stride, before, dilation = parts.geometry(problem)
    after, window = parts.pads_after(problem), list(problem.filter)
    rounding = "ceil_torch" if problem.ceil_mode else "floor"
    if problem.kind is PoolKind.MAX:
        if problem.ceil_mode:
            rounding = "ceil"  # opset 13 lacks the rule of PyTorch; checked like everything
        made = ops.max_pool(x, stride, dilation, before, after, window, rounding)
        return made.output(0)
    if problem.ceil_mode:
        raise Unable("average pooling that rounds up differs there")
    if set(dilation) != {1}:
        raise Unable("average pooling has no dilation there")
    leave_out = not problem.count_include_pad
    return ops.avg_pool(x, stride, before, after, window, leave_out, rounding)


def _first(request: Any, order: Order) -> Array:
    # A copy: the request writes there again.
    return parts.in_order(request.get_output_tensor(0).data.copy(), order)
