"""Maximum and average pooling of one to three spatial axes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from convforge import ops
from convforge.arrays import Array
from convforge.autograd import Function, Tensor
from convforge.functional.output import write_to
from convforge.ops import PoolArguments, pool_arguments
from convforge.ops.arguments import flag
from convforge.problem import PoolKind

if TYPE_CHECKING:
    from convforge.policy import Policy


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Largest element of each window of a sequence; see :func:`max_pool2d`."""
    args = pool_arguments(
        PoolKind.MAX, 1, kernel_size, stride, padding, dilation, ceil_mode,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return pool(args, input, return_indices=return_indices, out=out)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Largest element of each window of an image.

    The first of equal elements is taken, and gets the gradient. NaN counts as largest.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: Extent of the window: one integer, or ``(h, w)``.
        stride: Distance of windows; ``kernel_size`` by default.
        padding: Rows and columns that never win, at most half the window.
        dilation: Distance of the window's elements.
        ceil_mode: Round the result's extents up, but drop windows that start beyond the image
            and its padding.
        return_indices: Return positions too.
        layout: ``"nchw"`` (also None) or ``"nhwc"``.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced.
        policy: Limits within which an algorithm is chosen.
        out: Where to write; must not share memory with ``input``. Not for recorded calls.

    Returns:
        Shape ``(N, C, P, Q)``, in the framework and memory order of ``input``; with
        ``return_indices`` a pair of it and int64 positions, counted along one plane ``H * W``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    args = pool_arguments(
        PoolKind.MAX, 2, kernel_size, stride, padding, dilation, ceil_mode,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return pool(args, input, return_indices=return_indices, out=out)


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Largest element of each window of a volume; see :func:`max_pool2d`."""
    args = pool_arguments(
        PoolKind.MAX, 3, kernel_size, stride, padding, dilation, ceil_mode,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return pool(args, input, return_indices=return_indices, out=out)


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    dilation: Any = 1,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Mean of each window of a sequence; see :func:`avg_pool2d`."""
    args = pool_arguments(
        PoolKind.AVG, 1, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return pool(args, input, out=out)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Mean of each window of an image.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        kernel_size: Extent of the window: one integer, or ``(h, w)``.
        stride: Distance of windows; ``kernel_size`` by default.
        padding: Rows and columns of zeros, at most half the window.
        ceil_mode: Round the result's extents up, but drop windows that start beyond the image
            and its padding.
        count_include_pad: Divide by the padding's elements too, but not by what a window of
            ``ceil_mode`` holds beyond them.
        divisor_override: Divide sums by this instead.
        dilation: Distance of the window's elements.
        layout: ``"nchw"`` (also None) or ``"nhwc"``.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced.
        policy: Limits within which an algorithm is chosen.
        out: Where to write; must not share memory with ``input``. Not for recorded calls.

    Returns:
        Shape ``(N, C, P, Q)``, in the framework and memory order of ``input``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type; integers have no mean.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    args = pool_arguments(
        PoolKind.AVG, 2, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad,
        divisor_override, layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return pool(args, input, out=out)


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dilation: Any = 1,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Mean of each window of a volume; see :func:`avg_pool2d`."""
    args = pool_arguments(
        PoolKind.AVG, 3, kernel_size, stride, padding, dilation, ceil_mode, count_include_pad,
        divisor_override, layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return pool(args, input, out=out)


def pool(args: PoolArguments, input: Any, *, return_indices: bool = False, out: Any = None) -> Any:
    """Arrays straight to the operator, Tensors through the tape."""
    return_indices = flag("return_indices", return_indices)
    if not isinstance(input, Tensor) and not isinstance(out, Tensor):
        return ops.pool(args, input, indices=return_indices, out=out)
    if out is not None:
        result = write_to(out, [input], partial(ops.pool, args, indices=return_indices))
        return (out, Tensor(result[1])) if return_indices else out
    node = _Pooling(args, return_indices)
    y = node(input)
    return (y, Tensor(node.indices)) if return_indices else y


class _Pooling(Function):
    """A pooling; the way back reads the maxima's positions, or nothing."""

    reads_operands = False
    makes_gradients = True

    def __init__(self, args: PoolArguments, indices: bool) -> None:
        self.args = args
        self.wants_indices = indices

    def forward(self, input: Array) -> Array:
        indices = self.wants_indices or (self.args.kind is PoolKind.MAX and any(self.needs))
        self.call = ops.pool_call(self.args, input, indices=indices)
        y, self.indices = self.call.forward(input)
        return y

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (self.call.input_gradient(grad, self.indices),)
