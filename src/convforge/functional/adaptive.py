"""Adaptive pooling: the result's extents are given, the windows follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convforge.functional.pooling import pool
from convforge.ops import adaptive_arguments
from convforge.problem import PoolKind

if TYPE_CHECKING:
    from convforge.policy import Policy


def adaptive_avg_pool1d(
    input: Any,
    output_size: Any,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Mean of each window of a sequence; see :func:`adaptive_avg_pool2d`."""
    args = adaptive_arguments(
        PoolKind.AVG, 1, output_size, layout=layout, algorithm=algorithm, policy=policy
    )
    return pool(args, input, out=out)


def adaptive_avg_pool2d(
    input: Any,
    output_size: Any,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Mean of each of ``output_size`` windows of nearly equal extent.

    On an axis of ``n`` elements, window ``i`` of ``o`` holds those from ``floor(i * n / o)`` to
    ``ceil((i + 1) * n / o)``; where ``o`` does not divide ``n``, windows overlap.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        output_size: Extents of the result: one integer, or ``(h, w)``, where None keeps the
            input's.
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
    args = adaptive_arguments(
        PoolKind.AVG, 2, output_size, layout=layout, algorithm=algorithm, policy=policy
    )
    return pool(args, input, out=out)


def adaptive_avg_pool3d(
    input: Any,
    output_size: Any,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Mean of each window of a volume; see :func:`adaptive_avg_pool2d`."""
    args = adaptive_arguments(
        PoolKind.AVG, 3, output_size, layout=layout, algorithm=algorithm, policy=policy
    )
    return pool(args, input, out=out)


def adaptive_max_pool1d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Largest element of each window of a sequence; see :func:`adaptive_max_pool2d`."""
    args = adaptive_arguments(
        PoolKind.MAX, 1, output_size, layout=layout, algorithm=algorithm, policy=policy
    )
    return pool(args, input, return_indices=return_indices, out=out)


def adaptive_max_pool2d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Largest element of each of ``output_size`` windows of nearly equal extent.

    Windows are those of :func:`adaptive_avg_pool2d`; NaN, ties and indices follow
    :func:`max_pool2d`.

    Args:
        input: Images, shape ``(N, C, H, W)`` or ``(C, H, W)``.
        output_size: Extents of the result: one integer, or ``(h, w)``, where None keeps the
            input's.
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
    args = adaptive_arguments(
        PoolKind.MAX, 2, output_size, layout=layout, algorithm=algorithm, policy=policy
    )
    return pool(args, input, return_indices=return_indices, out=out)


def adaptive_max_pool3d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    algorithm: str | None = None,
    policy: Policy | None = None,
    out: Any = None,
) -> Any:
    """Largest element of each window of a volume; see :func:`adaptive_max_pool2d`."""
    args = adaptive_arguments(
        PoolKind.MAX, 3, output_size, layout=layout, algorithm=algorithm, policy=policy
    )
    return pool(args, input, return_indices=return_indices, out=out)
