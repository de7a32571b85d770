from __future__ import annotations

import json

import pytest
from rich.console import Console

from convforge.bench import goals, record, report
from convforge.bench.foundation import Foundation
from convforge.bench.startup import Startup
from convforge.bench.timer import STANDARD

STARTUP = Startup(import_s=0.01, first_ever_s=5.0, new_process_s=0.6, trivial_s=0.4)


def text(renderable) -> str:
    console = Console(width=150)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.strip() for line in capture.get().splitlines())


@pytest.fixture
def two_layers(measurement, table):
    fast = measurement(
        "3x3 fast",
        10**9,
        convforge_warm=(0.01, 0.01),
        convforge_functional=(0.02, 0.02),
        torch_warm=(0.02, 0.02),
    )
    slow = measurement("1x1 slow", 10**8, convforge_warm=(0.01, 0.01), torch_warm=(0.005, 0.005))
    return table(fast, slow, notes=("1x1 slow: no onnxruntime: too hard",))


def test_the_table_shows_rates_shares_ratios_and_their_summary(two_layers):
    lines = text(report.render(two_layers)).splitlines()
    title = lines[0]
    for part in ("forward NHWC", "2 threads", "cpu.conv_direct", "200"):
        assert part in title
    fast = next(line for line in lines if line.startswith("3x3 fast")).split()
    # torch 50, plan 100, half of the peak, twice as fast, of four times that are possible
    assert fast[2:7] == ["50", "100", "50%", "2.00", "4.00"]
    mean = next(line for line in lines if "geometric mean" in line).split()
    assert mean[2:5] == ["16%", "1.00", "6.32"]
    lowest = next(line for line in lines if line.startswith("lowest")).split()
    assert lowest[1:4] == ["5%", "0.50", "4.00"]
    assert "no onnxruntime: too hard" in lines[-1]


def test_columns_that_nobody_has_are_left_out(two_layers):
    headings = text(report.render(two_layers)).partition("─")[0]
    assert "torch" in headings
    assert "cold" not in headings and "/ort" not in headings


def test_missing_numbers_are_dashes(two_layers):
    lines = text(report.render(two_layers)).splitlines()
    slow = next(line for line in lines if line.startswith("1x1 slow"))
    assert "–" in slow and "nan" not in slow


def test_algorithms_are_named_where_they_differ(measurement, table):
    one = measurement("a", 10**8, "cpu.conv_direct", convforge_warm=(0.1,))
    other = measurement("b", 10**8, "cpu.conv_im2col", convforge_warm=(0.1,))
    shown = text(report.render(table(one, other)))
    assert "cpu.conv_direct" in shown and "cpu.conv_im2col" in shown


def test_an_empty_table_still_says_why(table):
    shown = text(report.render(table(notes=("3x3: torch warm is wrong by 5 units",))))
    assert "wrong by 5 units" in shown


def test_goals_are_met_on_the_right_side():
    at_least = goals.Goal(name="x", value=1.2, wanted=1.1)
    at_most = goals.Goal(name="y", value=1.2, wanted=1.1, at_most=True)
    unknown = goals.Goal(name="z", value=float("nan"), wanted=1.1)
    assert at_least.met and not at_most.met and not unknown.met
    shown = text(report.render_goals([at_least, at_most]))
    assert "≥ 1.1" in shown and "≤ 1.1" in shown and "yes" in shown and "no" in shown


def test_goals_of_a_run(two_layers, table, measurement):
    tiny = table(
        measurement("1x1x4x4", 100, convforge_warm=(5e-6,), convforge_functional=(2e-5,)),
        name="tiny",
    )
    found = Foundation(itself={2: 1.01}, tables=(two_layers,), tiny=tiny, startup=STARTUP)
    by_name = {goal.name: goal for goal in goals.of(found)}
    mean = by_name["forward NHWC, warm, 2 threads: × torch"]
    assert (mean.value, mean.wanted) == (pytest.approx(1.0), 1.10)
    assert not by_name["forward NHWC, warm, 2 threads: slowest layer"].met
    assert by_name["import convforge, NumPy imported"].met
    assert not by_name["first conv2d ever, nothing compiled"].met
    above = by_name["first conv2d of a process, above a trivial cached Numba call"]
    assert above.value == pytest.approx(200)
    assert by_name["warm call on 1x1x4x4, plan"].met
    assert not by_name["warm call on 1x1x4x4, function"].met


def test_the_harness_is_trusted_within_three_percent(table):
    def run(ratio: float) -> bool:
        return Foundation(
            itself={2: ratio, 1: 1.0}, tables=(), tiny=table(), startup=STARTUP
        ).trustworthy

    assert run(1.02) and run(0.98)
    assert not run(0.9) and not run(1.1)


def test_json_says_where_it_was_measured_and_has_no_nan(two_layers, table, tmp_path):
    found = Foundation(itself={2: 1.0}, tables=(two_layers,), tiny=table(), startup=STARTUP)
    whole = record.foundation_record(found, goals.of(found), STANDARD)
    path = record.write(tmp_path / "results", whole, "foundation")
    assert path.name.startswith("foundation-") and path.suffix == ".json"
    read = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert set(read) >= {"date", "commit", "machine", "versions", "method", "tables", "goals"}
    assert read["machine"]["isa"] and read["versions"]["numpy"]
    layer = read["tables"][0]["layers"][0]
    assert layer["times"]["torch warm"] == {"median_ms": 20.0, "spread": 0.0}
    assert layer["ratios"] == {"warm / torch": 2.0, "functional / torch": 1.0}
    assert read["tables"][0]["summary"]["warm / torch"]["lowest"] == 0.5


def test_json_goes_into_the_file_that_was_named(tmp_path):
    assert record.write(tmp_path / "deep" / "a.json", {}, "x") == tmp_path / "deep" / "a.json"
