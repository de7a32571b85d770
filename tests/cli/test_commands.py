from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from convforge import registry
from convforge.cli.app import app

RUN = CliRunner()


def convforge(*words: str) -> str:
    """What a command that must succeed prints."""
    done = RUN.invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_help_lists_the_commands():
    shown = convforge("--help")
    for command in ("info", "explain", "algorithms", "bench", "demo"):
        assert command in shown


def test_help_starts_no_compiler():
    code = (
        "import sys\n"
        "from convforge.cli.app import app\n"
        "sys.exit(bool({'numba', 'torch', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_it_says_which():
    code = "import sys\nsys.modules['typer'] = None\nfrom convforge.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'convforge[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_info():
    shown = convforge("info", "--no-measure")
    for word in ("numpy", "numba", "registers", "threading layer", "gpu", "caches"):
        assert word in shown
    assert "FMA" not in shown


def test_info_names_the_ceilings(monkeypatch):
    monkeypatch.setattr("convforge.runtime.machine.peak_gflops", lambda dtype, n: 100.0 * n)
    monkeypatch.setattr("convforge.runtime.machine.copy_gbytes", lambda level, n: 10.0 * n)
    shown = convforge("info")
    assert "float32 FMA, GFLOP/s: 100 (1 thread)" in shown
    for level in ("L2", "L3", "memory"):
        assert f"copy in {level}, GB/s read plus written: 10 (1 thread)" in shown


def test_explain_shows_the_choice_the_refusals_and_the_launches():
    shown = convforge("explain", "fprop:f32:nhwc-krsc:n1c8h6w6_k8r3s3_p1x1")
    assert "fprop:f32:nhwc-krsc:n1c8h6w6_k8r3s3_p1x1" in shown
    assert "▶" in shown and "workspace" in shown and "step" in shown
    for algorithm in registry.algorithms("cpu"):
        assert algorithm.name in shown


def test_explain_obeys_its_options():
    shown = convforge("explain", "fprop:f32:n1c8h6w6_k8r3s3", "--algorithm", "reference")
    assert "algorithm='reference' was asked for" in shown
    chosen = next(line for line in shown.splitlines() if "▶" in line)
    assert "cpu.reference" in chosen


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("explain", "conv3x3"), "cannot read problem"),
        (("explain", "fprop:f32:n1c8h6w6_k8r3s3", "--algorithm", "magic"), "magic"),
        (("explain", "fprop:f32:n1c8h6w6_k8r3s3", "--accuracy", "great"), "great"),
        (("algorithms", "--device", "abacus"), "abacus"),
        (("bench", "alexnet"), "no suite 'alexnet'"),
        (("bench", "--peers", "caffe"), "no peer 'caffe'"),
        (("bench", "--rows", "lukewarm"), "lukewarm"),
        (("bench", "vgg19", "--layout", "chwn"), "chwn"),
    ],
)
def test_wrong_words_are_refused_in_words(words, reason):
    done = RUN.invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 2
    assert "error:" in done.output
    assert reason in " ".join(done.output.split())


def test_algorithms_lists_every_one():
    shown = convforge("algorithms")
    for algorithm in registry.algorithms():
        assert algorithm.name in shown
        if algorithm.name != "cpu.reference":
            assert f"docs/algorithms/{algorithm.name.split('.')[1]}.md" in shown
    reference = shown.partition("cpu.reference")[2]
    for word in ("fprop", "dgrad", "wgrad", "bf16", "exact"):
        assert word in reference


def test_bench_lists_suites():
    assert "foundation" in convforge("bench", "?").split()


def test_bench_of_a_problem_prints_a_table_and_writes_json(tmp_path, monkeypatch):
    monkeypatch.setattr("convforge.runtime.machine.peak_gflops", lambda dtype, n: 100.0)
    shown = convforge(
        "bench",
        "fprop:f32:nhwc-krsc:n1c8h6w6_k8r3s3_p1x1",
        "--quick",
        "--peers",
        "",
        "--threads",
        "1",
        "--rows",
        "functional,warm",
        "--json",
        str(tmp_path),
    )
    assert "3x3 8→8 @6" in shown and "1 thread" in shown
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("problems-")
    (table,) = json.loads(path.read_text())["tables"]
    (layer,) = table["layers"]
    assert set(layer["times"]) == {"convforge warm", "convforge functional"}
    assert layer["error_units"] <= 4
