"""Arrays of other libraries, by the protocols they speak."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from convforge.arrays import places
from convforge.arrays.numpy_ import Array
from convforge.runtime.cuda.device import device_of

# Device types of DLPack whose memory the CPU reads: its own, and the host memory that CUDA and
# ROCm pin.
_HOST_DEVICES = (1, 3, 11)
# CUDA's own, and the memory that it moves by itself.
_CUDA_DEVICES = (2, 13)


def as_numpy(value: Any, name: str) -> Array:
    """See any array as a NumPy array; :func:`convforge.arrays.as_numpy` has the contract."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, and a convolution has no meaning for missing values; "
            f"pass {name}.filled(0)"
        )
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    adapter = _adapter_of(value)
    if adapter is not None:
        return adapter.as_numpy(value, name)  # type: ignore[no-any-return]
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        device = value.__dlpack_device__()[0]
        if device not in _HOST_DEVICES:
            raise TypeError(_elsewhere(name, kind))
        try:
            return np.from_dlpack(value)
        except BufferError:
            # A type or byte order that DLPack has no name for; NumPy's own protocols may.
            if not hasattr(value, "__array__"):
                raise
    if hasattr(value, "__cuda_array_interface__"):
        raise TypeError(_elsewhere(name, kind))
    if any(hasattr(value, p) for p in ("__array_interface__", "__array_struct__", "__array__")):
        return np.asarray(value)
    raise TypeError(
        f"{name} is of type {type(value).__name__}; wanted an array: "
        f"pass np.asarray({name}, dtype=np.float32)"
    )


def as_array(value: Any, name: str) -> Array:
    """See an array as one that kernels read; :func:`convforge.arrays.as_array` has the contract."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(value, cupy.ndarray):
        # From now on its arrays are known by their device.
        from convforge.arrays import cupy_

        assert cupy_.find(value) is not None
        return value  # type: ignore[no-any-return]
    adapter = _adapter_of(value)
    if adapter is not None:
        if _is_cuda(value):
            return places.take(adapter.lent(value, name), name)
        return adapter.as_numpy(value, name)  # type: ignore[no-any-return]
    if _is_cuda(value) or hasattr(value, "__cuda_array_interface__"):
        return places.take(value, name)
    return as_numpy(value, name)


def _is_cuda(value: Any) -> bool:
    """Whether it says through DLPack that its memory is CUDA's."""
    asks = getattr(value, "__dlpack_device__", None)
    if asks is None:
        return False
    try:
        return asks()[0] in _CUDA_DEVICES
    except (BufferError, RuntimeError, ValueError):
        # A place that DLPack has no number for, such as PyTorch's "meta".
        return False


def home_of(value: Any) -> Callable[[Array], Any]:
    """The way back; :func:`convforge.arrays.home_of` has the contract."""
    if isinstance(value, np.ndarray):
        return _stay
    adapter = _adapter_of(value)
    if adapter is not None:
        return adapter.from_array  # type: ignore[no-any-return]
    if device_of(value) is not None or _is_cuda(value):
        return _stay
    if hasattr(value, "__array_namespace__"):
        return value.__array_namespace__().asarray  # type: ignore[no-any-return]
    return _stay


def _stay(result: Array) -> Array:
    return result


def _adapter_of(value: Any) -> ModuleType | None:
    """The file that knows this framework. One that was never imported cannot own the value."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        from convforge.arrays import torch_

        return torch_
    return None


def _elsewhere(name: str, kind: str) -> str:
    return (
        f"{name} is a {kind} in the memory of a device; this operator runs on the CPU: bring it "
        f"there first ({name}.get() in CuPy, {name}.cpu() in PyTorch)"
    )
