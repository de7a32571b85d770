"""Measuring a device, with a stand-in for what only a device can do: its clock and its graphs."""

from __future__ import annotations

import json
import math
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from convforge import reference
from convforge.bench.rows import Unable
from convforge.bench.suites import Layer
from convforge.bench.timer import Timing
from convforge.problem import Order, parse

try:
    from convforge.testing.device import emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from convforge.bench.device import layers, measure, probes, report, timing
from convforge.bench.device.laboratory import CupyLaboratory
from convforge.bench.device.probes import Ceilings
from convforge.cli import bench_device
from convforge.contract import KernelRef
from convforge.runtime.cuda.compiler import binary_of

BRIEF = timing.Method(rounds=3, block_s=1e-4, most_sets=2)
CEILINGS = Ceilings(copy_gbytes=1000.0, fma_gflops={"f32": 1e4, "f64": 5e3})
DENSE = parse("fprop:f32:nhwc-krsc:n2c3h6w6_k4r3s3")


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


class Bench:
    """A laboratory whose device takes 100 µs a kernel, and whose host takes 5 µs."""

    def __init__(self, device):
        self.device = device
        self.graphs = 0

    def seconds(self, run):
        before = len(self.device.launches)
        run()
        return (len(self.device.launches) - before) * 1e-4 + 1e-9

    def host_seconds(self, run):
        return self.seconds(run) / 20

    def captured(self, run):
        self.graphs += 1
        return run

    def bare_launch(self):
        return lambda: None


class Clock:
    """A laboratory of nothing but a clock: calls take what they say."""

    device = None

    def __init__(self):
        self.now = 0.0

    def seconds(self, run):
        before = self.now
        run()
        return self.now - before


def taking(clock, seconds, log=None, name=None):
    def call():
        clock.now += seconds
        if log is not None:
            log.append(name)

    return call


def test_contestants_take_turns_and_rotate_over_their_arrays():
    clock, log = Clock(), []
    contestants = {
        "quick": [taking(clock, 1e-6, log, f"quick{i}") for i in range(3)],
        "slow": [taking(clock, 2e-3, log, "slow")],
    }
    raced = timing.race(clock, contestants, timing.Method(rounds=4, block_s=1e-3, most_calls=90))
    assert raced["quick"].median_s == pytest.approx(1e-6) and raced["quick"].spread < 1e-6
    assert raced["slow"].median_s == pytest.approx(2e-3)
    assert len(raced["quick"].blocks) == len(raced["slow"].blocks) == 4
    quick = [name for name in log if name != "slow"]
    # Twice all of them to begin with, then blocks of as many as are allowed, set after set.
    assert len(quick) == 6 + 4 * 90
    assert quick == [f"quick{i % 3}" for i in range(len(quick))]
    assert log.count("slow") == 2 + 4


def test_a_spread_is_seen():
    clock = Clock()
    lengths = iter([1.0, 1.0, 1.0, 2.0, 3.0, 4.0])

    def uneven():
        clock.now += next(lengths)

    (raced,) = timing.race(clock, {"one": [uneven]}, timing.Method(rounds=4, block_s=1)).values()
    assert raced.blocks == (1, 2, 3, 4)
    assert (raced.median_s, raced.spread) == (2.5, 0.6)


@pytest.mark.parametrize(
    ("nbytes", "room", "wanted"),
    [(10, 10**9, 21), (100, 10**9, 3), (10**6, 10**9, 2), (1, 10**9, 32), (100, 250, 2), (9, 1, 1)],
)
def test_sets_exceed_the_cache(nbytes, room, wanted):
    assert timing.sets_wanted(nbytes, 100, room) == wanted


def test_probes_do_what_they_are_counted_for(device):
    run, count = probes.copying(device, 2100)
    assert count == 2048 and run.workspace_bytes == 0
    x = np.random.default_rng(0).standard_normal(count)
    source, target = device.asarray(x), device.empty((count,), x.dtype)
    run.run([device.address(source), device.address(target)])
    np.testing.assert_array_equal(target.get(), x)
    run, elements, flops = probes.multiplying(device, "f32", 1)
    assert flops == 2 * 8 * 16 * elements
    y = device.asarray(np.full(elements, 0.5, np.float32))
    run.run([device.address(y)])
    # a = a / 2 + 1 comes to 2, eight times.
    np.testing.assert_allclose(y.get(), 16, rtol=1e-2)


def test_probes_measure_what_they_say(device):
    found = probes.ceilings(Bench(device), BRIEF, copied=2048, rounds=1)
    assert found.copy_gbytes == pytest.approx(16 * 2048 / 1e-4 / 1e9, rel=1e-3)
    assert found.fma_gflops["f32"] == found.fma_gflops["f64"] > 0


