"""Named int64 structs shared by Python, which packs them, and kernels, which read them.

GEOMETRY = Layout("Geometry", "N C H W")
geometry = GEOMETRY.view                       # callable inside kernels

GEOMETRY.pack(N=1, C=64, H=56, W=56)           # bytes, on the Python side
geometry(address).C                            # one load, inside a kernel
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, models, register_model

_WORD = ir.IntType(64)


class _StructType(types.Type):  # type: ignore[misc]  # Numba ships no types
    """Numba type of a view: an address whose attributes are int64 loads."""

    def __init__(self, name: str, fields: tuple[str, ...]) -> None:
        self.fields = fields
        super().__init__(name=f"{name}({','.join(fields)})")


@register_model(_StructType)
class _StructModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _WORD)


@infer_getattr
class _StructAttributes(AttributeTemplate):  # type: ignore[misc]
    key = _StructType

    def generic_resolve(self, kind: _StructType, name: str) -> Any:
        return types.int64 if name in kind.fields else None


@lower_getattr_generic(_StructType)  # type: ignore[untyped-decorator]
def _lower_field(context: Any, builder: Any, kind: _StructType, address: Any, name: str) -> Any:
    offset = ir.Constant(_WORD, 8 * kind.fields.index(name))
    return builder.load(builder.inttoptr(builder.add(address, offset), _WORD.as_pointer()))


class Layout:
    """Names of the int64 fields of a kernel's argument struct, in order.

    Attributes:
        fields: The names. nbytes: Size of the struct.
        view: Numba function from an address to a struct with these attributes.
    """

    def __init__(self, name: str, fields: str) -> None:
        self.fields = tuple(fields.split())
        self.nbytes = 8 * len(self.fields)
        self._struct = struct.Struct(f"={len(self.fields)}q")
        kind = _StructType(name, self.fields)

        @intrinsic  # type: ignore[untyped-decorator]
        def view(typing_context: Any, address: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                return args[0]

            return kind(types.intp), codegen

        self.view = view

    def pack(self, **values: int) -> bytes:
        """The struct's bytes; every field must be given."""
        if set(values) != set(self.fields):
            raise TypeError(f"fields {sorted(set(values) ^ set(self.fields))} missing or unknown")
        return self._struct.pack(*(values[name] for name in self.fields))


def pack_table(rows: Sequence[tuple[int, ...]]) -> bytes:
    """A table of int64 rows, to be appended to a struct."""
    flat = [value for row in rows for value in row]
    return struct.pack(f"={len(flat)}q", *flat)
