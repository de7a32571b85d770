"""The judge of devices: what it runs, what it sees, and when it stops."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from convforge import registry
from convforge.problem import parse
from convforge.testing import verify

try:
    from convforge.testing.device import EmulatedDevice, emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from convforge.cli import training
from convforge.cli.app import app
from convforge.runtime.cuda.compiler import ptx_of
from convforge.testing.emulator import Emulated

PROBLEMS = (
    "fprop:f32:n1c3h6w6_k4r3s3",
    "fprop:f32:nhwc-krsc:n1c3h6w6_k4r3s3+bias+relu",
    "wgrad:f32:n1c3h6w6_k4r3s3",
    "fprop:max:f32:n1c3h6w7_r3s3_p1x1",
)
"""Each launches a kernel that other tests compile too."""


class Broken(EmulatedDevice):
    """One whose multiply-and-add forgets what it adds to."""

    name = "broken:0"

    def load(self, ref):
        ptx = ptx_of(ref)
        pattern = r"fma\.rn\.f32 *\t?(%f\d+), (%f\d+), (%f\d+), %f\d+;"
        text = re.sub(pattern, r"mul.rn.f32 \1, \2, \3;", ptx.text)
        return Emulated(text)[ptx.entry]


class Dead(EmulatedDevice):
    """One that answers no launch."""

    def launch(self, launches):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")


@pytest.fixture(scope="module")
def emulator():
    with emulated_device() as found:
        yield found


@pytest.fixture
def registered(monkeypatch):
    """Lets a device's arrays be known."""
    from convforge.runtime.cuda import device as devices

    def register(device):
        provider = devices.Provider(device.find, device.open, device.take)
        monkeypatch.setattr(devices, "_providers", [provider, *devices.providers()])
        return device

    return register


def every(device, spelled=PROBLEMS):
    rooms = [registry.find(stem, "cuda")[0] for stem in ("conv_direct", "pool_window")]
    return verify.planned(device, rooms, map(parse, spelled))


def test_a_right_device_is_found_right(emulator, registered):
    device = registered(EmulatedDevice())
    cases = every(device)
    found = list(verify.run(device, cases, emulator=emulator))
    assert len(found) == len(cases) >= len(PROBLEMS)
    assert [v.wrong for v in found] == [None] * len(cases)
    assert {v.emulated for v in found} == {0.0}
    assert all(v.exact for v in found) and max(v.units for v in found) > 0
    direct, *_ = [s for s in verify.summaries(found, cases) if s.algorithm.endswith("conv_direct")]
    assert (direct.cases, direct.left_out, direct.wrong, direct.same_bits) == (3, 0, 0, 3)


def test_a_wrong_kernel_is_seen(emulator, registered):
    device = registered(Broken())
    (right, wrong) = (
        next(verify.run(each, every(each, PROBLEMS[:1]), emulator=emulator))
        for each in (emulator, device)
    )
    assert right.wrong is None
    assert wrong.exact is False and wrong.units > wrong.promised and wrong.emulated > 4
    for words in ("small integers are not exact", "units at", "device and emulator are"):
        assert words in wrong.wrong
    (summary,) = verify.summaries([wrong], every(device, PROBLEMS[:1]))
    assert (summary.wrong, summary.not_exact) == (1, 1)


def test_a_dead_device_is_given_up(registered):
    device = registered(Dead())
    found = list(verify.run(device, every(device) * 5))
    assert len(found) == 5
    assert all("RuntimeError: CUDA_ERROR_ILLEGAL_ADDRESS" in v.wrong for v in found)


def test_no_case_begins_after_the_time(emulator):
    ticks = itertools.count(step=10)
    found = list(verify.run(emulator, every(emulator), seconds=25, clock=lambda: next(ticks)))
    assert 0 < len(found) < len(every(emulator))


def test_what_is_most_worth_knowing_comes_first(emulator):
    algorithms = registry.algorithms("cuda")
    cases = verify.planned(emulator, algorithms, verify.problems())
    assert len(set(cases)) == len(cases) > 1000
    first = cases[: 100 * len(algorithms)]
    assert {a.name for a, _ in first} == {a.name for a in algorithms}
    direct = [p for a, p in first if a.name == "cuda_numba.conv_direct"]
    kinds = {(p.direction, p.x.dtype, p.x.order) for p in direct}
    assert len({d for d, _, _ in kinds}) == 3 and len({t for _, t, _ in kinds}) == 4


def test_the_command_judges_the_emulated_device(tmp_path):
    from typer.testing import CliRunner

    path = tmp_path / "verdicts.json"
    words = ["verify", "--emulated", "--algorithm", "pool_window", "--cases", "2", "--no-emulator"]
    done = CliRunner().invoke(app, [*words, "--json", str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    assert (
        "cuda_numba.pool_window" in done.output and "nothing wrong" in done.output.split("\n")[-2]
    )
    record = json.loads(path.read_text())
    assert record["device"]["name"] == "emulated" and record["versions"]["numba-cuda"]
    assert len(record["verdicts"]) == 2 and record["summaries"][0]["wrong"] == 0
    given = "--seed=0 --minutes=7 --emulated --no-emulator --algorithm=pool_window --cases=2"
    assert record["command"] == f"convforge verify {given}"


def test_the_command_fails_on_a_wrong_kernel(monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr(EmulatedDevice, "load", Broken.load)
    words = ["verify", "--emulated", "--algorithm", "conv_direct", "--cases", "1"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 1
    assert "small integers are not exact" in " ".join(done.output.split())
    assert "1 wrong" in done.output


def test_training_beside_the_host():
    assert training.difference("cpu") == (0.0, "loss")


@pytest.mark.parametrize("outcome", ["apart", "crash"])
def test_the_command_fails_where_training_differs(monkeypatch, outcome):
    from typer.testing import CliRunner

    def difference(place):
        assert place == "emulated:0"
        if outcome == "crash":
            raise ValueError("no kernel image")
        return 0.5, "classes.weight"

    monkeypatch.setattr(training, "difference", difference)
    words = ["verify", "--emulated", "--cases", "1"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 1
    said = {
        "apart": "differ from the host's by 5.0e-01 (classes.weight)",
        "crash": "no kernel image",
    }
    assert said[outcome] in " ".join(done.output.split()) and "1 wrong" in done.output


def test_the_command_says_that_there_is_no_gpu():
    from typer.testing import CliRunner

    cupy = pytest.importorskip("cupy")
    if cupy.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(app, ["verify"], catch_exceptions=False)
    assert done.exit_code == 2
    assert "no GPU to verify: there is no NVIDIA driver" in " ".join(done.output.split())
    assert "--emulated" in done.output
