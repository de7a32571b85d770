"""Modules made of modules."""

# forward and extra_repr mean what Module says.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from convforge.nn.module import Module


class _Sequence(Module):
    """Modules in order, named by their position."""

    def append(self, module: Module) -> _Sequence:
        """Add a module at the end; returns the container."""
        self.add_module(f"{len(self)}", module)
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int | slice) -> Any:
        names = list(self._modules)[index]
        if isinstance(names, str):
            return self._modules[names]
        part = type(self)()
        for name in names:
            part.add_module(name, self._modules[name])
        return part


class Sequential(_Sequence):
    """Each module applied to what the one before it gave.

    Args:
        *modules: Modules, or one dictionary of modules by name.

    Raises:
        TypeError: Something that is no module.
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = (
            modules[0].items()
            if len(modules) == 1 and isinstance(modules[0], dict)
            else ((f"{i}", module) for i, module in enumerate(modules))
        )
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(f"module {name} is a {type(module).__name__}; wanted a Module")
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input


class ModuleList(_Sequence):
    """A list of modules that are all part of this one."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)
