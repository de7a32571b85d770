"""PyTorch and ONNX Runtime as runners, each used the way it is fastest."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from convforge.bench.ours import channels_first
from convforge.bench.rows import (
    Array,
    Call,
    Row,
    Runner,
    Unable,
    copies_past_cache,
    taking_turns,
)
from convforge.problem import (
    ConvProblem,
    Direction,
    DType,
    Order,
    PadMode,
    PoolKind,
    PoolProblem,
    Problem,
)
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing.data import Operands


def load(names: Iterable[str]) -> tuple[list[Runner], list[str]]:
    """The peers with these names that are installed, and a sentence for each that is not.

    Raises:
        ValueError: A name that is not a peer's.
    """
    runners: list[Runner] = []
    missing = []
    for name in names:
        if name not in PEERS:
            raise ValueError(f"no peer {name!r}; there are {', '.join(PEERS)}")
        needed = [n for n in _MODULES[name] if importlib.util.find_spec(n) is None]
        if needed:
            missing.append(f"{name} was not measured: {' and '.join(needed)} not installed")
        else:
            runners.append(PEERS[name]())
    return runners, missing


class Torch:
    """PyTorch, in the memory order of the problem: NHWC is its ``channels_last``."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        self._torch = torch

    def set_threads(self, count: int) -> None:
        """Limit the threads of what is called from now on."""
        self._torch.set_num_threads(count)

    def quiet(self) -> AbstractContextManager[Any]:
        """Inference mode: no autograd, not even version counters."""
        mode: AbstractContextManager[Any] = self._torch.inference_mode()
        return mode

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Its only way to convolve has plain weights, warm or cold."""
        _refuse_uneven(problem)
        if not problem.x.dtype.eps:
            raise Unable("integers are not convolved there")
        if isinstance(problem, PoolProblem):
            return {Row.WARM: Call(self._pool(problem, data), self._reader(problem.x.order))}
        writes_w = problem.direction is Direction.WGRAD
        read = self._reader(problem.w.order if writes_w else problem.x.order)
        if problem.direction is Direction.FPROP:
            run = self._forward(problem, data.arrays[0])
        else:
            run = self._backward(problem, data)
        # wgrad is told the shape of w by an array; what it holds does not matter.
        plain = np.zeros(problem.w_shape, np.float32) if writes_w else data.arrays[1]
        w = self._tensor(plain.astype(data.arrays[0].dtype), problem.w.order)
        made = {Row.WARM: Call(partial(run, w), read)}
        if Row.COLD in set(rows) and not writes_w:
            copies = [w.clone() for _ in range(copies_past_cache(plain.nbytes))]
            made[Row.COLD] = Call(taking_turns([partial(run, copy) for copy in copies]), read)
        return made

    def _tensor(self, array: Array, order: Order) -> Any:
        """A copy as ``(N, C, H, W)`` in the memory order of the array."""
        if array.dtype.name == "bfloat16":
            bits = self._torch.from_numpy(array.view(np.int16).copy())
            tensor = bits.view(self._torch.bfloat16)
        else:
            tensor = self._torch.from_numpy(array.copy())
        return tensor if order is Order.CHANNELS_FIRST else tensor.movedim(-1, 1)

    def _reader(self, order: Order) -> Callable[[Any], Array]:
        def read(result: Any) -> Array:
            parts = result if isinstance(result, tuple) else (result,)
            tensor = next(part for part in parts if part is not None)
            if order is Order.CHANNELS_LAST:
                tensor = tensor.movedim(1, -1)
            tensor = tensor.contiguous()
            if tensor.dtype is self._torch.bfloat16:
                bits: Array = tensor.view(self._torch.int16).numpy()
                return bits.view(numpy_dtype(DType.BF16))
            array: Array = tensor.numpy()
            return array

        return read

    def _forward(self, problem: ConvProblem, x: Array) -> Callable[[Any], Any]:
        convolve = getattr(self._torch.nn.functional, f"conv{problem.rank}d")
        images = self._tensor(x, problem.x.order)
        stride, padding, dilation = _geometry(problem)
        groups = problem.groups
        return lambda w: convolve(images, w, None, stride, padding, dilation, groups)

    def _backward(self, problem: ConvProblem, data: Operands) -> Callable[[Any], Any]:
        backward = self._torch.ops.aten.convolution_backward
        if problem.direction is Direction.WGRAD:
            x, dy = data.arrays
        else:
            dy = data.arrays[0]
            x = np.zeros(problem.x_shape, dy.dtype)
        x, dy = self._tensor(x, problem.x.order), self._tensor(dy, problem.y.order)
        stride, padding, dilation = _geometry(problem)
        output_padding, groups = [0] * problem.rank, problem.groups
        wants_w = problem.direction is Direction.WGRAD
        wanted = [not wants_w, wants_w, False]
        return lambda w: backward(
            dy, x, w, None, stride, padding, dilation, False, output_padding, groups, wanted
        )

    def _pool(self, problem: PoolProblem, data: Operands) -> Callable[[], Any]:
        if problem.direction is not Direction.FPROP:
            raise Unable("the backward pass of pooling is not compared with torch")
        pool = getattr(self._torch.nn.functional, f"{problem.kind}_pool{problem.rank}d")
        stride, padding, dilation = _geometry(problem)
        options: dict[str, Any] = {"ceil_mode": problem.ceil_mode}
        if problem.kind is PoolKind.MAX:
            options |= {"dilation": dilation, "return_indices": problem.indices}
        else:
            options["count_include_pad"] = problem.count_include_pad
            options["divisor_override"] = problem.divisor
        x = self._tensor(data.arrays[0], problem.x.order)
        return partial(pool, x, problem.filter, stride, padding, **options)


class OnnxRuntime:
    """ONNX Runtime: weights prepared when a session is made, NCHW."""

    name = "onnxruntime"
    _most_nodes = 64
    _most_flops = 8e9

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
        if not isinstance(problem, ConvProblem) or problem.direction is not Direction.FPROP:
            raise Unable("only forward convolution is compared with onnxruntime")
        if problem.x.dtype is not DType.F32:
            raise Unable("only float32 is compared with onnxruntime")
        _refuse_uneven(problem)
        read = partial(self._to_numpy, order=problem.y.order)
        made = {Row.WARM: Call(self._session(problem, data, nodes=1), read)}
        nodes = copies_past_cache(data.arrays[1].nbytes)
        affordable = nodes <= self._most_nodes and nodes * problem.flops <= self._most_flops
        if Row.COLD in set(rows) and affordable:
            made[Row.COLD] = Call(self._session(problem, data, nodes), read, layers=nodes)
        return made

    def _to_numpy(self, result: list[Array], order: Order) -> Array:
        return result[0] if order is Order.CHANNELS_FIRST else np.moveaxis(result[0], 1, -1)

    def _session(self, problem: ConvProblem, data: Operands, nodes: int) -> Callable[[], Any]:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        x = np.ascontiguousarray(channels_first(data.arrays[0], problem.x.order))
        w = np.ascontiguousarray(channels_first(data.arrays[1], problem.w.order))
        y_shape = Order.CHANNELS_FIRST.arrange(problem.N, problem.K, problem.out)
        stride, padding, dilation = _geometry(problem)
        convolutions = [
            helper.make_node(
                "Conv",
                ["x", f"w{i}"],
                [f"y{i}"],
                strides=stride,
                pads=padding * 2,
                dilations=dilation,
                group=problem.groups,
            )
            for i in range(nodes)
        ]
        graph = helper.make_graph(
            convolutions,
            "layers",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [
                helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, y_shape)
                for i in range(nodes)
            ],
            # Different numbers in each, or equal ones might be merged and no longer be cold.
            [numpy_helper.from_array(np.roll(w, i), f"w{i}") for i in range(nodes)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return partial(session.run, None, {"x": x})


PEERS: dict[str, Callable[[], Runner]] = {"torch": Torch, "onnxruntime": OnnxRuntime}
_MODULES = {"torch": ("torch",), "onnxruntime": ("onnxruntime", "onnx")}


def _geometry(problem: Problem) -> tuple[list[int], list[int], list[int]]:
    """Stride, padding and dilation."""
    axes = problem.axes
    return (
        [axis.stride for axis in axes],
        [axis.pad_lo for axis in axes],
        [axis.dilation for axis in axes],
    )


def _refuse_uneven(problem: Problem) -> None:
    """Raise ``Unable`` for what peers would need a second operator for."""
    for axis in problem.axes:
        if axis.pad_lo != axis.pad_hi or axis.pad_mode is not PadMode.ZEROS:
            raise Unable("uneven or non-zero padding is a second operator there")
    if isinstance(problem, ConvProblem) and (problem.post or problem.accumulate):
        raise Unable("post ops are operators of their own there")
