"""What a GPU's user would take otherwise: PyTorch with cuDNN, and CuPy with cuBLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from convforge.bench.device.measure import Contest, Rival
from convforge.bench.peers import parts
from convforge.bench.rows import Array, Unable
from convforge.problem import (
    ConvProblem,
    Direction,
    Order,
    PadMode,
    PoolKind,
    PoolProblem,
    Problem,
)
from convforge.testing.data import Operands, result


class Torch:
    """cuDNN through PyTorch: its own search for the fastest algorithm, and no TF32.

    Args:
        order: Memory order of everything; channels last is PyTorch's ``channels_last``.
        device: Where it runs.
    """

    def __init__(self, order: Order, device: str = "cuda") -> None:
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ImportError("PyTorch sees no GPU")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self._torch = torch
        self._device = device
        self._order = order
        self.name = f"torch {'nhwc' if order is Order.CHANNELS_LAST else 'nchw'}"

    def contest(self, problem: Problem, data: Operands, sets: int) -> Contest:
        """Calls on sets of tensors in this order."""
        parts.refuse_more_operators(problem)
        parts.refuse_uneven(problem)
        if self._order is Order.CHANNELS_LAST and problem.rank == 1:
            raise Unable("it has no channels_last for sequences")
        make = self._pool if isinstance(problem, PoolProblem) else self._conv
        return Contest([make(problem, data) for _ in range(sets)], partial(self._read, problem))

    def _tensor(self, array: Array, order: Order) -> Any:
        """A copy on the GPU, as ``(N, C, ...)`` in this order."""
        if order is Order.CHANNELS_LAST:
            array = np.moveaxis(array, -1, 1)
        tensor = self._torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
        return self._ordered(tensor)

    def _ordered(self, tensor: Any) -> Any:
        formats = {4: self._torch.channels_last, 5: self._torch.channels_last_3d}
        if self._order is Order.CHANNELS_LAST:
            return tensor.contiguous(memory_format=formats[tensor.ndim])
        return tensor.contiguous()

    def _conv(self, problem: Any, data: Operands) -> Callable[[], Any]:
        torch, rank = self._torch, problem.rank
        stride, padding, dilation = parts.geometry(problem)
        first, second = data.arrays
        if problem.direction is Direction.FPROP:
            return partial(
                getattr(torch.nn.functional, f"conv{rank}d"),
                self._tensor(first, problem.x.order),
                self._tensor(second, problem.w.order),
                None, stride, padding, dilation, problem.groups,
            )  # fmt: skip
        x_shape = problem.N, problem.C, *problem.size
        w_shape = problem.K, problem.group_C, *problem.filter
        # Only its shape is read.
        shaped = partial(torch.zeros, device=self._device, dtype=torch.from_numpy(first[:0]).dtype)
        if problem.direction is Direction.DGRAD:
            dy, w = self._tensor(first, problem.y.order), self._tensor(second, problem.w.order)
            x, mask = self._ordered(shaped(x_shape)), [True, False, False]
        else:
            x, dy = self._tensor(first, problem.x.order), self._tensor(second, problem.y.order)
            w, mask = self._ordered(shaped(w_shape)), [False, True, False]
        call = partial(
            torch.ops.aten.convolution_backward, dy, x, w, None, stride, padding, dilation,
            False, [0] * rank, problem.groups, mask,
        )  # fmt: skip
        return lambda: call()[mask.index(True)]

    def _pool(self, problem: Any, data: Operands) -> Callable[[], Any]:
        if problem.direction is not Direction.FPROP or problem.adaptive:
            raise Unable("poolings go forward here")
        functional = self._torch.nn.functional
        x = self._tensor(data.arrays[0], problem.x.order)
        stride, padding, dilation = parts.geometry(problem)
        if problem.kind is PoolKind.MAX:
            pool = getattr(functional, f"max_pool{problem.rank}d")
            return partial(pool, x, problem.filter, stride, padding, dilation, problem.ceil_mode)
        pool = getattr(functional, f"avg_pool{problem.rank}d")
        return partial(
            pool, x, problem.filter, stride, padding, problem.ceil_mode, problem.count_include_pad
        )

    def _read(self, problem: Problem, tensor: Any) -> Array:
        array: Array = tensor.cpu().numpy()
        last = result(problem)[1].order is Order.CHANNELS_LAST
        return np.ascontiguousarray(np.moveaxis(array, 1, -1) if last else array)


class CupyMatmul:
    """What one writes with CuPy alone: windows copied to rows, and one product by cuBLAS."""

    name = "cupy im2col"

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy

    def contest(self, problem: Problem, data: Operands, sets: int) -> Contest:
        """Calls on sets of arrays."""
        plain = isinstance(problem, ConvProblem) and problem.groups == 1 and not problem.post
        if (
            not plain
            or problem.direction is not Direction.FPROP
            or any(
                axis.dilation != 1 or axis.pad_mode is not PadMode.ZEROS for axis in problem.axes
            )
        ):
            raise Unable("only plain convolutions are short enough to write")
        assert isinstance(problem, ConvProblem)
        calls = [self._call(problem, data) for _ in range(sets)]
        return Contest(calls, self._cupy.asnumpy)

    def _call(self, problem: ConvProblem, data: Operands) -> Callable[[], Any]:
        cupy = self._cupy
        x, w = (cupy.asarray(array) for array in data.arrays)
        axes = tuple(range(2, problem.rank + 2))
        if problem.x.order is Order.CHANNELS_LAST:
            x = cupy.moveaxis(x, -1, 1)
        if problem.w.order is Order.CHANNELS_LAST:
            w = cupy.moveaxis(w, -1, 1)
        matrix = cupy.ascontiguousarray(w.reshape(problem.K, -1).T)
        borders = [(0, 0), (0, 0), *((axis.pad_lo, axis.pad_hi) for axis in problem.axes)]
        steps = (slice(None), slice(None), *(slice(None, None, a.stride) for a in problem.axes))
        to_rows = (0, *axes, 1, *(axis + problem.rank for axis in axes))
        last = problem.y.order is Order.CHANNELS_LAST

        def call() -> Any:
            padded = cupy.pad(x, borders)
            windows = cupy.lib.stride_tricks.sliding_window_view(padded, problem.filter, axes)
            rows = windows[steps].transpose(to_rows).reshape(-1, matrix.shape[0])
            y = (rows @ matrix).reshape(problem.N, *problem.out, problem.K)
            return y if last else cupy.ascontiguousarray(cupy.moveaxis(y, -1, 1))

        return call


def load() -> tuple[list[Rival], list[str]]:
    """Those that are installed and see a GPU, and why the others do not take part."""
    makers: dict[str, Callable[[], Rival]] = {
        "torch nhwc": lambda: Torch(Order.CHANNELS_LAST),
        "torch nchw": lambda: Torch(Order.CHANNELS_FIRST),
        "cupy im2col": CupyMatmul,
    }
    found, missing = [], []
    for name, make in makers.items():
        try:
            found.append(make())
        except ImportError as error:
            missing.append(f"{name} does not take part: {error}")
    return found, missing


def versions(rivals: Iterable[Rival]) -> dict[str, Any]:
    """What the rivals say of their own compilers' libraries."""
    if not any(isinstance(rival, Torch) for rival in rivals):
        return {}
    import torch

    return {"cudnn": torch.backends.cudnn.version(), "torch_cuda": torch.version.cuda}
