"""Measurements for files: JSON that says when, where and with what they were taken."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import convforge
from convforge.bench.foundation import Foundation
from convforge.bench.goals import Goal
from convforge.bench.groups import Group, Run
from convforge.bench.measure import Measurement, Table
from convforge.bench.models import CONVERT, ONNXRUNTIME, OPTIMIZE, TORCH, Model
from convforge.bench.rows import Row
from convforge.bench.scaling import Scaling
from convforge.bench.timer import Method, geometric_mean
from convforge.runtime import machine, threads

_PACKAGES = ("numpy", "numba", "llvmlite", "torch", "onnxruntime", "openvino", "ncnn", "mnn")


_FOUNDATION_TITLE = "foundation"
_FOUNDATION_ABOUT = (
    "Thirteen dense layers of ResNet-50, VGG-16 and a dilated backbone, one image each, in all "
    "three directions, with the direct algorithm; the cost of a call and of a start."
)

_SCALING_TITLE = "time and work"
_SCALING_ABOUT = (
    "A 3x3 layer from 128 channels to as many on one image of 56x56 pixels, weights prepared, of "
    "which one quantity grows at a time. Dashed is the straight line from which times differ "
    "least, counted as shares; for threads, the time of one thread divided by their number."
)


_MODELS_TITLE = "whole networks"
_MODELS_ABOUT = (
    "Networks on random images of 224x224 pixels: PyTorch in both memory orders, the same model by "
    "`convforge.torch.convert` (weights frozen) and by `convforge.torch.optimize`, and onnxruntime "
    "on the exported model; steps of training (forward, backward, SGD) by PyTorch and by "
    "`convert`. Memory is what a process grows by, at most, from the model alone, at batch 8: "
    "prepared weights are part of it, and for NHWC a copy of the model."
)


def circumstances(method: Method, command: str = "") -> dict[str, Any]:
    """Command, date, machine, versions, commit and the timer's settings."""
    cpu = machine.cpu()
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "cpu": machine.cpu_name(),
            "cores": machine.cpu_count(),
            "isa": cpu.isa,
            "l1_bytes": cpu.l1_bytes,
            "l2_bytes": cpu.l2_bytes,
            "l3_bytes": cpu.l3_bytes,
            "threading_layer": threads.layer(),
            "system": platform.platform(),
        },
        "versions": {
            "convforge": convforge.__version__,
            "python": platform.python_version(),
            **{name: found for name in _PACKAGES if (found := version(name))},
        },
        "method": asdict(method),
    }


def table_record(table: Table) -> dict[str, Any]:
    """One table: every time in milliseconds, every ratio, and their summaries."""
    return {
        "name": table.name,
        "title": table.title,
        "threads": table.threads,
        "peak_gflops": _number(table.peak_gflops),
        "unit": table.unit,
        "peers": list(table.peers),
        "layers": [_layer_record(table, one) for one in table.measured],
        "summary": {
            f"{row} / {peer}": {
                "geometric_mean": _number(geometric_mean(ratios)),
                "lowest": _number(min(ratios)),
                "layers": len(ratios),
            }
            for row in Row
            for peer in table.peers
            if (ratios := table.ratios(row, peer))
        },
        "notes": list(table.notes),
    }


def write(path: Path, record: dict[str, Any], name: str) -> Path:
    """Write a record; into a folder it goes as ``<name>-<isa>.json``. Returns where it is."""
    if path.suffix != ".json":
        path = path / f"{name}-{machine.isa()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _layer_record(table: Table, one: Measurement) -> dict[str, Any]:
    return {
        "label": one.label,
        "problem": one.problem,
        "algorithm": one.algorithm,
        "flops": one.flops,
        "bytes": one.bytes,
        "error_units": _number(one.error_units),
        "times": {
            who: {"median_ms": _number(timing.median_s * 1e3), "spread": _number(timing.spread)}
            | ({"error_units": _number(one.errors[who])} if who in one.errors else {})
            for who, timing in one.timings.items()
        },
        "ratios": {
            f"{row} / {peer}": _number(ratio)
            for row in Row
            for peer in table.peers
            if not math.isnan(ratio := one.ratio(row, peer))
        },
        "bound": {
            "by": one.bound.by,
            "ms": _number(one.bound.seconds * 1e3),
            "share": _number(one.share_of_bound()),
        },
        "best": {
            str(row): {"peer": peer, "ratio": _number(ratio)}
            for row in Row
            for ratio, peer in [one.best(row, table.peers)]
            if peer
        },
    }


