"""Where arrays lie: the functions for them, and the way to another place, for those who ask."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np

from convforge.arrays.numpy_ import Array
from convforge.runtime.cuda.compiler import CudaUnavailableError
from convforge.runtime.cuda.device import Device, Provider, device_of, providers

HOST = "cpu"
"""The name of host memory, beside those of devices."""
_STAY: AbstractContextManager[Any] = nullcontext()


def namespace(array: Any) -> Any:
    """NumPy's functions for arrays that lie where this one does: NumPy itself, or CuPy."""
    if array.__class__ is np.ndarray:
        return np
    device = device_of(array)
    return np if device is None else device.namespace


def current(array: Any) -> AbstractContextManager[Any]:
    """Inside, :func:`namespace` makes its arrays where this one lies."""
    if array.__class__ is np.ndarray:
        return _STAY
    device = device_of(array)
    return _STAY if device is None else device.current()


def copied(array: Array) -> Array:
    """A copy where an array lies, in its memory order."""
    with current(array):
        return namespace(array).array(array)  # type: ignore[no-any-return]


def where(array: Any) -> str:
    """The name of an array's place: ``cpu``, or that of a device, such as ``cuda:0``."""
    device = device_of(array)
    return HOST if device is None else device.name


def words(device: Device | None) -> str:
    """A place as messages name it."""
    return "in host memory" if device is None else f"on {device.name}"


def is_place(word: object) -> bool:
    """Whether something is the name of a place and not, say, of a type."""
    if not isinstance(word, str):
        return False
    kind = word.partition(":")[0]
    return kind in (HOST, "cuda") or any(p.open(word) is not None for p in providers())


def device_named(name: str) -> Device | None:
    """The device of a name; None is host memory.

    Args:
        name: ``"cpu"``, ``"cuda"`` (CuPy's current device), ``"cuda:1"``.

    Raises:
        ValueError: No such name, or no device of this number.
        CudaUnavailableError: No GPU, no driver, no CuPy; says what to install.
    """
    if name == HOST:
        return None
    if not is_place(name):
        raise ValueError(f"device is {name!r}; wanted 'cpu', 'cuda' or 'cuda:0'")
    for provider in _every_provider():
        device = provider.open(name)
        if device is not None:
            return device
    raise ValueError(f"device is {name!r}; wanted 'cpu', 'cuda' or 'cuda:0'")


def take(value: Any, name: str) -> Array:
    """An array of CuPy's over the memory of another library's, on its device.

    Raises:
        CudaUnavailableError: There is no CuPy, or it sees no GPU.
        TypeError: CuPy does not take it; says why.
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    refusal = None
    for provider in _every_provider():
        try:
            found = provider.take(value)
        except CudaUnavailableError as error:
            refusal = error
            continue
        if found is not None:
            return found  # type: ignore[no-any-return]
    place = f"{name} is a {kind} in the memory of a device"
    if refusal is not None:
        raise CudaUnavailableError(f"{place}: {refusal}") from None
    raise TypeError(f"{place} that CuPy does not see")


def move(array: Array, device: Device | None) -> Array:
    """An array's values in another place; the array itself if it lies there already."""
    here = device_of(array)
    if here is device:
        return array
    on_host = array if here is None else here.get(array)
    return on_host if device is None else device.put(on_host)


def to_host(array: Array) -> Array:
    """An array's values as a NumPy array: itself, or a copy of what is on a device."""
    return move(array, None)


def common_device(**arrays: Array | None) -> Device | None:
    """The one device that arrays lie on; None if all are in host memory.

    Raises:
        TypeError: They lie in different places. Nothing is moved between them.
    """
    for array in arrays.values():
        if array is not None and array.__class__ is not np.ndarray:
            return _common(arrays)
    return None


def _common(arrays: Mapping[str, Array | None]) -> Device | None:
    (first, array), *others = [(n, a) for n, a in arrays.items() if a is not None]
    place = device_of(array)
    for name, other in others:
        if device_of(other) is not place:
            here, there = (words(device_of(a)) for a in (array, other))
            raise TypeError(
                f"{first} is {here} and {name} is {there}; arrays are never moved silently: bring "
                "both to one place first, with cupy.asarray(array) or array.get(), and Tensors "
                "and layers with .to('cuda') or .to('cpu')"
            )
    return place


def _every_provider() -> Iterator[Provider]:
    """Those that are there, and CuPy, whoever imports it first."""
    yield from providers()
    if "convforge.arrays.cupy_" not in sys.modules:
        yield _cupy()


def _cupy() -> Provider:
    """CuPy's, which registers itself where CuPy is; else one that says that it is not."""
    try:
        import_module("cupy")
    except ImportError as error:
        reason = (
            f"CuPy is not installed ({error}), and arrays of a GPU are its: pip install "
            "'convforge[cuda13]', or 'convforge[cuda12]' for a driver of CUDA 12"
        )

        def refuse(_: Any) -> None:
            raise CudaUnavailableError(reason)

        return Provider(find=lambda array: None, open=refuse, take=refuse)
    return import_module("convforge.arrays.cupy_").PROVIDER  # type: ignore[no-any-return]
