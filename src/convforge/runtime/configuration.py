"""Configurations: values without content, whose Numba type says everything.

A kernel is compiled once for each type of its configuration, and its compiled code is found on disk
by the type's name. Both halves are subclasses of the two classes here::

    class TileType(ConfigurationType):
        def __init__(self, rows):
            self.rows = rows
            super().__init__(name=f"Tile[{rows}]")

    class Tile(Configuration):
        def __init__(self, rows):
            self._numba_type_ = TileType(rows)
"""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox


class ConfigurationType(types.Type):  # type: ignore[misc]  # Numba ships no types
    """Numba type of a configuration; its name tells all that compiled code depends on."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Models, unlike what is registered below, are not inherited.
        register_model(cls)(models.OpaqueModel)


class Configuration:
    """A value whose type is the configuration."""

    _numba_type_: ConfigurationType

    def __repr__(self) -> str:
        return repr(self._numba_type_)


@typeof_impl.register(Configuration)  # type: ignore[untyped-decorator]
def _typeof_configuration(value: Configuration, context: Any) -> ConfigurationType:
    return value._numba_type_


@unbox(ConfigurationType)  # type: ignore[untyped-decorator]
def _unbox_configuration(kind: ConfigurationType, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())
