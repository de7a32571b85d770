"""Sphinx configuration; `make docs` builds with warnings as errors."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import convforge
from convforge import registry

project = "convforge"
author = "convforge developers"
copyright = "2026, convforge developers"
version = release = convforge.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = "convforge"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
# ConvProblem.bytes and PoolProblem.bytes shadow the builtin in their own annotations.
suppress_warnings = ["ref.python"]
if find_spec("torch") is None:
    # The page of convforge.torch is then without its reference.
    suppress_warnings.append("autodoc.import_object")
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def write_catalogue() -> None:
    """Table of the registered algorithms, included by algorithms/index.md."""
    rows = [
        "| algorithm | largest error, units | exact on integers | bits independent of |",
        "|---|---|---|---|",
    ]
    for algorithm in registry.algorithms():
        promises = {
            "threads": algorithm.traits.thread_invariant,
            "batch": algorithm.traits.batch_invariant,
            "run": algorithm.traits.deterministic,
        }
        free_of = ", ".join(name for name, kept in promises.items() if kept)
        growth = f"{algorithm.tolerance.growth:g}" + " (by plane)" * algorithm.tolerance.planewise
        exact = "yes" if algorithm.tolerance.exact else "no"
        rows.append(f"| `{algorithm.name}` | {growth} | {exact} | {free_of} |")
    folder = Path(__file__).parent / "_generated"
    folder.mkdir(exist_ok=True)
    (folder / "algorithms.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


write_catalogue()
