"""PyTorch: plain weights, either memory order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from convforge.bench.peers import parts
from convforge.bench.rows import Array, Call, Row, Unable, copies_past_cache, taking_turns
from convforge.problem import ConvProblem, Direction, DType, Order, PoolKind, PoolProblem, Problem
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing.data import Operands


class Torch:
    """PyTorch in one memory order: NHWC is its ``channels_last``.

    Args:
        order: Of its images and weights; that of the problem if None.
    """

    def __init__(self, order: Order | None = None) -> None:
        import torch

        self._torch = torch
        self._order = order
        self.name = "torch" if order is None else f"torch-{order.image(2)}"

    def set_threads(self, count: int) -> None:
        """Limit the threads of what is called from now on."""
        self._torch.set_num_threads(count)

    def quiet(self) -> AbstractContextManager[Any]:
        """Inference mode: no autograd, not even version counters."""
        mode: AbstractContextManager[Any] = self._torch.inference_mode()
        return mode

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Its only way to convolve has plain weights, warm or cold."""
        parts.refuse_more_operators(problem)
        if not problem.x.dtype.eps:
            raise Unable("integers are not convolved there")
        if isinstance(problem, PoolProblem):
            parts.refuse_uneven(problem)
            return {Row.WARM: Call(self._pool(problem, data), self._reader(problem.x.order))}
        writes_w = problem.direction is Direction.WGRAD
        read = self._reader(problem.w.order if writes_w else problem.x.order)
        if problem.direction is Direction.FPROP:
            run = self._forward(problem, data.arrays[0])
        else:
            parts.refuse_uneven(problem)
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
        """A copy as ``(N, C, H, W)`` in this runner's memory order."""
        first, last = Order.CHANNELS_FIRST, Order.CHANNELS_LAST
        wanted = self._order or order
        if wanted is not order:
            array = np.moveaxis(array, *((1, -1) if wanted is last else (-1, 1)))
        array = np.array(array, order="C")
        if array.dtype.name == "bfloat16":
            tensor = self._torch.from_numpy(array.view(np.int16)).view(self._torch.bfloat16)
        else:
            tensor = self._torch.from_numpy(array)
        return tensor if wanted is first else tensor.movedim(-1, 1)

    def _reader(self, order: Order) -> Callable[[Any], Array]:
        def read(result: Any) -> Array:
            parted = result if isinstance(result, tuple) else (result,)
            tensor = next(part for part in parted if part is not None)
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
        stride, padding, dilation = parts.geometry(problem)
        groups = problem.groups
        after = parts.pads_after(problem)
        if padding == after:
            return lambda w: convolve(images, w, None, stride, padding, dilation, groups)
        if set(stride) != {1}:
            raise Unable("uneven padding is a second operator there")
        # As causal convolutions are written: the larger padding at both ends, and a view of it.
        larger = [max(pads) for pads in zip(padding, after, strict=True)]
        spatial = (
            slice(most - lo, most - lo + size)
            for most, lo, size in zip(larger, padding, problem.out, strict=True)
        )
        kept = (slice(None), slice(None), *spatial)
        return lambda w: convolve(images, w, None, stride, larger, dilation, groups)[kept]

    def _backward(self, problem: ConvProblem, data: Operands) -> Callable[[Any], Any]:
        backward = self._torch.ops.aten.convolution_backward
        if problem.direction is Direction.WGRAD:
            x, dy = data.arrays
        else:
            dy = data.arrays[0]
            x = np.zeros(problem.x_shape, dy.dtype)
        x, dy = self._tensor(x, problem.x.order), self._tensor(dy, problem.y.order)
        stride, padding, dilation = parts.geometry(problem)
        output_padding, groups = [0] * problem.rank, problem.groups
        wants_w = problem.direction is Direction.WGRAD
        wanted = [not wants_w, wants_w, False]
        return lambda w: backward(
            dy, x, w, None, stride, padding, dilation, False, output_padding, groups, wanted
        )

    def _pool(self, problem: PoolProblem, data: Operands) -> Callable[[], Any]:
        if problem.direction is Direction.DGRAD:
            return self._pool_backward(problem, data)
        pool = getattr(self._torch.nn.functional, f"{problem.kind}_pool{problem.rank}d")
        stride, padding, dilation = parts.geometry(problem)
        options: dict[str, Any] = {"ceil_mode": problem.ceil_mode}
        if problem.kind is PoolKind.MAX:
            options |= {"dilation": dilation, "return_indices": problem.indices}
        elif problem.rank == 1:
            if problem.divisor is not None:
                raise Unable("a divisor of one's own is missing from its avg_pool1d")
            options["count_include_pad"] = problem.count_include_pad
        else:
            options["count_include_pad"] = problem.count_include_pad
            options["divisor_override"] = problem.divisor
        x = self._tensor(data.arrays[0], problem.x.order)
        return partial(pool, x, problem.filter, stride, padding, **options)

    def _pool_backward(self, problem: PoolProblem, data: Operands) -> Callable[[], Any]:
        if problem.rank != 2:
            raise Unable("only the backward pass of pooling images is compared with torch")
        ops = self._torch.ops.aten
        stride, padding, dilation = parts.geometry(problem)
        dy = self._tensor(data.arrays[0], problem.x.order)
        # It is told the shape of x by an array; what it holds does not matter.
        x = self._tensor(np.zeros(problem.x_shape, data.arrays[0].dtype), problem.x.order)
        window, ceil = list(problem.filter), problem.ceil_mode
        if problem.kind is PoolKind.MAX:
            at = self._tensor(data.arrays[1], problem.x.order)
            return partial(
                ops.max_pool2d_with_indices_backward,
                *(dy, x, window, stride, padding, dilation, ceil, at),
            )
        padded, divisor = problem.count_include_pad, problem.divisor
        return partial(
            ops.avg_pool2d_backward, dy, x, window, stride, padding, ceil, padded, divisor
        )


class TorchLinear(Torch):
    """PyTorch's ``linear`` for a 1x1 convolution of NHWC images, whose rows are pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "torch-linear"

    def calls(self, problem: Problem, data: Operands, rows: Iterable[Row]) -> dict[Row, Call]:
        """Rows of one matrix times another."""
        parts.refuse_more_operators(problem)
        plain = (
            isinstance(problem, ConvProblem)
            and problem.direction is Direction.FPROP
            and problem.groups == 1
            and problem.x.order is problem.w.order is problem.y.order is Order.CHANNELS_LAST
            and all((a.filter, a.stride, a.pad_lo, a.pad_hi) == (1, 1, 0, 0) for a in problem.axes)
        )
        if not plain or problem.x.dtype is not DType.F32:
            raise Unable("only 1x1 float32 convolutions of NHWC images are rows times a matrix")
        x, w = (
            self._torch.from_numpy(array.reshape(-1, problem.C).copy()) for array in data.arrays
        )
        multiply = self._torch.nn.functional.linear

        def read(result: Any) -> Array:
            y: Array = result.numpy()
            return y.reshape(problem.y_shape)

        made = {Row.WARM: Call(partial(multiply, x, w), read)}
        if Row.COLD in set(rows):
            copies = [w.clone() for _ in range(copies_past_cache(data.arrays[1].nbytes))]
            calls = [partial(multiply, x, copy) for copy in copies]
            made[Row.COLD] = Call(taking_turns(calls), read)
        return made
