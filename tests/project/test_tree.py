"""Rules of the source tree that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMITS = {"kernels": 300, "src": 500}


def sources(folder: str) -> list[Path]:
    """Files of a folder; ``kernels`` is not seen again through the symlink in ``src``."""
    link = ROOT / "src/convforge/kernels"
    return [
        path
        for pattern in ("*.py", "*.cu", "*.cuh")
        for path in sorted((ROOT / folder).rglob(pattern))
        if not path.is_relative_to(link)
    ]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


ALGORITHM_FILES = [
    path for path in (ROOT / "kernels").glob("*/*.py") if not path.name.startswith("_")
]


def test_kernels_is_a_relative_symlink():
    link = ROOT / "src/convforge/kernels"
    assert link.is_symlink()
    assert link.readlink() == Path("../../kernels")


@pytest.mark.parametrize("folder", LIMITS)
def test_files_stay_readable_in_one_sitting(folder):
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(folder)}
    assert lengths
    too_long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > LIMITS[folder]}
    assert not too_long, f"longer than {LIMITS[folder]} lines: split along directions or parts"


@pytest.mark.parametrize("path", ALGORITHM_FILES, ids=names(ALGORITHM_FILES))
def test_an_algorithm_says_what_it_computes(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    missing = [word for word in ("Computes", "Layout", "Accumulates") if word not in docstring]
    assert not missing, f"the module docstring of {path.name} lacks {missing}"


@pytest.mark.parametrize("path", ALGORITHM_FILES, ids=names(ALGORITHM_FILES))
def test_an_algorithm_has_its_page(path):
    assert (ROOT / "docs/algorithms" / f"{path.stem}.md").exists()


def test_the_folder_kernels_is_never_imported_by_its_own_name():
    """``import kernels`` would load every kernel a second time, or somebody else's package."""
    offenders = []
    for path in [*sources("src"), *sources("kernels"), *sources("tests"), *sources("bench")]:
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            if any(module.split(".")[0] == "kernels" for module in modules):
                offenders.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not offenders
