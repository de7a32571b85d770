from __future__ import annotations

import math

import pytest

from convforge.bench import suites
from convforge.bench.measure import against_itself, key, measure, tabulate
from convforge.bench.ours import Convforge, able
from convforge.bench.rows import Call, Row, Unable, copies_past_cache, taking_turns
from convforge.bench.timer import Method
from convforge.plan import Policy
from convforge.runtime import machine

METHOD = Method(rounds=2, most_rounds=2, block_s=1e-4, pause_s=0, unmeasured=1, wild=None)
REFERENCE = Convforge(Policy(algorithm="reference"))


@pytest.fixture
def layer():
    return suites.resolve(["fprop:f32:nhwc-krsc:n1c4h6w6_k4r3s3_p1x1"])[0]


def test_every_row_of_every_contestant_is_timed(layer, peer):
    rows = (Row.FUNCTIONAL, Row.WARM)
    one, remarks = measure(layer, REFERENCE, [peer("torch"), peer("ort")], rows, METHOD)
    assert set(one.timings) == {"convforge functional", "convforge warm", "torch warm", "ort warm"}
    assert remarks == []
    assert one.algorithm == "cpu.reference"
    assert one.problem == str(layer.problem)
    assert 0 <= one.error_units <= 1
    assert all(len(timing.blocks) == METHOD.rounds for timing in one.timings.values())


def test_cold_weights_are_copies(layer, monkeypatch):
    monkeypatch.setattr("convforge.bench.ours.copies_past_cache", lambda nbytes: 3)
    one, _ = measure(layer, REFERENCE, [], (Row.COLD,), METHOD)
    assert set(one.timings) == {"convforge cold"}


@pytest.mark.parametrize("spelling", ["wgrad:f32:n1c4h6w6_k4r3s3", "dgrad:f32:n1c4h6w6_k4r3s3"])
def test_gradients_have_no_functional_row(spelling, peer):
    layer = suites.resolve([spelling])[0]
    one, _ = measure(layer, REFERENCE, [peer()], (Row.FUNCTIONAL, Row.WARM), METHOD)
    assert set(one.timings) == {"convforge warm", "torch warm"}


@pytest.mark.parametrize(
    "spelling",
    [
        "fprop:f32:nhwc:n2c3h9w8_k4r3s2_st2x1_p1:0x0:1_d1x2+bias+residual+relu",
        "fprop:f64:n1c4w12_k6s3_p1_g2+bias",
        "fprop:f32:ndhwc-ktrsc:n1c3d4h5w6_k2t2r3s3",
        "fprop:max:f32:nhwc:n2c3h8w8_r3s3_st2x2_p1x1+indices",
        "fprop:avg:f32:n2c3h8w8_r3s3_st2x2_p1x1+ceil+exclude_pad",
        "fprop:bf16:n1c4h6w6_k4r3s3",
        "fprop:i8-i8-i32:n1c4h6w6_k4r3s3",
    ],
)
def test_the_functional_call_computes_the_problem(spelling):
    layer = suites.resolve([spelling])[0]
    one, _ = measure(layer, Convforge(), [], (Row.FUNCTIONAL, Row.WARM), METHOD)
    assert set(one.timings) == {"convforge functional", "convforge warm"}


def test_who_disagrees_gets_no_number(layer, peer):
    table = tabulate(
        "x",
        "x",
        [layer],
        ours=REFERENCE,
        peers=[peer(error=1.0)],
        rows=[Row.WARM],
        threads=1,
        method=METHOD,
    )
    (one,) = table.measured
    assert set(one.timings) == {"convforge warm"}
    assert "torch warm is wrong by" in table.notes[0]
    assert layer.label in table.notes[0]


def test_nan_is_a_disagreement(layer, peer):
    table = tabulate(
        "x",
        "x",
        [layer],
        ours=REFERENCE,
        peers=[peer(error=math.nan)],
        rows=[Row.WARM],
        threads=1,
        method=METHOD,
    )
    (one,) = table.measured
    assert set(one.timings) == {"convforge warm"}


def test_we_get_no_number_either(layer, monkeypatch):
    wrong = Convforge(Policy(algorithm="reference"))
    right = wrong.calls

    def err(problem, data, rows):
        (call,) = right(problem, data, rows).values()
        return {Row.WARM: Call(lambda: call.run() + 1)}

    monkeypatch.setattr(wrong, "calls", err)
    table = tabulate(
        "x", "x", [layer], ours=wrong, peers=[], rows=[Row.WARM], threads=1, method=METHOD
    )
    assert table.measured == ()
    assert "convforge warm is wrong by" in table.notes[0]


