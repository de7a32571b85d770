"""Everybody who takes part in the comparison on AVX2 is limited to it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from convforge.bench.avx2 import ENVIRONMENT
from convforge.bench.catalogue import GROUPS
from convforge.bench.goals import PROMISES
from convforge.cli import bench
from convforge.testing.peers import require

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions of x86-64")

OPENVINO = """
import numpy, openvino
from openvino import opset13
x = opset13.parameter([1, 16, 9, 9], numpy.float32)
filters = [opset13.constant(numpy.ones((32, 16, r, r), numpy.float32)) for r in (1, 3)]
layers = [
    opset13.result(opset13.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1])) for w in filters
]
model = openvino.Model(layers, [x], "layers")
settings = {"INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.Core().compile_model(model, "CPU", settings)
for node in compiled.get_runtime_model().get_ordered_ops():
    about = node.get_rt_info()
    if about["layerType"].value == "Convolution":
        print(about["primitiveType"].value)
"""
TORCH = """
import torch
print(torch.backends.cpu.get_cpu_capability())
x = torch.ones(1, 64, 28, 28)
for memory in (torch.contiguous_format, torch.channels_last):
    for r in (1, 3):
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            torch.nn.functional.conv2d(
                x.to(memory_format=memory), torch.ones(64, 64, r, r).to(memory_format=memory)
            )
"""


def printed(code: str) -> str:
    """By a process that was started as the benchmark is."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.lower()


def test_convforge_is_limited():
    code = "from convforge.runtime import machine as m; print(m.isa(), m.cpu().vector_bytes)"
    assert printed(code).split() == ["avx2", "32"]


def test_torch_is_limited():
    require("torch")
    said = printed(TORCH)
    ran = [line for line in said.splitlines() if ",exec,cpu,convolution," in line]
    assert "avx2" in said.splitlines() and len(ran) == 4
    assert all("avx2" in line for line in ran) and "avx512" not in said


def test_openvino_is_limited():
    require("openvino")
    ran = printed(OPENVINO).split()
    assert len(ran) == 2 and all("avx2" in name for name in ran)


def test_the_command_starts_itself_again_once(monkeypatch):
    started = []
    monkeypatch.setattr(bench.os, "execve", lambda *words: started.append(words))
    bench._start_again("convforge bench avx2 --json x", ENVIRONMENT)
    ((program, words, environment),) = started
    assert program == sys.executable
    assert words[1:] == ["-m", "convforge.cli", "bench", "avx2", "--json", "x"]
    monkeypatch.setattr(bench.os, "environ", environment)
    bench._start_again("convforge bench avx2 --json x", ENVIRONMENT)
    assert len(started) == 1


def test_a_machine_without_it_is_refused(monkeypatch):
    monkeypatch.setattr("convforge.runtime.machine.isa", lambda: "neon")
    with pytest.raises(ValueError, match="neon, and not AVX2"):
        bench._start_again("convforge bench avx2", ENVIRONMENT)


def test_only_they_take_part_and_promise_nine_tenths():
    parts = GROUPS["avx2"].parts()
    assert len(parts) == 6
    assert all(set(p.peers) == {"torch-nhwc", "torch-nchw", "openvino"} for p in parts)
    for part in parts:
        same = [p for p in PROMISES[part.name] if "onnxruntime" not in p.peers]
        limited = PROMISES[f"avx2_{part.name}"]
        assert [p.mean for p in limited] == pytest.approx([0.9 * p.mean for p in same])
        assert {p.row for p in limited} <= set(part.rows)
