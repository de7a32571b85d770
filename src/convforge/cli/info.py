"""``convforge info``: what is here, and how fast it can be."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from convforge.cli.screen import console

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGES = ("numpy", "numba", "llvmlite", "ml_dtypes", "scipy", "torch", "onnxruntime", "cupy")


def info(
    measure: Annotated[
        bool, typer.Option(help="Measure peak FMA and copy rates (takes a few seconds).")
    ] = True,
) -> None:
    """Versions, processor, threads, measured ceilings, GPUs and caches."""
    view = Table.grid(padding=(0, 3))
    view.add_column(style="bold", no_wrap=True)
    view.add_column()
    sections = [("convforge", _versions()), ("processor", _processor()), ("threads", _threads())]
    if measure:
        sections.append(("ceilings", _ceilings()))
    sections += [("gpu", _gpus()), ("caches", _caches())]
    for name, lines in sections:
        view.add_row(name, "\n".join(lines))
    console().print(view)


def _versions() -> Iterator[str]:
    import convforge

    yield f"{convforge.__version__}, Python {platform.python_version()}, {platform.platform()}"
    found = {package: _version(package) for package in _PACKAGES}
    yield ", ".join(f"{name} {version}" for name, version in found.items() if version)
    absent = [name for name, version in found.items() if version is None]
    if absent:
        yield f"not installed: {', '.join(absent)}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> Iterator[str]:
    from convforge.runtime import machine

    cpu = machine.cpu()
    yield f"{machine.cpu_name()}, {machine.cpu_count()} cores"
    yield (
        f"code is generated for {cpu.isa}: {cpu.registers} registers of {cpu.vector_bytes} bytes "
        f"({cpu.vector_bytes // 4} float32)"
    )
    levels = (("L1", cpu.l1_bytes), ("L2", cpu.l2_bytes), ("L3", cpu.l3_bytes))
    yield "data caches " + ", ".join(f"{name} {binary_size(size)}" for name, size in levels)


def _threads() -> Iterator[str]:
    from convforge.runtime import threads

    yield f"{threads.get_num_threads()} a call, threading layer {threads.layer()}"


def _ceilings() -> Iterator[str]:
    from convforge.runtime import machine, threads

    counts = sorted({1, threads.get_num_threads()})
    for dtype, name in (("f32", "float32"), ("f64", "float64")):
        rates = (f"{machine.peak_gflops(dtype, n):.0f} ({_threads_word(n)})" for n in counts)
        yield f"{name} FMA, GFLOP/s: {', '.join(rates)}"
    for level in ("L2", "L3", "memory"):
        rates = (f"{machine.copy_gbytes(level, n):.0f} ({_threads_word(n)})" for n in counts)
        yield f"copy in {level}, GB/s read plus written: {', '.join(rates)}"


def _threads_word(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _gpus() -> Iterator[str]:
    from convforge.cli.gpus import describe

    yield from describe()


def _caches() -> Iterator[str]:
    from convforge.runtime.paths import cache_dir

    folder = cache_dir()
    files, size = _count(folder)
    yield f"{folder}: {files} files, {binary_size(size)}"


def _count(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def binary_size(count: int) -> str:
    """Bytes in words: ``1.5 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"
