"""Shapes."""

from __future__ import annotations

from typing import Any

from convforge.autograd.elementary import Reshape, flat_shape


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make one axis of those from ``start_dim`` to ``end_dim``.

    Raises:
        ValueError: Not axes of the input, or in the wrong order.
    """
    return Reshape(flat_shape(tuple(input.shape), start_dim, end_dim))(input)