@pytest.mark.parametrize(
    "ref",
    [
        KernelRef(probes.copy_probe, probes.Probe("f64", ("f64", "f64"))),
        KernelRef(probes.multiply_probe, probes.Probe("f32", ("f32",))),
        KernelRef(probes.multiply_probe, probes.Probe("f64", ("f64",))),
        probes.EMPTY,
    ],
    ids=lambda ref: f"{ref.name}-{ref.config.acc}",
)
def test_probes_fit_the_devices(ref):
    for arch in ("sm_80", "sm_90", "sm_100"):
        binary = binary_of(ref, arch)
        assert binary.registers <= ref.function.registers[ref.config.acc]
        assert binary.spill_bytes == binary.stack_bytes == 0


class Rival:
    """Somebody who is right, or is not, and takes as long as two kernels."""

    def __init__(self, name, device, factor=1.0):
        self.name, self.device, self.factor = name, device, factor

    def contest(self, problem, data, sets):
        y = reference.compute(problem, *data.arrays).astype(np.float32) * np.float32(self.factor)

        def call():
            self.device.launches += ["theirs"] * 2
            return y

        return measure.Contest([call] * sets, lambda found: found)


class Refusing:
    name = "refusing"

    def contest(self, problem, data, sets):
        raise Unable("not this one")


class Crashing:
    name = "crashing"

    def contest(self, problem, data, sets):
        raise RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")


def test_a_layer_is_checked_then_raced(device):
    rivals = [
        Rival("right", device),
        Rival("wrong", device, 1.01),
        Refusing(),
        Crashing(),
    ]
    found = measure.measure(Bench(device), Layer("dense", DENSE), rivals, CEILINGS, BRIEF)
    ours = {f"convforge cuda_numba.{stem}" for stem in ("conv_direct", "conv_fft", "conv_im2col")}
    assert set(found.timings) == {*ours, "right"}
    assert found.timings["right"].median_s == pytest.approx(2e-4, rel=1e-3)
    assert found.best(ours=True) in ours and f"convforge {found.chosen}" in ours
    assert found.ratio() == pytest.approx(2, rel=1e-3)
    wrong, refused, crashed = found.notes
    assert "wrong is wrong by" in wrong and "not timed" in wrong
    assert refused == "refusing: not this one"
    assert crashed == "crashing: RuntimeError: CUBLAS_STATUS_NOT_INITIALIZED"
    assert found.bound_by == "bytes" and found.bound_s == DENSE.bytes / 1e12
    assert found.share() == pytest.approx(found.bound_s / 1e-4, rel=1e-3)


def test_wrong_kernels_of_ours_get_no_number(device, monkeypatch):
    monkeypatch.setattr(
        measure,
        "_ours",
        lambda run, data, sets: measure.Contest(
            [lambda: np.zeros(run.problem.y_shape, np.float32)], lambda y: y
        ),
    )
    found = measure.measure(Bench(device), Layer("dense", DENSE), [], CEILINGS, BRIEF)
    assert not found.timings and "conv_direct is wrong" in found.notes[0]
    assert math.isnan(found.ratio()) and math.isnan(found.share())


@pytest.mark.parametrize(
    "spelled",
    [
        "dgrad:f32:n2c3h6w6_k4r3s3",
        "wgrad:f32:nhwc-krsc:n2c3h6w6_k4r3s3",
        "fprop:f16:nhwc-krsc:n2c3h6w6_k4r3s3",
        "fprop:max:f32:n1c3h6w7_r3s3_p1x1",
    ],
)
def test_every_kind_of_layer_is_measured(device, spelled):
    found = measure.measure(Bench(device), Layer(spelled, parse(spelled)), [], CEILINGS, BRIEF)
    assert len(found.timings) >= 1 and not found.notes


def test_bounds_are_of_flops_or_bytes():
    large = parse("fprop:f32:n8c256h28w28_k256r3s3_p1x1")
    assert measure.bound(large, CEILINGS) == (large.flops / 1e13, "flops")
    assert measure.bound(parse("fprop:max:f32:n8c64h56w56_r2s2_st2x2"), CEILINGS)[1] == "bytes"


def test_launches_are_measured(device):
    bench = Bench(device)
    found = {one.what: one for one in measure.overheads(bench, rounds=2)}
    assert list(found) == [
        "bare launch by CuPy",
        "Plan.launch",
        "plan(x, w, out=out)",
        "functional.conv2d(x, w)",
        "plan in a CUDA graph",
    ]
    assert found["Plan.launch"].device_us == pytest.approx(100, rel=1e-3)
    assert found["Plan.launch"].host_us == pytest.approx(5, rel=1e-3)
    assert bench.graphs == 1

    def refuses(run):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    bench.captured = refuses
    *_, last = measure.overheads(bench, rounds=1)
    assert "cudaErrorStreamCaptureUnsupported" in last.what and math.isnan(last.host_us)


def test_the_list_has_every_direction_type_and_order():
    every = list(layers.layers(32))
    assert len({str(layer.problem) for layer in every}) == len(every) > 80
    problems = [layer.problem for layer in every]
    assert {p.N for p in problems} == {32}
    assert {p.x.order for p in problems} == set(Order)
    assert {str(p.x.dtype) for p in problems} == {"f32", "f16"}
    assert {str(p.direction) for p in problems} == {"fprop", "dgrad", "wgrad"}


