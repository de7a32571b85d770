"""The page of measurements; the one in the repository is made of the numbers in the repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from convforge.bench import goals, record, results
from convforge.bench.bound import Bound
from convforge.bench.catalogue import GROUPS
from convforge.bench.groups import Run
from convforge.bench.timer import STANDARD

pytest.importorskip("jinja2", reason="the report extra is not installed")

from convforge.bench import page

ROOT = Path(__file__).parents[2]
COMMAND = "convforge bench dense --json x"


@pytest.fixture
def measured(tmp_path, measurement, table):
    fast = measurement(
        "3x3 fast",
        2 * 10**9,
        convforge_warm=(0.01,),
        torch_warm=(0.03,),
        onnxruntime_warm=(0.02,),
        convforge_functional=(0.02,),
    )
    fast = replace(fast, bound=Bound(0.008, "flops"))
    slow = measurement("1x1 slow", 10**9, "cpu.conv_im2col", convforge_warm=(0.01,))
    tables = (
        table(fast, slow, name="dense_batch1", title="batch 1", notes=("1x1 slow: no torch: x",)),
        table(name="dense_batch16", title="batch 16", threads=1, notes=("every layer: no time",)),
    )
    run = Run(itself={2: 1.01, 1: 0.99}, tables=tables, seconds=1.0)
    made = record.group_record(GROUPS["dense"], run, goals.of_group(tables), STANDARD, COMMAND) | {
        "date": "2026-03-04T05:06:07+00:00"
    }
    results.merge(tmp_path, "dense", made)
    return results.read(tmp_path)


def test_rates_ratios_and_the_best_peer_are_shown(measured):
    lines = page.render(measured).splitlines()
    (fast,) = (line for line in lines if line.startswith("| 3x3 fast"))
    cells = [cell.strip() for cell in fast.strip("|").split("|")]
    heading = next(line for line in lines if line.startswith("| layer"))
    by_name = dict(zip((h.strip() for h in heading.strip("|").split("|")), cells, strict=True))
    assert by_name == {
        "layer": "3x3 fast",
        "algorithm": "`conv_direct`",
        "convforge functional": "100",
        "convforge warm": "200",
        "PyTorch": "66.7",
        "onnxruntime": "100",
        "functional × best": "1.00",
        "warm × best": "2.00",
        "best peer": "onnxruntime",
        "of bound": "80%",
        "bound by": "flops",
        "spread": "0%",
    }
    (slow,) = (line for line in lines if line.startswith("| 1x1 slow"))
    assert "–" in slow and "None" not in slow


def test_every_table_has_its_date_machine_and_command(measured):
    text = page.render(measured)
    (kind,) = measured["machines"]
    caption = f"2026-03-04 · {kind} · `{COMMAND}`"
    assert text.count("| layer") == 1
    assert text.count(caption) == 3  # what was promised, and two tables, one of them empty
    assert f"| dense | 2 of 8 | 2026-03-04 | `{COMMAND}` |" in text


def test_what_was_missed_and_what_is_missing_are_said(measured):
    text = page.render(measured)
    assert "**no**" in text
    assert "* 1x1 slow: no torch: x" in text and "* every layer: no time" in text
    assert "2 threads 1.010, 1 thread 0.990" in text
    assert "nan" not in text


def test_machines_stand_side_by_side(measured):
    (kept,) = measured["machines"].values()
    both = {"machines": {"A": kept, "B": kept}}
    text = page.render(both)
    assert "\n## A\n" in text and "\n## B\n" in text


def test_the_page_of_the_repository_was_written_by_the_command():
    text = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert text == page.render(results.read(ROOT / "bench/results")), (
        "run 'convforge bench report' after measuring; the page is not edited by hand"
    )
