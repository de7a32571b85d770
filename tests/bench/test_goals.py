from __future__ import annotations

import math

import pytest

from convforge.bench import goals
from convforge.bench.goals import Promise

PEERS = ("torch-nhwc", "torch-nchw", "ncnn")


@pytest.fixture
def two(measurement, table):
    """Ratios to the best: 2 (to ncnn) and 0.5 (to torch-nchw); to torch alone 4 and 0.5."""
    fast = measurement(
        "fast",
        1,
        convforge_warm=(1.0,),
        convforge_cold=(2.0,),
        **{"torch-nhwc_warm": (5.0,), "torch-nchw_warm": (4.0,), "ncnn_warm": (2.0,)},
        **{"torch-nhwc_cold": (3.0,)},
    )
    slow = measurement(
        "slow",
        1,
        convforge_warm=(1.0,),
        **{"torch-nhwc_warm": (1.0,), "torch-nchw_warm": (0.5,), "ncnn_warm": (3.0,)},
    )
    return table(fast, slow, name="x_batch1", title="batch 1", peers=PEERS, asked=3)


def promised(monkeypatch, two, *promises):
    monkeypatch.setitem(goals.PROMISES, "x_batch1", promises)
    return {goal.name.partition(": ")[2]: goal for goal in goals.of_group([two])}


def test_the_best_peer_is_found_on_each_layer(monkeypatch, two):
    found = promised(monkeypatch, two, Promise(mean=1.3, lowest=0.6))
    mean, lowest = found["× the best peer"], found["slowest layer"]
    assert mean.value == pytest.approx(1.0) and mean.wanted == 1.3 and not mean.met
    assert mean.note == "2 of 3 layers"
    assert lowest.value == 0.5 and lowest.note == "slow" and not lowest.met
    assert mean.name == "batch 1, warm, 2 threads: × the best peer"


def test_a_library_is_the_better_of_its_orders(monkeypatch, two):
    (goal,) = promised(monkeypatch, two, Promise(mean=1.4, peers=("torch",))).values()
    assert goal.value == pytest.approx(math.sqrt(4 * 0.5)) and goal.met
    assert goal.name.endswith("× torch")


def test_rows_are_judged_apart(monkeypatch, two):
    found = promised(monkeypatch, two, Promise(mean=1.5, row=goals.Row.COLD))
    (goal,) = found.values()
    assert goal.value == pytest.approx(1.5) and goal.met and goal.note == "1 of 3 layers"


def test_times_are_not_to_be_exceeded(monkeypatch, two):
    (goal,) = promised(monkeypatch, two, Promise(mean=1.2, as_time=True)).values()
    assert goal.at_most and goal.value == pytest.approx(1.0) and goal.met
    (goal,) = promised(monkeypatch, two, Promise(mean=0.9, as_time=True)).values()
    assert not goal.met


def test_who_was_not_measured_breaks_no_promise(monkeypatch, two):
    assert not promised(monkeypatch, two, Promise(mean=2.0, peers=("onnxruntime",)))


def test_what_was_not_measured_is_not_met(monkeypatch, table):
    empty = table(name="x_batch1", peers=PEERS, asked=3)
    mean, lowest = promised(monkeypatch, empty, Promise(mean=1.0, lowest=1.0)).values()
    assert math.isnan(mean.value) and not mean.met and not lowest.met
    assert mean.note == "0 of 3 layers"


def test_tables_without_a_promise_have_no_goals(two):
    assert list(goals.of_group([two])) == []


def test_one_order_of_a_library_may_be_meant(monkeypatch, two):
    (goal,) = promised(monkeypatch, two, Promise(lowest=0.97, peers=("torch-nhwc",))).values()
    assert goal.value == pytest.approx(1.0) and goal.note == "slow" and goal.met
    assert goal.name.endswith("slowest layer, × torch-nhwc")


def test_some_layers_may_be_meant(monkeypatch, two):
    (goal,) = promised(monkeypatch, two, Promise(mean=1.5, layers="fast")).values()
    assert goal.value == pytest.approx(2.0) and goal.note == "1 layer"
    assert goal.name.startswith("batch 1, fast, warm")
