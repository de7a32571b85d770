"""Pooling by a power mean without the division: ``(sum of x ** p) ** (1 / p)``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from convforge import moves, ops
from convforge.arrays import Array, Device, device_of, dtype_of, namespace
from convforge.autograd import Function
from convforge.functional.pooling import pool
from convforge.ops import PoolArguments, pool_arguments
from convforge.ops.arguments import spread
from convforge.plan import numpy_dtype
from convforge.problem import PoolKind

if TYPE_CHECKING:
    from convforge.policy import Policy


def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """Root of the sum of powers of each window of a sequence; see :func:`lp_pool2d`."""
    kind = PoolKind.MAX if norm_type == math.inf else PoolKind.AVG
    args = pool_arguments(
        kind, 1, kernel_size, stride, ceil_mode=ceil_mode,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return lp_pool(args, input, norm_type)


def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """Root of the sum of powers of each window, ``(sum of x ** p) ** (1 / p)``.

    The meaning is PyTorch's to the letter: no magnitudes are taken, so that an odd ``p`` and a
    negative sum give NaN (and ``p = 1`` the sum itself), but infinity takes the largest magnitude;
    and a window that ``ceil_mode`` cuts off is scaled up to a whole one. Where a sum is 0 its
    gradient is 0.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        norm_type: ``p``, not 0; ``inf`` is the maximum of magnitudes.
        kernel_size: Extent of the window: one integer, or ``(h, w)``.
        stride: Distance of windows; ``kernel_size`` by default.
        ceil_mode: Round the result's extents up, but drop windows that start beyond the image.
        layout: ``"nchw"`` (also None) or ``"nhwc"``.
        algorithm: A name or glob of :func:`convforge.algorithms`, never replaced.
        policy: Limits within which an algorithm is chosen.

    Returns:
        Shape ``(N, C, P, Q)``, in the framework and memory order of ``input``.

    Raises:
        TypeError, ValueError: An argument of the wrong kind, shape or type; integers have no roots.
        UnsupportedProblem: No algorithm, or not the named one, can run it.
    """
    kind = PoolKind.MAX if norm_type == math.inf else PoolKind.AVG
    args = pool_arguments(
        kind, 2, kernel_size, stride, ceil_mode=ceil_mode,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return lp_pool(args, input, norm_type)


def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
) -> Any:
    """Root of the sum of powers of each window of a volume; see :func:`lp_pool2d`."""
    kind = PoolKind.MAX if norm_type == math.inf else PoolKind.AVG
    args = pool_arguments(
        kind, 3, kernel_size, stride, ceil_mode=ceil_mode,
        layout=layout, algorithm=algorithm, policy=policy,
    )  # fmt: skip
    return lp_pool(args, input, norm_type)


def require_norm(norm_type: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless a number can be the power of a pooling."""
    if not isinstance(norm_type, int | float) or isinstance(norm_type, bool):
        raise TypeError(
            f"norm_type is {norm_type!r} of type {type(norm_type).__name__}; wanted a number"
        )
    if norm_type == 0 or math.isnan(norm_type) or norm_type == -math.inf:
        raise ValueError(f"norm_type is {norm_type}; wanted a number other than 0, or inf")


def lp_pool(args: PoolArguments, input: Any, norm_type: float, *, magnitudes: bool = False) -> Any:
    """Power-mean pooling of any rank.

    With ``magnitudes`` it is a norm, as in ONNX: the powers are those of ``|x|``, and a window
    that is cut off is the norm of what it holds.
    """
    require_norm(norm_type)
    if magnitudes or args.kind is PoolKind.MAX:
        input = _Magnitude()(input)
    if args.kind is PoolKind.MAX:
        return pool(args, input)
    return _LpPool(args, norm_type, scaled=args.ceil_mode and not magnitudes)(input)


class _Magnitude(Function):
    """The absolute value; its gradient at 0 is 0."""

    def forward(self, input: Array) -> Array:
        self.input = input
        return abs(input)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        return (grad * namespace(grad).sign(self.input),)


