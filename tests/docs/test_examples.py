"""The Python of README.md and docs/ runs, page by page, in the order it is read."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convforge.testing import peers

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]
FRAMEWORKS = {"pytorch.md": "torch"}
"""Pages about a framework that may not be installed."""
# Keras has one backend in a process, chosen before it is imported.
KERAS = [page for page in PAGES if "KERAS_BACKEND" in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in KERAS],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_examples_run(page):
    if page.name in FRAMEWORKS:
        peers.require(FRAMEWORKS[page.name])
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__page__"}
    for block in BLOCK.finditer(text):
        # Leading newlines make a traceback point into the page.
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], str(page), "exec"), namespace)


@pytest.mark.peer
@pytest.mark.parametrize("page", KERAS, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_with_keras_run(page):
    for name in ("keras", "torch"):
        if importlib.util.find_spec(name) is None:
            peers.require(name)
    blocks = [block[1] for block in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_front_page_opens_with_ten_lines():
    block = BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert block.start() < 40
    assert sum(1 for line in block[1].splitlines() if line) <= 10
