"""Convolution and transposed convolution: arrays in, array out, through plans.

What a call comes to (its problem, its plan, the views of its arrays) is decided once for each
combination of shapes, strides, types and arguments; a repeated call only looks it up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from convforge.arrays import (
    Array,
    Device,
    View,
    as_array,
    assign,
    common_device,
    current,
    dense,
    dtype_of,
    home_of,
    may_share_memory,
    namespace,
    order_of,
    strides_in,
)
from convforge.ops import arguments
from convforge.ops.arguments import ConvArguments
from convforge.ops.common import (
    CALLS_KEPT,
    Shape,
    Spec,
    require_dtype,
    require_out,
    spec_of,
    split_image,
    told,
)
from convforge.plan import Plan, PreparedWeights, numpy_dtype, plan
from convforge.policy import Policy
from convforge.problem import ConvProblem, Direction, DType, Operand, Order, PostOp
from convforge.problem.words import FILTER_NAMES
from convforge.runtime.threads import get_num_threads

Prepare = Callable[[Plan, Array], Array | PreparedWeights]
"""Gives a plan its weights, from where the caller keeps them prepared."""


def conv(
    args: ConvArguments,
    input: Any,
    weight: Any,
    bias: Any = None,
    residual: Any = None,
    *,
    out: Any = None,
    prepare: Prepare | None = None,
) -> Any:
    """Convolve images with filters, or transposed; :func:`convforge.functional.conv2d` explains.

    Args:
        args: Everything but the arrays.
        input: Images.
        weight: Filters ``(K, C // groups, R, S)``, for a transposed convolution
            ``(C, K // groups, R, S)``.
        bias: One number for each output channel.
        residual: Added before the activation; of the result's shape.
        out: Where to write, instead of a new array.
        prepare: Called with the plan and the weights, hands it prepared ones.

    Returns:
        ``out``, or an array of the framework and in the memory order of ``input``.

    Raises:
        TypeError, ValueError: Arguments that make no convolution; nothing is written.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    x = as_array(input, "input")
    w = as_array(weight, "weight")
    b = None if bias is None else as_array(bias, "bias")
    r = None if residual is None else as_array(residual, "residual")
    call = conv_call(args, x, w, b, r)
    if out is not None:
        target = as_array(out, "out")
        common_device(input=x, out=target)
        call.forward(x, w, b, r, out=target, prepare=prepare)
        return out
    y = call.forward(x, w, b, r, prepare=prepare)
    return y if input is x else home_of(input)(y)


def conv_dgrad(args: ConvArguments, grad_output: Any, weight: Any, input_size: Shape) -> Any:
    """Gradient of :func:`conv` with respect to an input of shape ``input_size``.

    It lies in memory as ``grad_output`` does. Nothing is conjugated; ``args.policy`` may name an
    algorithm for it.

    Raises:
        TypeError, ValueError: Arguments that are no gradient of a convolution.
    """
    dy, w = as_array(grad_output, "grad_output"), as_array(weight, "weight")
    device = common_device(grad_output=dy, weight=w)
    last = arguments.channels_last(args.layout, args.rank)
    order = order_of(dy.shape, dy.strides, dy.dtype.itemsize, args.rank, channels_last=last)
    shape = tuple(arguments.integer("input_size", size) for size in input_size)
    lead = (1,) * (args.rank + 2 - len(shape))
    strides = strides_in(order, (*lead, *shape), dy.dtype.itemsize, channels_last=last)
    spec = (shape, strides[len(lead) :], dy.dtype)
    call = _resolve(_bare(args), get_num_threads(), device, spec, spec_of(w), None, None)
    return home_of(grad_output)(call.input_gradient(dy, w, args.policy))


def conv_wgrad(
    args: ConvArguments,
    input: Any,
    grad_output: Any,
    weight_size: Shape,
    *,
    order: Order = Order.CHANNELS_FIRST,
) -> Any:
    """Gradient of :func:`conv` with respect to weights of shape ``weight_size``.

    It lies in memory in ``order``. Nothing is conjugated; ``args.policy`` may name an algorithm
    for it.

    Raises:
        TypeError, ValueError: Arguments that are no gradient of a convolution.
    """
    x, dy = as_array(input, "input"), as_array(grad_output, "grad_output")
    device = common_device(input=x, grad_output=dy)
    shape = tuple(arguments.integer("weight_size", size) for size in weight_size)
    spec = (shape, strides_in(order, shape, x.dtype.itemsize), x.dtype)
    call = _resolve(_bare(args), get_num_threads(), device, spec_of(x), spec, None, None)
    return home_of(input)(call.weight_gradient(x, dy, args.policy))


def conv_dbias(args: ConvArguments, grad_output: Any) -> Any:
    """Gradient of :func:`conv` with respect to its bias: the sum over images and pixels.

    One axis is summed at a time, so that rounding grows with the extents' sum, not their product.

    Raises:
        TypeError, ValueError: Not a gradient of these arguments' rank.
    """
    dy = as_array(grad_output, "grad_output")
    last = arguments.channels_last(args.layout, args.rank)
    batched, *_ = split_image("grad_output", dy.shape, args.rank, channels_last=last)
    wide = numpy_dtype(dtype_of(dy.dtype, "grad_output").accumulator)
    with current(dy):
        total = namespace(dy).moveaxis(dy if batched else dy[None], -1 if last else 1, 0)
        while total.ndim > 1:
            total = total.sum(axis=-1, dtype=wide)
        total = total.astype(dy.dtype, copy=False)
    return home_of(grad_output)(total)


def conv_call(
    args: ConvArguments, input: Array, weight: Array, bias: Array | None, residual: Array | None
) -> ConvCall:
    """What a call with these arguments and arrays, of NumPy or of one device, comes to.

    Raises:
        TypeError, ValueError: They make no convolution.
    """
    device = None
    if not (
        # Asked in line: on the host this is most of what devices cost.
        input.__class__ is np.ndarray
        and weight.__class__ is np.ndarray
        and (bias is None or bias.__class__ is np.ndarray)
        and (residual is None or residual.__class__ is np.ndarray)
    ):
        device = common_device(input=input, weight=weight, bias=bias, residual=residual)
    return _resolve(
        args,
        get_num_threads(),
        device,
        spec_of(input),
        spec_of(weight),
        None if bias is None else (bias.shape, bias.dtype),
        None if residual is None else (residual.shape, residual.dtype),
    )


class ConvCall:
    """A convolution whose every decision is made, and its gradients.

    Attributes:
        problem: What the forward call computes; direction dgrad if it is transposed.
        policy: Limits within which algorithms are chosen.
        device: Where its arrays lie; None is host memory.
        input, weight, result: How the caller's arrays are seen in memory order.
        result_shape: Shape of the result as the caller sees it.
    """

    def __init__(
        self,
        problem: ConvProblem,
        policy: Policy | None,
        device: Device | None,
        input: View,
        weight: View,
        result: View,
    ) -> None:
        self.problem = problem
        self.device = device
        self.input = input
        self.weight = weight
        self.result = result
        self.policy = policy
        transposed = problem.direction is Direction.DGRAD
        channels, size = (problem.C, problem.size) if transposed else (problem.K, problem.out)
        self.result_shape = result.caller_shape(problem.N, channels, size)
        self.result_dtype = numpy_dtype((problem.x if transposed else problem.y).dtype)

    @cached_property
    def plan(self) -> Plan:
        """Runs the forward call with weights as they are."""
        return plan(self.problem, _with_weights(self.policy, prepared=False), self.device)

    @cached_property
    def prepared_plan(self) -> Plan:
        """Runs it with weights that a layer keeps prepared."""
        return plan(self.problem, _with_weights(self.policy, prepared=True), self.device)

    def forward(
        self,
        input: Array,
        weight: Array,
        bias: Array | None = None,
        residual: Array | None = None,
        *,
        out: Array | None = None,
        prepare: Prepare | None = None,
    ) -> Array:
        """Run on arrays of the shapes, strides and types that the call was made for."""
        if out is not None:
            given = {"input": input, "weight": weight, "bias": bias, "residual": residual}
            require_out(out, self.result_shape, self.result_dtype, given, self.problem)
        run = self.plan if prepare is None else self.prepared_plan
        w = self.weight.memory(weight)
        operands = (
            self.input.memory(input),
            w if prepare is None else prepare(run, w),
        )
        if bias is not None:
            bias = dense(bias)
        if residual is not None:
            residual = self.result.memory(residual)
        if out is None:
            return self.result.caller(run(*operands, bias=bias, residual=residual))
        target = self.result.memory(out)
        if may_share_memory(target, out):
            run(*operands, bias=bias, residual=residual, out=target)
        else:
            assign(out, self.result.caller(run(*operands, bias=bias, residual=residual)))
        return out

    def input_gradient(self, grad: Array, weight: Array, policy: Policy | None = None) -> Array:
        """Gradient with respect to the input, in the input's memory order."""
        transposed = self.problem.direction is Direction.DGRAD
        run = self._bare_plan(Direction.FPROP if transposed else Direction.DGRAD, policy)
        return self.input.caller(run(self._result(grad), self.weight.memory(weight)))

    def weight_gradient(self, input: Array, grad: Array, policy: Policy | None = None) -> Array:
        """Gradient with respect to the weights, in the weights' memory order."""
        x, dy = self.input.memory(input), self._result(grad)
        if self.problem.direction is Direction.DGRAD:
            x, dy = dy, x
        return self.weight.caller(self._bare_plan(Direction.WGRAD, policy)(x, dy))

    def _result(self, grad: Array) -> Array:
        if grad.shape != self.result_shape:
            raise ValueError(
                f"grad_output has shape {grad.shape}; wanted {self.result_shape} ({self.problem})"
            )
        return self.result.memory(grad)

    def _bare_plan(self, direction: Direction, policy: Policy | None) -> Plan:
        return _gradient_plan(self, direction, policy, get_num_threads())


@lru_cache(maxsize=CALLS_KEPT)
def _gradient_plan(
    call: ConvCall, direction: Direction, policy: Policy | None, threads: int
) -> Plan:
    """A gradient's plan, kept for the call: to spell its problem takes longer than a small one.

    The algorithm named for the forward call does not speak of it.
    """
    if policy is None and call.policy is not None:
        policy = replace(call.policy, algorithm=None)
    problem = replace(call.problem, direction=direction, post=())
    return plan(problem, _with_weights(policy, prepared=False), call.device)


def _with_weights(policy: Policy | None, *, prepared: bool) -> Policy:
    """The policy of calls that are given their weights prepared, or prepare them themselves."""
    return replace(policy or Policy(), prepared=prepared)


def _bare(args: ConvArguments) -> ConvArguments:
    return args._replace(activation=None, policy=None)


@lru_cache(maxsize=CALLS_KEPT)
def _resolve(
    args: ConvArguments,
    threads: int,
    device: Device | None,
    input: Spec,
    weight: Spec,
    bias: tuple[Shape, np.dtype[Any]] | None,
    residual: tuple[Shape, np.dtype[Any]] | None,
) -> ConvCall:
    """Check every argument, and decide. ``threads`` is part of the key because plans know it."""
    settings = {
        "stride": args.stride,
        "padding": args.padding,
        "dilation": args.dilation,
        "groups": args.groups,
        "output_padding": args.output_padding if args.transposed else None,
        "layout": args.layout,
    }
    with told({"input": input, "weight": weight}, settings):
        call = _geometry(args, device, input, weight, bias is not None, residual is not None)
    dtype = call.problem.w.dtype
    require_dtype("weight", weight[2], dtype, "the type of input", call.problem)
    _check_epilogue(call, _result_dtype(dtype, args.out_dtype), bias, residual)
    return call


def _geometry(
    args: ConvArguments,
    device: Device | None,
    input: Spec,
    weight: Spec,
    bias: bool,
    residual: bool,
) -> ConvCall:
    """The call that shapes and strides make, with the type of ``input`` everywhere."""
    rank, groups, transposed = args.rank, args.groups, args.transposed
    last = arguments.channels_last(args.layout, rank)
    dtype = dtype_of(input[2], "input")
    batched, N, channels, size = split_image("input", input[0], rank, channels_last=last)
    if groups < 1:
        raise ValueError(f"groups is {groups}; it must be at least 1")
    K, group_C, *filter_size = _split_weight(weight[0], rank, transposed=transposed)
    if K % groups:
        role = "input" if transposed else "output"
        raise ValueError(
            f"groups is {groups}; it must divide the {role} channels, of which weight of shape "
            f"{weight[0]} has {K}"
        )
    expected = K if transposed else group_C * groups
    if channels != expected:
        raise ValueError(
            f"input has {channels} channels in shape {input[0]}; weight of shape {weight[0]} with "
            f"groups={groups} wants {expected}"
        )
    if transposed:
        size = _transposed_size(args, size, filter_size)
    axes = arguments.axes_of(
        size,
        tuple(filter_size),
        args.stride,
        args.padding,
        args.dilation,
        arguments.pad_mode(args.padding_mode),
    )
    order = order_of(input[0], input[1], dtype.itemsize, rank, channels_last=last)
    w_order = order_of(weight[0], weight[1], weight[2].itemsize, rank)
    result = _result_dtype(dtype, args.out_dtype)
    read = Operand(dtype=dtype, order=order)
    written = Operand(dtype=result, order=order)
    problem = ConvProblem(
        direction=Direction.DGRAD if transposed else Direction.FPROP,
        N=N,
        C=group_C * groups,
        K=K,
        groups=groups,
        axes=axes,
        x=written if transposed else read,
        w=Operand(dtype=dtype, order=w_order),
        y=read if transposed else written,
        acc=dtype.accumulator if dtype.eps else result,
        post=(
            *((PostOp.BIAS,) if bias else ()),
            *((PostOp.RESIDUAL,) if residual else ()),
            *((PostOp(args.activation),) if args.activation else ()),
        ),
    )
    images = View.of(order, rank, channels_last=last, batched=batched)
    return ConvCall(problem, args.policy, device, images, View.of(w_order, rank), images)


def _split_weight(shape: Shape, rank: int, *, transposed: bool) -> Shape:
    if len(shape) != rank + 2:
        names = ", ".join(FILTER_NAMES[rank].upper())
        channels = "C, K // groups" if transposed else "K, C // groups"
        raise ValueError(f"weight has shape {shape}; wanted ({channels}, {names})")
    return shape


def _transposed_size(args: ConvArguments, size: Shape, filter_size: list[int]) -> Shape:
    """Extents that a transposed convolution makes of ``size``."""
    rank = args.rank
    if isinstance(args.padding, str):
        raise ValueError(
            f"padding is {args.padding!r}; a transposed convolution wants integers, because the "
            "word does not say which output it should lead to"
        )
    # Strides, dilations and filters below 1 are left to the axes to report.
    shape = []
    for n, axis, extra in zip(
        size,
        arguments.axes_of(size, tuple(filter_size), args.stride, args.padding, args.dilation),
        arguments.spread(args.output_padding, rank),
        strict=True,
    ):
        if not 0 <= extra < max(axis.stride, 1):
            raise ValueError(
                f"output_padding is {args.output_padding}; each must be at least 0 and smaller "
                f"than its stride, which is {args.stride}"
            )
        shape.append((n - 1) * axis.stride + axis.extent - axis.pad_lo - axis.pad_hi + extra)
    if min(shape) < 0:
        raise ValueError(
            f"the transposed convolution of {size} pixels with filter {tuple(filter_size)} and "
            f"padding {args.padding} has the size {tuple(shape)}; wanted at least 0"
        )
    return tuple(shape)


def _result_dtype(dtype: DType, wanted: DType | None) -> DType:
    """Floats keep their type; integers come back as their sums are kept, so that none wraps."""
    usual = dtype if dtype.eps else dtype.accumulator
    others = {dtype.accumulator} if dtype.eps else {DType.I64}
    if wanted is None or wanted in (usual, *others):
        return wanted or usual
    names = " or ".join(dict.fromkeys(each.numpy_name for each in (usual, *others)))
    raise TypeError(
        f"out_dtype is {wanted.numpy_name}; of {dtype.numpy_name} there are results in {names}"
    )


def _check_epilogue(
    call: ConvCall,
    dtype: DType,
    bias: tuple[Shape, np.dtype[Any]] | None,
    residual: tuple[Shape, np.dtype[Any]] | None,
) -> None:
    """Raise unless bias, residual and activation go with the result."""
    problem = call.problem
    channels = problem.C if problem.direction is Direction.DGRAD else problem.K
    for name, came, shape in (
        ("bias", bias, (channels,)),
        ("residual", residual, call.result_shape),
    ):
        if came is None:
            continue
        require_dtype(name, came[1], dtype, "the type of the result", problem)
        if came[0] != shape:
            raise ValueError(f"{name} has shape {came[0]}; wanted {shape} ({problem})")
    word = problem.post[-1] if problem.post and not problem.post[-1].reads_operand else None
    kind = numpy_dtype(dtype).kind
    smooth = word in (PostOp.SILU, PostOp.GELU, PostOp.GELU_TANH)
    if word and (kind == "c" or (smooth and kind in "iu")):
        raise TypeError(f"activation '{word}' has no meaning for {dtype.numpy_name} ({problem})")