def test_nothing_begins_when_the_time_is_over(layer, peer):
    table = tabulate(
        "x",
        "x",
        [layer, layer],
        ours=REFERENCE,
        peers=[peer()],
        rows=[Row.WARM],
        threads=1,
        method=METHOD,
        until=0.0,
    )
    assert table.measured == ()
    assert table.notes == ("every layer: not measured: the time was over",)


def test_a_peer_that_cannot_take_part_is_noted(layer, peer):
    other = peer("other")

    def refuse(problem, data, rows):
        raise Unable("too hard")

    other.calls = refuse
    one, remarks = measure(layer, REFERENCE, [other], (Row.WARM,), METHOD)
    assert set(one.timings) == {"convforge warm"}
    assert remarks == ["no other: too hard"]


def test_an_unsupported_problem_is_noted(peer):
    pool = suites.resolve(["fprop:max:f32:n1c4h6w6_r2s2"])[0]
    ours = Convforge(Policy(algorithm="conv_direct"))
    table = tabulate(
        "x", "x", [pool], ours=ours, peers=[], rows=[Row.WARM], threads=1, method=METHOD
    )
    assert table.measured == ()
    assert "cpu.conv_direct" in table.notes[0]


def test_everybody_gets_the_same_threads(layer, peer):
    rival = peer()
    tabulate(
        "x",
        "x",
        [layer],
        ours=REFERENCE,
        peers=[rival],
        rows=[Row.WARM],
        threads=1,
        method=METHOD,
    )
    assert rival.threads == [1]


def test_the_harness_can_measure_itself(layer, peer):
    ratio = against_itself(layer, peer(), [REFERENCE], METHOD)
    assert math.isfinite(ratio) and ratio > 0


def test_copies_exceed_the_shared_cache():
    l3 = machine.cpu().l3_bytes
    assert copies_past_cache(l3) >= 3
    assert copies_past_cache(1 << 20) * (1 << 20) >= 2 * l3
    assert copies_past_cache(1) == copies_past_cache(0) == 4096


def test_algorithms_that_are_able_are_found_best_first(layer):
    names = able(layer.problem)
    assert names[0] == Convforge().plan(layer.problem).algorithm
    assert names[-1] == "cpu.reference"
    assert "cpu.pool_window" not in names


def test_taking_turns():
    call = taking_turns([lambda: "a", lambda: "b"])
    assert [call() for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_ratios_pair_rows(measurement):
    one = measurement(
        "x",
        10**9,
        convforge_warm=(1.0, 2.0),
        convforge_cold=(2.0, 2.0),
        convforge_functional=(4.0, 4.0),
        torch_warm=(2.0, 4.0),
        torch_cold=(1.0, 1.0),
    )
    assert one.ratio(Row.WARM, "torch") == 2.0
    assert one.ratio(Row.COLD, "torch") == 0.5
    assert one.ratio(Row.FUNCTIONAL, "torch") == 0.75
    assert math.isnan(one.ratio(Row.WARM, "onnxruntime"))
    assert one.gflops("torch", Row.WARM) == pytest.approx(1 / 3)
    assert key("torch", Row.WARM) == "torch warm"


def test_the_best_peer_is_the_fastest_on_that_layer(measurement, table):
    one = measurement("a", 1, convforge_warm=(1.0,), torch_warm=(3.0,), onnxruntime_warm=(2.0,))
    other = measurement("b", 1, convforge_warm=(1.0,), torch_warm=(0.5,))
    alone = measurement("c", 1, convforge_warm=(1.0,))
    assert one.best(Row.WARM, ("torch", "onnxruntime")) == (2.0, "onnxruntime")
    assert one.best(Row.WARM, ("torch",)) == (3.0, "torch")
    assert math.isnan(alone.best(Row.WARM, ("torch",))[0])
    everybody = table(one, other, alone)
    assert everybody.best_ratios(Row.WARM) == {"a": 2.0, "b": 0.5}
    assert everybody.best_ratios(Row.WARM, ["torch"]) == {"a": 3.0, "b": 0.5}


def test_pooling_is_counted_in_bytes(peer):
    pool = suites.resolve(["fprop:max:f32:n1c4h6w6_r2s2_st2x2"])[0]
    table = tabulate(
        "x", "x", [pool], ours=Convforge(), peers=[], rows=[Row.WARM], threads=1, method=METHOD
    )
    (one,) = table.measured
    assert table.unit == "GB/s" and one.bytes == 4 * (4 * 36 + 4 * 9)
    seconds = one.timings["convforge warm"].median_s
    assert table.rate(one, "convforge", Row.WARM) == pytest.approx(one.bytes / seconds / 1e9)