def test_the_command_measures_prints_tables_last_and_writes(device, tmp_path, capsys):
    record = bench_device.measure(
        Bench(device),
        [Rival("right", device), Refusing()],
        [str(DENSE), "fprop:f32:n1c3h6w6_k4r3s3"],
        batch=1,
        seconds=100,
        quick=True,
        json=tmp_path,
        command="convforge bench --device cuda",
        begin=time.monotonic(),
        more={"cudnn": 91000},
        probes={"copied": 2048, "rounds": 1},
    )
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "device-emulated.json").read_text())
    times = written["layers"][0]["times"]
    assert times.keys() >= {"convforge cuda_numba.conv_direct", "right"}
    assert len(times["right"]["blocks_ms"]) == 3
    assert written["commit"] == record["commit"] and written["versions"]["cudnn"] == 91000
    assert written["device"]["name"] == "emulated" and written["tf32"] is False
    assert len(written["overheads"]) == 5 and written["ceilings"]["copy_gbytes"] > 0
    notes, ceilings, launches, table = (
        shown.index(words)
        for words in ("refusing: not this one", "measured ceilings", "bare launch", "our fastest")
    )
    assert notes < ceilings < launches < table
    assert "2 layers in" in shown.strip().splitlines()[-1]


def test_no_layer_begins_after_the_time(device):
    ticks = iter(range(0, 1000, 10))
    found = measure.run_all(
        Bench(device),
        [Layer("dense", DENSE)] * 5,
        [],
        CEILINGS,
        BRIEF,
        seconds=25,
        clock=lambda: next(ticks),
    )
    assert 0 < len(list(found)) < 5


def test_tables_name_what_was_not_chosen():
    one = measure.Measurement(
        label="layer",
        problem="p",
        flops=10**9,
        nbytes=10**6,
        timings={
            "convforge cuda_numba.a": Timing((1e-3, 1e-3)),
            "convforge cuda_numba.b": Timing((2e-3, 2e-3)),
            "rival": Timing((5e-4, 5e-4)),
        },
        errors={"convforge cuda_numba.a": 1.0, "convforge cuda_numba.b": 1.0, "rival": 2.0},
        chosen="cuda_numba.b",
        bound_s=1e-4,
        bound_by="flops",
        notes=(),
    )
    cells = [next(iter(column.cells)) for column in report.layers_table([one], "gpu").columns]
    words = " | ".join(map(str, cells))
    assert "a (not chosen)" in words and "b 2" in words and "0.50" in words and "10% flops" in words
    assert report.record([one], [], CEILINGS)["layers"][0]["ratio"] == 0.5


def test_the_command_says_that_there_is_no_gpu():
    from typer.testing import CliRunner

    from convforge.cli.app import app

    cupy = pytest.importorskip("cupy")
    if cupy.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(app, ["bench", "--device", "cuda"], catch_exceptions=False)
    assert done.exit_code == 2
    assert "no GPU to measure: there is no NVIDIA driver" in " ".join(done.output.split())


def test_a_laboratory_asks_cupy_for_what_it_has(device, monkeypatch):
    """The thin layer that only a GPU can show right, against a stand-in for CuPy's module."""
    done = []

    class Event:
        def record(self):
            done.append("record")

        def synchronize(self):
            done.append("wait")

    class Stream:
        def __init__(self, non_blocking=False):
            assert non_blocking

        def __enter__(self):
            done.append("enter")

        def __exit__(self, *_):
            done.append("exit")

        def synchronize(self):
            done.append("synchronize")

        def begin_capture(self):
            done.append("begin")

        def end_capture(self):
            done.append("end")
            return SimpleNamespace(launch=lambda: done.append("launch"))

    stub = ModuleType("cupy")
    stub.cuda = SimpleNamespace(
        Event=Event,
        Stream=Stream,
        get_elapsed_time=lambda first, last: 2.5,
        get_current_stream=lambda: SimpleNamespace(synchronize=lambda: done.append("idle")),
    )
    monkeypatch.setitem(sys.modules, "cupy", stub)
    bench = CupyLaboratory(device)
    assert bench.seconds(lambda: done.append("run")) == 0.0025
    assert done == ["record", "run", "record", "wait"]
    done.clear()
    assert bench.host_seconds(lambda: done.append("run")) >= 0
    assert done == ["idle", "run", "idle"]
    done.clear()
    bench.captured(lambda: done.append("run"))()
    assert done == ["enter", "run", "synchronize", "begin", "run", "end", "exit", "launch"]


def test_cupy_has_what_the_laboratory_asks_for():
    cupy = pytest.importorskip("cupy")
    for name in ("Event", "Stream", "get_elapsed_time", "get_current_stream", "Graph", "function"):
        assert hasattr(cupy.cuda, name)
    assert hasattr(cupy.cuda.Stream, "begin_capture") and hasattr(cupy.cuda.Graph, "launch")
    assert hasattr(cupy.lib.stride_tricks, "sliding_window_view")
