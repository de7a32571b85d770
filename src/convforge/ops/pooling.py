"""Pooling and its gradients: arrays in, array out, through plans."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from convforge.arrays import (
    Array,
    Device,
    View,
    as_array,
    assign,
    common_device,
    device_of,
    dtype_of,
    home_of,
    may_share_memory,
    order_of,
)
from convforge.ops import arguments
from convforge.ops.arguments import PoolArguments
from convforge.ops.common import CALLS_KEPT, Spec, require_out, spec_of, split_image, told
from convforge.plan import Plan, numpy_dtype, plan
from convforge.policy import Policy
from convforge.problem import Axis, Direction, Operand, PoolKind, PoolProblem
from convforge.runtime.memory import array_address
from convforge.runtime.results import aligned_array
from convforge.runtime.threads import get_num_threads


def pool(args: PoolArguments, input: Any, *, indices: bool = False, out: Any = None) -> Any:
    """Pool images; :func:`convforge.functional.max_pool2d` and ``avg_pool2d`` explain.

    Args:
        args: Everything but the array.
        input: Images.
        indices: Return the positions of the maxima too.
        out: Where to write, instead of a new array.

    Returns:
        ``out``, or an array of the framework and in the memory order of ``input``; with
        ``indices`` a pair.

    Raises:
        TypeError, ValueError: Arguments that make no pooling; nothing is written.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    x = as_array(input, "input")
    target = None
    if out is not None:
        target = as_array(out, "out")
        common_device(input=x, out=target)
    call = pool_call(args, x, indices=indices)
    y, places = call.forward(x, target)
    home = home_of(input)
    result = home(y) if out is None else out
    return result if places is None else (result, home(places))


def pool_call(args: PoolArguments, input: Array, *, indices: bool = False) -> PoolCall:
    """What a call with these arguments and this array comes to.

    Raises:
        TypeError, ValueError: They make no pooling.
    """
    device = None if input.__class__ is np.ndarray else device_of(input)
    return _resolve(args, get_num_threads(), device, spec_of(input), indices)


class PoolCall:
    """A pooling whose every decision is made, and its gradient.

    Attributes:
        problem: What the forward call computes.
        policy: Limits within which algorithms are chosen.
        device: Where its arrays lie; None is host memory.
        view: How the caller's arrays are seen in memory order.
        result_shape: Shape of the result as the caller sees it.
    """

    def __init__(
        self, problem: PoolProblem, policy: Policy | None, device: Device | None, view: View
    ) -> None:
        self.problem = problem
        self.device = device
        self.view = view
        self.plan = plan(problem, policy, device)
        self.policy = policy
        self._y_shape = problem.y_shape
        self.result_shape = view.caller_shape(problem.N, problem.C, problem.out)
        self.result_dtype = numpy_dtype(problem.x.dtype)

    def forward(self, input: Array, out: Array | None = None) -> tuple[Array, Array | None]:
        """Run on an array of the shape, strides and type that the call was made for.

        Returns:
            The result, and the positions of the maxima if the problem has indices.
        """
        x = self.view.memory(input)
        if out is None:
            y, places = self._new(x)
        else:
            require_out(out, self.result_shape, self.result_dtype, {"input": input}, self.problem)
            in_memory = self.view.memory(out)
            target = in_memory if may_share_memory(in_memory, out) else None
            y = self.plan(x, out=target)
            y, places = y if self.problem.indices else (y, None)
            if target is None:
                assign(out, self.view.caller(y))
        return self.view.caller(y), None if places is None else self.view.caller(places)

    def _new(self, x: Array) -> tuple[Array, Array | None]:
        """Run into new arrays."""
        if self.plan.on_host or self.device is not None:
            y = self.plan(x)
            return y if self.problem.indices else (y, None)
        # Straight to the launch: what a plan asks of arrays was asked when the call was made.
        source = array_address(x)
        y = aligned_array(self._y_shape, self.result_dtype, source)
        addresses = [source, array_address(y)]
        places = None
        if self.problem.indices:
            places = np.empty(self._y_shape, np.int64)
            addresses.append(array_address(places))
        self.plan.launch(addresses)
        return y, places

    def input_gradient(self, grad: Array, indices: Array | None = None) -> Array:
        """Gradient with respect to the input, in the input's memory order."""
        if grad.shape != self.result_shape:
            raise ValueError(
                f"grad_output has shape {grad.shape}; wanted {self.result_shape} ({self.problem})"
            )
        operands = [self.view.memory(grad)]
        if indices is not None:
            operands.append(self.view.memory(indices))
        return self.view.caller(_gradient_plan(self, get_num_threads())(*operands))


