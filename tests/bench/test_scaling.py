"""Lines through invented times; a run of a few small points; the picture."""

from __future__ import annotations

import pytest

from convforge.bench import goals, record, results, scaling
from convforge.bench.measure import Wrong
from convforge.bench.scaling import Point, Scaling, Series
from convforge.bench.timer import Method

METHOD = Method(rounds=2, most_rounds=2, block_s=1e-4, pause_s=0, unmeasured=1)


def series(quantity="N", **times):
    points = tuple(
        Point(at=int(at[1:]), problem="p", median_s=seconds, spread=0.0)
        for at, seconds in times.items()
    )
    return Series(quantity=quantity, algorithm="a", threads=2, points=points)


def test_a_straight_line_has_no_deviation():
    line = series(_1=3.0, _2=5.0, _10=21.0)
    assert line.line == pytest.approx((1, 2))
    assert line.deviation()[0] == pytest.approx(0)


def test_what_bends_it_is_found():
    deviation, at = series(_1=1.0, _2=2.0, _3=3.0, _4=4.0, _5=5.0, _6=12.0).deviation()
    assert at == 6 and deviation > 0.2


def test_short_times_count_as_much_as_long_ones():
    deviation, at = series(_1=2.0, _100=100.0, _200=200.0, _300=300.0).deviation()
    assert at == 1 or deviation < 0.01
    assert series(_1=2.0, _100=100.0, _200=200.0).expected_s(1) == pytest.approx(2, rel=0.02)


def test_threads_divide_the_time_of_one():
    half = series(scaling.THREADS, _1=8.0, _2=4.0, _4=4.0)
    assert half.expected_s(4) == 2.0
    assert half.deviation() == (1.0, 4)


def test_threads_go_up_to_all_of_them():
    assert scaling._up_to(1) == (1,)
    assert scaling._up_to(2) == (1, 2)
    assert scaling._up_to(6) == (1, 2, 4, 6)


@pytest.mark.parametrize("quantity", scaling.QUANTITIES)
def test_one_quantity_grows_at_a_time(quantity):
    first, second = (scaling.problem(quantity, value) for value in scaling.QUANTITIES[quantity][:2])
    sizes = {"N": lambda p: p.N, "C": lambda p: p.C, "K": lambda p: p.K, "H*W": lambda p: p.size}
    changed = {name for name, size in sizes.items() if size(first) != size(second)}
    assert changed == {quantity}


@pytest.fixture
def found(monkeypatch):
    monkeypatch.setattr(scaling, "QUANTITIES", {"N": (1, 2), "H*W": (6, 12)})
    monkeypatch.setattr(scaling, "ALGORITHMS", ("conv_direct",))
    return scaling.run(threads=2, method=METHOD)


def test_a_run_measures_every_quantity_and_threads(found):
    assert [(s.quantity, s.threads, [p.at for p in s.points]) for s in found.series] == [
        ("N", 2, [1, 2]),
        ("H*W", 2, [36, 144]),
        ("threads", 0, [1, 2]),
    ]
    assert all(point.median_s > 0 for s in found.series for point in s.points)


def test_a_wrong_kernel_gets_no_number(monkeypatch):
    monkeypatch.setattr(scaling, "QUANTITIES", {"N": (1,)})
    compute = scaling.Judge.worst
    monkeypatch.setattr(
        scaling.Judge, "worst", lambda judge, got, **how: compute(judge, got + 1, **how)
    )
    with pytest.raises(Wrong):
        scaling.run(threads=1, method=METHOD)


def test_the_page_shows_lines_numbers_and_deviations(tmp_path):
    page = pytest.importorskip("convforge.bench.page", reason="the report extra is not installed")
    from convforge.bench.plot import draw

    bent = series(_1=0.001, _2=0.002, _3=0.006)
    threads = series(scaling.THREADS, _1=0.008, _2=0.005)
    run = Scaling(series=(bent, threads), seconds=1.0)
    promised = list(goals.of_scaling(run))
    assert [goal.met for goal in promised] == [False, False]
    made = record.scaling_record(run, promised, METHOD, "convforge bench scaling")
    results.merge(tmp_path, scaling.GROUP, made)
    measured = results.read(tmp_path)
    text = page.render(measured)
    assert "| `a`, ms | 1 | 2 | 6 |" in text
    assert "| time against threads, a: largest deviation | 25 % | ≤ 20 % | **no** | at 2 |" in text
    ((name, drawn),) = page.plots(measured).items()
    assert f"({name})" in text and name.startswith("scaling-") and name.endswith(".svg")
    for attempt in ("one.svg", "two.svg"):
        draw(drawn, tmp_path / attempt)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert ">threads</text>" in (tmp_path / "one.svg").read_text(encoding="utf-8")
