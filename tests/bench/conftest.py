"""Runners and tables with invented numbers."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from convforge import reference
from convforge.bench.measure import Measurement, Table
from convforge.bench.rows import Call, Row
from convforge.bench.timer import Timing
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing.data import result


class FakePeer:
    """Computes with the reference, plus an error."""

    def __init__(self, name: str = "torch", error: float = 0.0) -> None:
        self.name = name
        self.error = error
        self.threads: list[int] = []

    def set_threads(self, count: int) -> None:
        self.threads.append(count)

    def quiet(self):
        return nullcontext()

    def calls(self, problem, data, rows):
        y = reference.compute(problem, *data.arrays) + self.error
        y = y.astype(numpy_dtype(result(problem)[1].dtype))
        return {row: Call(lambda: y) for row in rows if row is not Row.FUNCTIONAL}


def make_measurement(label: str, flops: int, algorithm: str = "cpu.conv_direct", **seconds):
    """Contestants by keyword: ``convforge_warm=(0.1, 0.2)`` are seconds of its blocks."""
    timings = {who.replace("_", " "): Timing(blocks) for who, blocks in seconds.items()}
    return Measurement(
        label=label,
        problem="fprop:f32:n1c1h4w4_k1r3s3",
        flops=flops,
        algorithm=algorithm,
        error_units=1.25,
        timings=timings,
    )


def make_table(*measured: Measurement, **changed) -> Table:
    return Table(
        **{
            "name": "fprop_nhwc",
            "title": "forward NHWC",
            "threads": 2,
            "peak_gflops": 200.0,
            "peers": ("torch", "onnxruntime"),
            "measured": measured,
            "notes": (),
        }
        | changed
    )


@pytest.fixture(autouse=True)
def no_probes(monkeypatch):
    """Ceilings take seconds to measure, and no test is about them."""
    monkeypatch.setattr("convforge.runtime.machine.peak_gflops", lambda dtype, n: 100.0)
    monkeypatch.setattr("convforge.runtime.machine.copy_gbytes", lambda level, n: 30.0)


@pytest.fixture
def peer():
    return FakePeer


@pytest.fixture
def measurement():
    return make_measurement


@pytest.fixture
def table():
    return make_table