@lru_cache(maxsize=CALLS_KEPT)
def _gradient_plan(call: PoolCall, threads: int) -> Plan:
    """Kept for the call: to spell the gradient's problem takes longer than a small gradient."""
    policy = None if call.policy is None else replace(call.policy, algorithm=None)
    problem = replace(call.problem, direction=Direction.DGRAD, indices=False)
    return plan(problem, policy, call.device)


@lru_cache(maxsize=CALLS_KEPT)
def _resolve(
    args: PoolArguments, threads: int, device: Device | None, input: Spec, indices: bool
) -> PoolCall:
    """Check every argument, and decide. ``threads`` is part of the key because plans know it."""
    settings: dict[str, Any] = {
        "kernel_size": args.kernel_size,
        "stride": args.stride,
        "padding": args.padding,
        "dilation": args.dilation,
        "layout": args.layout,
    }
    if args.output_size is not None:
        settings = {"output_size": args.output_size, "layout": args.layout}
    with told({"input": input}, settings):
        problem, view = _geometry(args, input, indices)
    dtype = problem.x.dtype
    kind = numpy_dtype(dtype).kind
    if args.kind is PoolKind.AVG and kind in "iu":
        raise TypeError(
            f"input has dtype {dtype.numpy_name}, and an average of integers is none; "
            f"pass input.astype('float32') ({problem})"
        )
    if args.kind is PoolKind.MAX and kind == "c":
        raise TypeError(
            f"input has dtype {dtype.numpy_name}; complex numbers have no maximum ({problem})"
        )
    return PoolCall(problem, args.policy, device, view)


def _geometry(args: PoolArguments, input: Spec, indices: bool) -> tuple[PoolProblem, View]:
    """The problem that a shape and strides make, and how the caller's arrays are seen."""
    shape, strides, np_dtype = input
    rank = args.rank
    last = arguments.channels_last(args.layout, rank)
    dtype = dtype_of(np_dtype, "input")
    batched, N, C, size = split_image("input", shape, rank, channels_last=last)
    order = order_of(shape, strides, dtype.itemsize, rank, channels_last=last)
    stride = args.kernel_size if args.stride is None else args.stride
    problem = PoolProblem(
        kind=args.kind,
        N=N,
        C=C,
        axes=(
            arguments.axes_of(size, args.kernel_size, stride, args.padding, args.dilation)
            if args.output_size is None
            else _adaptive_axes(size, args.output_size)
        ),
        x=Operand(dtype=dtype, order=order),
        ceil_mode=args.ceil_mode,
        count_include_pad=args.count_include_pad,
        divisor=args.divisor,
        indices=indices,
    )
    return problem, View.of(order, rank, channels_last=last, batched=batched)


def _adaptive_axes(size: tuple[int, ...], wanted: tuple[int | None, ...]) -> tuple[Axis, ...]:
    """Windows of equal extent where these make the sizes wanted, else adaptive ones."""
    pairs = [(n, n if out is None else out) for n, out in zip(size, wanted, strict=True)]
    if all(n and n % out == 0 for n, out in pairs):
        return tuple(Axis(size=n, filter=n // out, stride=n // out) for n, out in pairs)
    return tuple(Axis.adaptive(n, out) for n, out in pairs)
