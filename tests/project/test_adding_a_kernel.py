"""One new file in a room is a new algorithm: listed, tested and benched with no other edit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/adding_a_kernel.md"
PROBLEM = "fprop:f32:n1c3h8w7_k4r3s2_st2x1_p1x0"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A folder with the page's file, which ``import extra_room`` makes part of the CPU room."""
    folder = tmp_path_factory.mktemp("extra")
    source = re.search(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)[1]
    (folder / "room").mkdir()
    (folder / "room/conv_loops.py").write_text(source, encoding="utf-8")
    (folder / "extra_room.py").write_text(
        f"import convforge.kernels.cpu as room\nroom.__path__.append({str(folder / 'room')!r})\n",
        encoding="utf-8",
    )
    return folder


def run(room, *arguments):
    """Standard output of Python with ``extra_room`` importable."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(room), *sys.path])}
    environment |= {"COLUMNS": "200"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def convforge(room, *arguments):
    code = "import sys, extra_room; from convforge.cli import main; main()"
    return run(room, "-c", code, *arguments)


def test_it_is_not_there_without_the_file():
    from convforge import registry

    assert "cpu.conv_loops" not in [algorithm.name for algorithm in registry.algorithms()]


def test_the_command_lists_it(room):
    assert "conv_loops" in convforge(room, "algorithms")


def test_the_tests_judge_it(room):
    """Its cases are made, run, and pass."""
    pytest = ("-m", "pytest", "-p", "extra_room", "-p", "no:cacheprovider", "-q")
    ran = run(room, *pytest, "tests/kernels", "-k", "conv_loops")
    assert int(re.search(r"(\d+) passed", ran)[1]) > 100


def test_the_bench_measures_it(room):
    options = ("--quick", "--peers", "", "--rows", "warm", "--threads", "1")
    table = convforge(room, "bench", PROBLEM, "--algorithm", "conv_loops", *options)
    assert "cpu.conv_loops" in table
    assert "3→4 @8x7" in table
