"""What a wheel would hold. `make wheel-check` builds one and runs it."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

import convforge

setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def packages() -> set[str]:
    find = SETUPTOOLS["packages"]["find"]
    assert find["namespaces"] is False
    return set(setuptools.find_packages(str(ROOT / find["where"][0])))


def packed(package: str) -> set[Path]:
    """Files of one package that go into a wheel: its modules and its package data."""
    folder = ROOT / "src" / Path(*package.split("."))
    patterns = ["*.py", *SETUPTOOLS["package-data"].get(package, [])]
    return {path for pattern in patterns for path in folder.glob(pattern)}


def test_every_folder_with_modules_is_a_package():
    home = ROOT / "src/convforge"
    modules = {path.relative_to(home) for path in home.rglob("*.py")}
    modules |= {path.relative_to(ROOT) for path in (ROOT / "kernels").rglob("*.py")}
    assert {".".join(("convforge", *module.parent.parts)) for module in modules} == packages()


def test_every_file_of_kernels_reaches_the_wheel():
    link = ROOT / "src/convforge/kernels"
    wanted = {
        link / path.relative_to(ROOT / "kernels")
        for path in (ROOT / "kernels").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    rooms = [package for package in packages() if package.startswith("convforge.kernels")]
    assert set().union(*map(packed, rooms)) == wanted


def test_shape_lists_and_the_typing_marker_reach_the_wheel():
    assert ROOT / "src/convforge/py.typed" in packed("convforge")
    shapes = set((ROOT / "src/convforge/bench/shapes").iterdir())
    assert shapes and packed("convforge.bench") >= shapes


def test_the_sources_of_the_emulator_reach_the_wheel():
    sources = set((ROOT / "src/convforge/testing/emulator/cpp").iterdir())
    assert sources and packed("convforge.testing.emulator") >= sources


def test_the_version_is_the_package_s_own():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert SETUPTOOLS["dynamic"]["version"]["attr"] == "convforge.__version__"
    assert f"## [{convforge.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_command_exists():
    module, _, function = PROJECT["project"]["scripts"]["convforge"].partition(":")
    assert importlib.util.find_spec(module) is not None
    assert function == "main"


def test_every_extra_but_development_is_in_all():
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(everything.partition("[")[2].rstrip("]").split(","))
    # The two CUDA majors exclude each other; docs and test are within dev.
    assert set(extras) - named == {"all", "cuda12", "cuda13", "docs", "gpucheck", "test"}
