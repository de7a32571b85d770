"""Every algorithm's page: where it wins, its sources, and what it was measured to err by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convforge.registry import algorithms
from convforge.testing import errors

pytest.importorskip("rich", reason="the cli extra is not installed")

from convforge.cli.algorithms import documented, stem
from convforge.cli.errors import markdown

PAGES = Path(__file__).parents[2] / "docs/algorithms"
DOCUMENTED = {one.name.partition(".")[2]: one for one in algorithms("cpu") if documented(one)}
STEMS = sorted({stem(one) for one in DOCUMENTED.values()})
ROW = re.compile(r"^\| `(\S+)` \| (\w+) \| ([\d.e+-]+) \| (\d+)( by plane)? \|", re.MULTILINE)


@pytest.mark.parametrize("name", STEMS)
def test_a_page_has_what_a_reader_looks_for(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert "\n## Good at, bad at\n" in text and "\n## Error\n" in text
    sources = text.partition("\n## Sources\n")[2]
    assert re.search(r"arXiv:|doi:|hal:|\{doc\}", sources)
    assert f"```{{include}} errors.md\n:start-after: <!-- {name} -->\n" in text


def test_measured_errors_are_those_of_todays_algorithms_and_within_their_promises():
    text = (PAGES / "errors.md").read_text(encoding="utf-8")
    rows = ROW.findall(text)
    assert len(rows) == text.count("\n| `")
    assert {name for name, *_ in rows} == set(DOCUMENTED)
    for name, _, units, promised, planewise in rows:
        tolerance = DOCUMENTED[name].tolerance
        assert (float(promised), bool(planewise)) == (tolerance.growth, tolerance.planewise)
        assert float(units) <= tolerance.growth
    for name in STEMS:
        section = text.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- end of {name} -->")[0]
        assert section.startswith("| algorithm |") and section.count(f"\n| `{name}")


def test_errors_are_measured_and_written(monkeypatch):
    monkeypatch.setattr(errors, "LAYERS", ("n1c16h6w7_k8r3s3_p1x1",))
    monkeypatch.setattr(errors, "TYPES", errors.TYPES[:1])
    (one,) = errors.measure([DOCUMENTED["conv_direct"]])
    assert one.algorithm == "cpu.conv_direct" and 0 < one.units <= one.promised == 4
    assert one.problem.endswith("n1c16h6w7_k8r3s3_p1x1")
    (row,) = ROW.findall(markdown([one]))
    assert row == ("conv_direct", "f32", f"{one.units:.2g}", "4", "")
