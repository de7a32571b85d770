"""ONNX Runtime: weights prepared when a session is made, NCHW."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from convforge.bench.peers import parts
from convforge.bench.rows import Array, Call, Row, Unable, copies_past_cache
from convforge.problem import ConvProblem, Order, PoolKind, PoolProblem, Problem
from convforge.testing.data import Operands

MOST_NODES = 64
MOST_FLOPS = 8e9
"""A graph of cold layers has no more nodes, and computes no more, than this."""


class OnnxRuntime:
    """Sessions of one layer; of many layers with weights of their own for cold weights."""

    name = "onnxruntime"

    def __init__(self) -> None:
        self._threads = 1

    def set_threads(self, count: int) -> None:
        """Sessions made from now on have this many threads."""
        self._threads = count

    def quiet(self) -> AbstractContextManager[Any]:
        """Nothing to switch off."""
        return nullcontext()

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Cold weights are one graph of many layers: many sessions would fight over cores."""
        parts.require_inference(problem, self.name)
        read = partial(_first, order=parts.result_order(problem))
        x = parts.images_first(problem, data)
        if isinstance(problem, PoolProblem):
            return {Row.WARM: Call(self._session(problem, x, [_pool(problem)], {}), read)}
        w = parts.filters_first(problem, data)
        made = {Row.WARM: Call(self._convolutions(problem, x, w, 1), read)}
        nodes = copies_past_cache(w.nbytes)
        affordable = nodes <= MOST_NODES and nodes * problem.flops <= MOST_FLOPS
        if Row.COLD in set(rows) and affordable:
            made[Row.COLD] = Call(self._convolutions(problem, x, w, nodes), read, layers=nodes)
        return made

    def _convolutions(
        self, problem: ConvProblem, x: Array, w: Array, nodes: int
    ) -> Callable[[], Any]:
        # Different numbers in each, or equal ones might be merged and no longer be cold.
        weights = {f"w{i}": np.roll(w, i) for i in range(nodes)}
        made = [_convolution(problem, i) for i in range(nodes)]
        return self._session(problem, x, made, weights)

    def _session(
        self, problem: Problem, x: Array, nodes: list[Any], weights: dict[str, Array]
    ) -> Callable[[], Any]:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        channels = problem.C if isinstance(problem, PoolProblem) else problem.K
        y_shape = Order.CHANNELS_FIRST.arrange(problem.N, channels, problem.out)
        graph = helper.make_graph(
            nodes,
            "layers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [
                helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, y_shape)
                for node in nodes
            ],
            [numpy_helper.from_array(values, name) for name, values in weights.items()],
        )
        # Opset 19 gave AveragePool dilations and mended its rounding up.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return partial(session.run, None, {"x": x})


def _convolution(problem: ConvProblem, i: int) -> Any:
    from onnx import helper

    stride, padding, dilation = parts.geometry(problem)
    return helper.make_node(
        "Conv",
        ["x", f"w{i}"],
        [f"y{i}"],
        strides=stride,
        pads=padding + parts.pads_after(problem),
        dilations=dilation,
        group=problem.groups,
    )


def _pool(problem: PoolProblem) -> Any:
    from onnx import helper

    if problem.divisor is not None:
        raise Unable("a divisor of one's own is a second operator there")
    if problem.kind is PoolKind.AVG and parts.covers_image(problem):
        return helper.make_node("GlobalAveragePool", ["x"], ["y"])
    stride, padding, dilation = parts.geometry(problem)
    options: dict[str, Any] = {
        "kernel_shape": list(problem.filter),
        "strides": stride,
        "pads": padding + parts.pads_after(problem),
        "ceil_mode": int(problem.ceil_mode),
        "dilations": dilation,
    }
    if problem.kind is PoolKind.AVG:
        options["count_include_pad"] = int(problem.count_include_pad)
    name = "MaxPool" if problem.kind is PoolKind.MAX else "AveragePool"
    return helper.make_node(name, ["x"], ["y"], **options)


def _first(result: list[Array], order: Order) -> Array:
    return parts.in_order(result[0], order)
