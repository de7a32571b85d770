"""Convolution and transposed convolution of one to three spatial axes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from convforge import ops
from convforge.arrays import Array
from convforge.autograd import Function, Tensor
from convforge.functional.activation import ACTIVATIONS
from convforge.functional.output import write_to
from convforge.functional.padding import pad
from convforge.ops import ConvArguments, Prepare, conv_arguments
from convforge.ops.arguments import spread

if TYPE_CHECKING:
    from convforge.policy import Policy


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Cross-correlate a batch of sequences with a bank of filters.

    Shapes are ``(N, C, W)`` and ``(K, C // groups, S)``, layouts ``"ncw"`` and ``"nwc"``; padding
    ``"causal"`` lets an output see only what came before it. All else is as in :func:`conv2d`.
    """
    args = conv_arguments(
        1, stride, padding, dilation, groups,
        layout=layout, activation=activation, algorithm=algorithm, policy=policy,
        out_dtype=out_dtype,
    )  # fmt: skip
    return convolve(args, input, weight, bias, residual, out=out)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Cross-correlate a batch of images with a bank of filters.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``: an array or a Tensor of float16,
            bfloat16, float32, float64, complex64, complex128, or integers. Its strides say how
            it lies in memory: a view of NHWC memory is used in place.
        weight: Filters, shape ``(K, C // groups, R, S)`` whatever the layout, of the same type.
        bias: Shape ``(K,)``, of the result's type.
        stride: One integer, or ``(h, w)``.
        padding: Rows and columns of zeros: one integer, ``(h, w)``, ``((top, bottom), (left,
            right))``, ``"valid"``, ``"same"`` (stride 1 only; an odd row goes to the end),
            ``"same_upper"`` or ``"same_lower"`` (the rules of TensorFlow and ONNX, any stride).
        dilation: Distance of the filter's taps: one integer, or ``(h, w)``.
        groups: Groups of channels that do not see each other; divides C and K.
        layout: How the axes of images are named: ``"nchw"`` (also None) or ``"nhwc"``. It speaks
            of ``input``, ``residual``, ``out`` and the result.
        activation: Applied last: relu, relu6, silu, gelu or gelu_tanh.
        residual: Added before the activation; shape and type of the result.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced. It speaks of
            this call; the gradients choose for themselves.
        policy: Limits within which an algorithm is chosen.
        out: Where to write; must not share memory with an input. Not for recorded calls.
        out_dtype: Type of the result, if not the usual one: float32 for half types, int64 for
            integers, whose sums are kept in it.

    Returns:
        Shape ``(N, K, P, Q)`` or ``(K, P, Q)``, in the framework and in the memory order of
        ``input``, in its type. Integers give int32, and int32 and int64 give int64.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type; says which, what came
            and what was wanted. Nothing is written.
        UnsupportedProblem: No algorithm, or not the named one, can run it; lists every reason.
    """
    args = conv_arguments(
        2, stride, padding, dilation, groups,
        layout=layout, activation=activation, algorithm=algorithm, policy=policy,
        out_dtype=out_dtype,
    )  # fmt: skip
    return convolve(args, input, weight, bias, residual, out=out)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Cross-correlate a batch of volumes with a bank of filters.

    Shapes are ``(N, C, D, H, W)`` and ``(K, C // groups, T, R, S)``, layouts ``"ncdhw"`` and
    ``"ndhwc"``. All else is as in :func:`conv2d`.
    """
    args = conv_arguments(
        3, stride, padding, dilation, groups,
        layout=layout, activation=activation, algorithm=algorithm, policy=policy,
        out_dtype=out_dtype,
    )  # fmt: skip
    return convolve(args, input, weight, bias, residual, out=out)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Transpose of :func:`conv1d`; arguments as in :func:`conv_transpose2d`."""
    return conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation,
        layout=layout, activation=activation, residual=residual, algorithm=algorithm,
        policy=policy, out=out, out_dtype=out_dtype,
    )  # fmt: skip


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Transpose of :func:`conv2d`, also called deconvolution: the gradient of its input.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        weight: Filters, shape ``(C, K // groups, R, S)``.
        bias: Shape ``(K,)``.
        stride: Distance of two input pixels in the result.
        padding: Rows and columns cut off the result's border: one integer, ``(h, w)`` or pairs.
        output_padding: Rows and columns that the result has more at its end; each smaller than
            its stride or than its dilation.
        groups: Groups of channels that do not see each other.
        dilation: Distance of the filter's taps.
        layout: As in :func:`conv2d`, like all that follow.
        activation: Applied last.
        residual: Added before the activation; shape and type of the result.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced.
        policy: Limits within which an algorithm is chosen.
        out: Where to write; must not share memory with an input. Not for recorded calls.
        out_dtype: Type of the result, if not the usual one: float32 for half types, int64 for
            integers, whose sums are kept in it.

    Returns:
        Shape ``(N, K, P, Q)`` with ``P = (H - 1) * stride - 2 * padding + dilation * (R - 1)
        + output_padding + 1``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    return conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation,
        layout=layout, activation=activation, residual=residual, algorithm=algorithm,
        policy=policy, out=out, out_dtype=out_dtype,
    )  # fmt: skip


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    residual: Any = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
    out_dtype: Any = None,
) -> Any:
    """Transpose of :func:`conv3d`; arguments as in :func:`conv_transpose2d`."""
    return conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation,
        layout=layout, activation=activation, residual=residual, algorithm=algorithm,
        policy=policy, out=out, out_dtype=out_dtype,
    )  # fmt: skip


def conv(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    *,
    prepare: Prepare | None = None,
    **keywords: Any,
) -> Any:
    """Convolution of any rank, with a layer's ``padding_mode``, and weights that it keeps."""
    args = conv_arguments(rank, stride, padding, dilation, groups, **keywords)
    return convolve(args, input, weight, bias, prepare=prepare)


def conv_transpose(
    rank: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    *,
    residual: Any = None,
    out: Any = None,
    prepare: Prepare | None = None,
    **keywords: Any,
) -> Any:
    """Transposed convolution of any rank; ``prepare`` gives it the weights that a layer keeps."""
    args = conv_arguments(
        rank, stride, padding, dilation, groups,
        transposed=True, output_padding=output_padding, **keywords,
    )  # fmt: skip
    if args.output_padding != 0:
        _require_output_padding(args)
        args, input = lengthen(args, input)
    return convolve(args, input, weight, bias, residual, out=out, prepare=prepare)


def _require_output_padding(args: ConvArguments) -> None:
    """Raise ``ValueError`` unless each is less than its stride or its dilation, as in PyTorch."""
    steps = [spread(v, args.rank) for v in (args.output_padding, args.stride, args.dilation)]
    if not all(0 <= extra < max(s, d, 1) for extra, s, d in zip(*steps, strict=True)):
        raise ValueError(
            f"output_padding is {args.output_padding}; each must be at least 0 and smaller than "
            f"its stride or its dilation, which are {args.stride} and {args.dilation}"
        )


def lengthen(args: ConvArguments, input: Any) -> tuple[ConvArguments, Any]:
    """Make every output padding less than its stride: a whole stride of it is a zero of input."""
    steps = [spread(v, args.rank) for v in (args.output_padding, args.stride)]
    zeros = [extra // max(s, 1) for extra, s in zip(*steps, strict=True)]
    if not any(zeros):
        return args, input
    widths = [width for count in reversed(zeros) for width in (0, count)]
    if args.layout is not None and args.layout.endswith("c"):
        widths = [0, 0, *widths]
    rest = tuple(extra % max(s, 1) for extra, s in zip(*steps, strict=True))
    return args._replace(output_padding=rest), pad(input, widths)


def convolve(
    args: ConvArguments,
    input: Any,
    weight: Any,
    bias: Any = None,
    residual: Any = None,
    *,
    out: Any = None,
    prepare: Prepare | None = None,
) -> Any:
    """Arrays straight to the operator, Tensors through the tape."""
    if not (
        isinstance(input, Tensor)
        or isinstance(weight, Tensor)
        or isinstance(bias, Tensor)
        or isinstance(residual, Tensor)
        or isinstance(out, Tensor)
    ):
        return ops.conv(args, input, weight, bias, residual, out=out, prepare=prepare)
    operands = (input, weight, bias, residual)
    if out is None:
        return _Convolution(args, prepare)(*operands)
    write_to(out, operands, partial(ops.conv, args, prepare=prepare))
    return out


class _Convolution(Function):
    """A convolution, or its transpose, with its epilogue."""

    def __init__(self, args: ConvArguments, prepare: Prepare | None = None) -> None:
        self.args = args
        self.prepare = prepare

    def forward(
        self, input: Array, weight: Array, bias: Array | None, residual: Array | None
    ) -> Array:
        args = self.args
        recorded = any(self.needs)
        activation = ACTIVATIONS.get(args.activation or "")
        # The gradient of an activation that is not monotone needs its input, so in training that
        # is what the kernel writes.
        apart = recorded and activation is not None and not activation.from_result
        call = ops.conv_call(
            args._replace(activation=None) if apart else args, input, weight, bias, residual
        )
        y = call.forward(input, weight, bias, residual, prepare=self.prepare)
        if recorded:
            self.call, self.activation, self.saved = call, activation, y
            self.x = input if self.needs[1] else None
            self.w = weight if self.needs[0] else None
        return activation.apply(y) if apart and activation is not None else y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        needs_x, needs_w, needs_bias, needs_residual = self.needs
        if self.activation is not None:
            grad = self.activation.gradient(grad, self.saved)
        dx = dw = None
        if needs_x and self.w is not None:
            dx = self.call.input_gradient(grad, _conjugate(self.w))
        if needs_w and self.x is not None:
            dw = self.call.weight_gradient(_conjugate(self.x), grad)
        db = ops.conv_dbias(self.args, grad) if needs_bias else None
        return dx, dw, db, grad if needs_residual else None


def _conjugate(array: Array) -> Array:
    return array.conj() if array.dtype.kind == "c" else array
