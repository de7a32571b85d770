"""The way from the tensors of Keras's backend to functions of arrays, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from convforge.arrays import Array

_BACKENDS = ("torch", "numpy")

if keras.config.backend() not in _BACKENDS:
    raise ImportError(
        f"Keras runs on its {keras.config.backend()} backend, and convforge.keras computes on "
        f"{' and '.join(_BACKENDS)}: set KERAS_BACKEND=torch before Keras is imported"
    )

if keras.config.backend() == "torch":
    from convforge.integrations.keras.torch_ import (
        array_of,
        is_left,
        is_recorded,
        run,
        version_of,
    )
else:

    def is_left(tensor: Any) -> bool:
        """Whether Keras itself computes: every tensor here has elements."""
        return False

    def is_recorded(*tensors: Any) -> bool:
        """Whether gradients are recorded; this backend has none."""
        return False

    def array_of(tensor: Any) -> Array:
        """A tensor's elements, over the same memory."""
        return tensor  # type: ignore[no-any-return]

    def version_of(tensor: Any) -> int:
        """How often a tensor was written to, as far as its backend counts."""
        return 0

    def run(function: Callable[..., Any], *tensors: Any) -> Any:
        """Call a function of arrays with tensors of the backend, which are arrays."""
        return function(*tensors)


__all__ = ["array_of", "is_left", "is_recorded", "run", "version_of"]
