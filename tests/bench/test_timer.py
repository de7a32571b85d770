from __future__ import annotations

import math

import pytest

from convforge.bench.timer import Method, Timing, geometric_mean, race, speedup


class FakeClock:
    """Time that passes only when somebody works or sleeps."""

    def __init__(self) -> None:
        self.time = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def worked(self) -> float:
        return 0.0

    def work(self, seconds: float):
        def call() -> None:
            self.time += seconds

        return call


METHOD = Method(rounds=4, block_s=0.01, pause_s=0.05, unmeasured=3, sample_s=1e-4)


def test_identical_code_measures_one():
    clock = FakeClock()
    result = race({"one": clock.work(2e-3), "same": clock.work(2e-3)}, METHOD, clock=clock)
    assert speedup(result["one"], result["same"]) == pytest.approx(1.0)
    assert result["one"].median_s == pytest.approx(2e-3)
    assert result["one"].spread == pytest.approx(0, abs=1e-9)


def test_order_of_the_result_is_that_of_the_contestants():
    clock = FakeClock()
    contestants = {name: clock.work(1e-3) for name in ["zebra", "ant", "mule"]}
    assert list(race(contestants, METHOD, clock=clock)) == ["zebra", "ant", "mule"]


def test_every_block_is_preceded_by_a_pause():
    clock = FakeClock()
    race({"a": clock.work(1e-3), "b": clock.work(1e-3)}, METHOD, clock=clock)
    assert clock.slept == [METHOD.pause_s] * (2 * METHOD.rounds)


def test_a_block_waits_for_threads_that_spin_on():
    clock = FakeClock()
    spinning = iter([0.0, 0.05, 0.05, 0.08, 0.08, 0.081])
    clock.worked = lambda: next(spinning)
    method = Method(rounds=1, most_rounds=1, wild=None, pause_s=0.05)
    race({"x": clock.work(1e-3)}, method, clock=clock)
    assert clock.slept == [0.05] * 3


def test_order_changes_between_rounds_and_repeats_with_the_seed():
    def order(seed: int) -> list[str]:
        clock, ran = FakeClock(), []

        def contestant(name: str):
            def call() -> None:
                if not ran or ran[-1] != name:
                    ran.append(name)
                clock.time += 1e-3

            return call

        race({n: contestant(n) for n in "abcd"}, METHOD, seed=seed, clock=clock)
        return ran

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != sorted(order(1)[:4]) * METHOD.rounds


def test_first_calls_of_a_block_do_not_count():
    clock = FakeClock()
    calls = 0

    def slow_to_wake() -> None:
        nonlocal calls
        rested = bool(clock.slept) and clock.slept.pop() > 0
        calls = 0 if rested else calls + 1
        clock.time += 5e-3 if calls < METHOD.unmeasured else 1e-3

    method = Method(rounds=3, block_s=0.02, pause_s=0.05, unmeasured=3)
    assert race({"x": slow_to_wake}, method, clock=clock)["x"].median_s == pytest.approx(1e-3)


def test_a_call_longer_than_a_block_is_measured_once():
    clock = FakeClock()
    calls = 0

    def long_call() -> None:
        nonlocal calls
        calls += 1
        clock.time += 3.0

    result = race({"x": long_call}, Method(rounds=2, block_s=0.05), clock=clock)
    assert calls == 2 * 2  # in each round one unmeasured and one measured
    assert result["x"].median_s == pytest.approx(3.0)


def test_calls_faster_than_the_clock_are_timed_in_batches():
    clock = FakeClock()
    readings = 0
    now = clock.now

    def counted() -> float:
        nonlocal readings
        readings += 1
        return now()

    clock.now = counted  # type: ignore[method-assign]
    method = Method(rounds=1, block_s=1e-3, sample_s=1e-4)
    result = race({"x": clock.work(1e-6)}, method, clock=clock)
    assert result["x"].median_s == pytest.approx(1e-6)
    assert readings < 60  # about ten batches of a hundred calls, not a thousand calls


@pytest.mark.parametrize(("noise", "rounds"), [(0.01, 3), (3.0, 7)])
def test_noisy_races_get_more_rounds(noise, rounds):
    clock = FakeClock()

    def uneven() -> None:
        clock.time += 1e-3 * (1 + noise * (len(clock.slept) % 3))

    method = Method(rounds=3, most_rounds=7, wild=None, steady=0.1, block_s=0.01)
    assert len(race({"x": uneven}, method, clock=clock)["x"].blocks) == rounds


@pytest.mark.parametrize(("wild", "rounds"), [(None, 4), (10.0, 4), (0.5, 8)])
def test_times_that_nobody_believes_get_twice_as_many(wild, rounds):
    clock = FakeClock()

    def interrupted() -> None:
        clock.time += 1e-3 * (1 if len(clock.slept) % 2 else 3)

    method = Method(rounds=2, most_rounds=4, block_s=0.01, wild=wild)
    assert len(race({"x": interrupted}, method, clock=clock)["x"].blocks) == rounds


def test_speedup_is_taken_within_rounds():
    # The machine was twice as slow in the second round, for both.
    ours, theirs = Timing((1.0, 2.0, 1.0)), Timing((3.0, 6.0, 3.0))
    assert speedup(ours, theirs) == 3.0


def test_spread_is_the_distance_between_quartiles():
    assert Timing((1.0, 2.0, 3.0, 4.0, 5.0)).spread == pytest.approx(2 / 3)
    assert Timing((1.0,)).spread == 0.0


def test_geometric_mean():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert math.isnan(geometric_mean([]))


def test_garbage_collector_is_switched_back_on():
    import gc

    clock = FakeClock()

    def fails() -> None:
        assert not gc.isenabled()
        raise KeyError

    with pytest.raises(KeyError):
        race({"x": fails}, METHOD, clock=clock)
    assert gc.isenabled()