class _LpPool(Function):
    """Powers, their sums and the roots of these."""

    makes_gradients = True

    def __init__(self, args: PoolArguments, norm_type: float, *, scaled: bool) -> None:
        self.p = norm_type
        # Windows are summed; where some are cut off PyTorch scales their means up.
        self.args = args if scaled else args._replace(divisor=1)
        self.scale = math.prod(spread(args.kernel_size, args.rank)) if scaled else 1

    def forward(self, input: Array) -> Array:
        if dtype_of(input.dtype, "input").eps == 0:
            raise TypeError(
                f"input has dtype {input.dtype}, and integers have no roots; "
                "pass input.astype('float32')"
            )
        device = device_of(input)
        if device is not None:
            return self._forward_on(device, input)
        powers = _power(input, self.p)
        self.call = ops.pool_call(self.args, powers)
        sums, _ = self.call.forward(powers)
        if self.scale != 1:
            sums *= self.scale
        roots = _power(sums, 1 / self.p)
        if any(self.needs):
            self.input, self.sums, self.roots = input, sums, roots
        return roots

    def _forward_on(self, device: Device, input: Array) -> Array:
        """One launch for powers, sums and roots."""
        self.call = ops.pool_call(self.args, input)
        self.launch = moves.PowersOn(device, self.call.problem, float(self.p))
        x, problem = self.call.view.memory(input), self.call.problem
        y, sums = device.empty(problem.y_shape, input.dtype), None
        if any(self.needs):
            sums = device.empty(problem.y_shape, numpy_dtype(problem.x.dtype.accumulator))
            self.input, self.sums = x, sums
        self.launch.forward(x, y, sums)
        return self.call.view.caller(y)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        device, view = self.call.device, self.call.view
        if device is not None:
            dx = device.empty(self.input.shape, self.input.dtype)
            self.launch.backward(view.memory(grad), self.sums, self.input, dx)
            return (view.caller(dx),)
        with np.errstate(all="ignore"):
            shares = grad * self._slope()
            if self.scale != 1:
                shares *= self.scale
            shares[self.sums == 0] = 0
            dx = self.call.input_gradient(shares)
            if self.p != 1 and not _multiply_power(self.input, dx, self.p - 1):
                dx *= _power(self.input, self.p - 1)
            return (dx,)

    def _slope(self) -> Array:
        """Of the root, ``root / (p * sum)``; without p, which is the power's slope's too."""
        if self.p == 1:
            return ~np.isnan(self.sums)  # PyTorch's zero for NaN
        slope: Array = self.roots / self.sums
        slope[np.isinf(self.sums)] = math.inf if 0 < self.p < 1 else 0.0
        return slope


_MOST_FACTORS = 8
"""A product of so many is faster than a power, and negative numbers are slow to raise."""


def _power(x: Array, p: float) -> Array:
    """``x ** p``, by the cheaper operations where there are some."""
    if p == 1:
        return x
    raised: Array
    with np.errstate(all="ignore"):
        if p == 0.5:
            raised = np.sqrt(x)
        elif p == int(p) and 1 <= p <= _MOST_FACTORS:
            raised = np.empty_like(x)
            if not moves.powers(x, raised, int(p), times=False):
                raised = x
                for _ in range(int(p) - 1):
                    raised = raised * x
        elif p == int(p) or not (x < 0).any():
            raised = np.power(x, x.dtype.type(p))
        else:
            raised = np.power(np.abs(x), x.dtype.type(p))
            np.copyto(raised, np.nan, where=(x < 0) & np.isfinite(x))
    return raised


def _multiply_power(x: Array, product: Array, p: float) -> bool:
    """Multiply by ``x ** p`` in one pass, if a kernel does."""
    few = p == int(p) and 1 <= p <= _MOST_FACTORS
    return few and moves.powers(x, product, int(p), times=True)
