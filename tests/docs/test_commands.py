"""Commands quoted in README.md, CONTRIBUTING.md and docs/ exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def quoted(program: str) -> list[str]:
    """Arguments of each use of a program in a console block."""
    uses = set()
    for page in PAGES:
        for block in CONSOLE.finditer(page.read_text(encoding="utf-8")):
            for line in block[1].splitlines():
                command = line.removeprefix("$ ").partition("#")[0].strip()
                if command.split()[:1] == [program]:
                    uses.add(command.removeprefix(program).strip())
    return sorted(uses)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", quoted("make"))
def test_make_knows_the_target(target):
    dry_run = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", quoted("convforge"))
def test_the_command_line_can_be_read(line):
    """Names and options are known; nothing is run."""
    typer = pytest.importorskip("typer", reason="the cli extra is not installed")
    from convforge.cli.app import app

    name, *arguments = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not any((page.parent / f"{link}{ending}").exists() for ending in ("", ".md"))
    ]
    assert not missing
