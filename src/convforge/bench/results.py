"""All measurements that are quoted anywhere, in one file: by machine, then by group.

A run replaces its own group's numbers on its own machine, and touches nothing else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "measured.json"
_DEEP = 8
"""Levels that are laid out over lines; below them, a layer is one line."""


def read(path: Path) -> dict[str, Any]:
    """What a file, or the file of a folder, holds; nothing if there is none.

    Raises:
        ValueError: The file holds something else.
    """
    path = _file(path)
    if not path.exists():
        return {"machines": {}}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or "machines" not in found:
        raise ValueError(f"{path} is not a file of measurements: it has no 'machines'")
    return found


def merge(path: Path, group: str, record: Mapping[str, Any]) -> Path:
    """Put the record of one group into a file, or into the file of a folder; returns which."""
    path, everything = _file(path), read(path)
    machine = record["machine"]
    kept = everything["machines"].setdefault(machine_kind(machine), {"groups": {}})
    kept["machine"] = machine
    kept["groups"][group] = {key: value for key, value in record.items() if key != "machine"}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a half-written file would lose every other group.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(_spell(everything) + "\n", encoding="utf-8")
    fresh.replace(path)
    return path


def machine_kind(machine: Mapping[str, Any]) -> str:
    """What tells machines apart: the processor, how many cores, the instructions used."""
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}"


def _file(path: Path) -> Path:
    return path if path.suffix == ".json" else path / FILE


def _spell(value: Any, depth: int = 0) -> str:
    """JSON that shows what changed, a layer a line."""
    leaf = not isinstance(value, dict | list) or not value
    if leaf or depth >= _DEEP or all(not isinstance(v, dict | list) for v in _values(value)):
        return json.dumps(value, ensure_ascii=False)
    pad = "\n" + " " * (depth + 1)
    if isinstance(value, dict):
        inner = [f"{json.dumps(k)}: {_spell(v, depth + 1)}" for k, v in value.items()]
        return "{" + pad + f",{pad}".join(inner) + pad[:-1] + "}"
    return "[" + pad + f",{pad}".join(_spell(v, depth + 1) for v in value) + pad[:-1] + "]"


def _values(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value