def _number(value: float) -> float | None:
    """Four digits; JSON has no NaN."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def version(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of a checkout, marked if files differ from it; None outside of one."""
    package = Path(convforge.__file__)

    def git(*words: str) -> str:
        command = ["git", "-C", str(package.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", package.name)  # fails in somebody else's repository
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return None


def tables_record(tables: Iterable[Table], method: Method, command: str = "") -> dict[str, Any]:
    """Several tables and their circumstances."""
    return {**circumstances(method, command), "tables": [table_record(table) for table in tables]}


def group_record(
    group: Group, found: Run, goals: Iterable[Goal], method: Method, command: str
) -> dict[str, Any]:
    """A run of a group: what it is, its tables and its promises."""
    return {
        "title": group.title,
        "about": group.about,
        "seconds": _number(found.seconds),
        **tables_record(found.tables, method, command),
        **_judged(found.itself, goals),
    }


def foundation_record(
    found: Foundation, goals: Iterable[Goal], method: Method, command: str = ""
) -> dict[str, Any]:
    """A run of the foundation: the tables, the costs of a call and of a start, the promises."""
    return {
        "title": _FOUNDATION_TITLE,
        "about": _FOUNDATION_ABOUT,
        **tables_record(found.tables, method, command),
        "tiny": table_record(found.tiny),
        "startup": {name: _number(value) for name, value in asdict(found.startup).items()},
        **_judged(found.itself, goals),
    }


def scaling_record(
    found: Scaling, goals: Iterable[Goal], method: Method, command: str = ""
) -> dict[str, Any]:
    """A run of the scaling: every time in milliseconds, and the line it lies near."""
    return {
        "title": _SCALING_TITLE,
        "about": _SCALING_ABOUT,
        "seconds": _number(found.seconds),
        **tables_record((), method, command),
        "series": [
            {
                "quantity": one.quantity,
                "algorithm": one.algorithm,
                "threads": one.threads,
                "points": [
                    {
                        "at": point.at,
                        "problem": point.problem,
                        "median_ms": _number(point.median_s * 1e3),
                        "expected_ms": _number(one.expected_s(point.at) * 1e3),
                        "spread": _number(point.spread),
                    }
                    for point in one.points
                ],
            }
            for one in found.series
        ],
        **_judged({}, goals),
    }


def models_record(
    found: Iterable[Model], goals: Iterable[Goal], method: Method, command: str = ""
) -> dict[str, Any]:
    """A run of whole networks: every time in milliseconds, every ratio, memory."""
    return {
        "title": _MODELS_TITLE,
        "about": _MODELS_ABOUT,
        **tables_record((), method, command),
        "models": [
            {
                "title": one.title,
                "times": {
                    who: {
                        "median_ms": _number(timing.median_s * 1e3),
                        "spread": _number(timing.spread),
                    }
                    for who, timing in one.timings.items()
                },
                "ratios": {
                    f"{ours} / {name}": _number(one.ratio(ours, theirs))
                    for ours in (CONVERT, OPTIMIZE)
                    for name, theirs in (("PyTorch", TORCH), (ONNXRUNTIME, (ONNXRUNTIME,)))
                },
                "weights_bytes": one.weights_bytes,
                "prepared_bytes": one.prepared_bytes,
                "peak_bytes": one.peak_bytes,
                "notes": list(one.notes),
            }
            for one in found
        ],
        **_judged({}, goals),
    }


def _judged(itself: Mapping[int, float], goals: Iterable[Goal]) -> dict[str, Any]:
    return {
        "harness_against_itself": {
            f"{count} threads": _number(ratio) for count, ratio in itself.items()
        },
        "goals": [asdict(goal) | {"value": _number(goal.value), "met": goal.met} for goal in goals],
    }
