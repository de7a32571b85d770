"""Find every algorithm: each file of a room declares its own in ``ALGORITHMS``."""

from __future__ import annotations

import importlib
import pkgutil
from fnmatch import fnmatchcase
from functools import cache

from convforge.contract import Algorithm

_ROOMS = {"cpu": ("convforge.kernels.cpu",), "cuda": ("convforge.kernels.cuda_numba",)}


@cache
def _room(device: str) -> tuple[Algorithm, ...]:
    found: list[Algorithm] = []
    for package_name in _ROOMS[device]:
        package = importlib.import_module(package_name)
        for info in pkgutil.iter_modules(package.__path__):
            if not info.name.startswith("_"):
                module = importlib.import_module(f"{package_name}.{info.name}")
                found += module.ALGORITHMS
    if device == "cpu":
        found.append(importlib.import_module("convforge.reference.algorithm").Reference())
    return tuple(sorted(found, key=lambda algorithm: algorithm.name))


def algorithms(device: str | None = None) -> tuple[Algorithm, ...]:
    """Every registered algorithm, sorted by name; of one device, or of all.

    Raises:
        ValueError: An unknown device.
    """
    if device is None:
        return tuple(found for name in _ROOMS for found in _room(name))
    if device not in _ROOMS:
        raise ValueError(f"device {device!r} is unknown; there is {', '.join(_ROOMS)}")
    return _room(device)


def find(pattern: str, device: str = "cpu") -> tuple[Algorithm, ...]:
    """Algorithms whose name, with or without the room, matches a name or glob.

    Raises:
        ValueError: None does; lists the names there are.
    """
    every = algorithms(device)
    found = tuple(
        algorithm
        for algorithm in every
        if fnmatchcase(algorithm.name, pattern)
        or fnmatchcase(algorithm.name.partition(".")[2], pattern)
    )
    if not found:
        names = ", ".join(algorithm.name for algorithm in every)
        raise ValueError(f"algorithm {pattern!r} is unknown; there is {names}")
    return found
