from __future__ import annotations

import importlib

import numpy as np
import pytest

from convforge.bench import peers
from convforge.bench.rows import Row, Unable
from convforge.problem import Order, parse
from convforge.testing import oracle
from convforge.testing.data import operands
from convforge.testing.peers import require

ROWS = (Row.WARM, Row.COLD)
WITH_COLD = ("torch", "onnxruntime", "openvino", "ncnn")
MODULES = {"onnxruntime": ("onnx", "onnxruntime"), "mnn": ("MNN",)}


def adapter(name):
    return importlib.import_module(f"convforge.bench.peers.{name}")


def installed(name):
    """The runner, or the test is skipped."""
    library = name.partition("-")[0]
    for module in MODULES.get(library, (library,)):
        require(module)
    runner = peers.PEERS[name]()
    runner.set_threads(2)
    return runner


@pytest.fixture(autouse=True)
def few_copies(monkeypatch):
    for name in WITH_COLD:
        monkeypatch.setattr(adapter(name), "copies_past_cache", lambda nbytes: 3)


def agree(runner, spelling, rows=ROWS):
    """Run every row; returns which there are."""
    problem = parse(spelling)
    data = operands(problem)
    with runner.quiet():
        calls = runner.calls(problem, data, rows)
        for call in calls.values():
            for _ in range(2):  # the second call of a cold row has another copy
                got = np.ascontiguousarray(call.read(call.run()))
                # Transforms of small tiles err more, by plane.
                assert oracle.worst(problem, got, data, planewise=True).units < 32
    return set(calls)


CONVOLUTIONS = (
    "fprop:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1",
    "fprop:f32:n2c6h9w8_k4r3s2_d2x1",
    "fprop:f32:n2c32h12w14_k32r3s3_p1x1",
    "fprop:f32:nhwc-krsc:n1c16h12w14_k32r1s1",
    "fprop:f32:nhwc-krsc:n2c16h12w14_k16r5s5_st2x1_p2x2_g16",
)
GROUPED = ("fprop:f32:nhwc-krsc:n2c16h9w8_k32r3s3_p1x1_g4",)
UNEVEN = ("fprop:f32:n1c8h9w8_k8r3s3_p0:1x1:0",)
OTHER_RANKS = (
    "fprop:f32:nwc-ksc:n1c32w100_k32s2_p4:0_d4",
    "fprop:f32:n1c3d4h5w6_k2t2r3s3",
)
POOLINGS = (
    "fprop:max:f32:nhwc:n2c16h8w8_r3s3_st2x2_p1x1",
    "fprop:max:f32:n2c6h8w8_r3s3_st2x2+ceil",
    "fprop:avg:f32:nhwc:n2c16h7w7_r7s7",
    "fprop:avg:f32:n2c16h7w7_r3s3_st2x2_p1x1",
    "fprop:avg:f32:n2c16h7w7_r3s3_st2x2_p1x1+exclude_pad",
)
EVERYTHING = CONVOLUTIONS + GROUPED + UNEVEN + OTHER_RANKS
BACKWARD = ("dgrad:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1", "dgrad:f32:n2c6h9w8_k4r3s3_g2")
OTHER_TYPES = ("fprop:f64:n1c4w12_k6s3_p1", "fprop:bf16:nhwc-krsc:n1c4h6w6_k4r3s3")
DENSE = ("fprop:f32:nhwc-krsc:n3c16h1w5_k32r1s1",)
RUNS = {
    "torch": EVERYTHING + BACKWARD + OTHER_TYPES,
    "torch-nhwc": EVERYTHING + BACKWARD + OTHER_TYPES,
    "torch-nchw": EVERYTHING + BACKWARD + OTHER_TYPES,
    "torch-linear": DENSE,
    "onnxruntime": EVERYTHING,
    "openvino": EVERYTHING,
    "ncnn": CONVOLUTIONS + GROUPED + UNEVEN,
    "mnn": CONVOLUTIONS,
}


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "spelling"), [(name, spelling) for name in RUNS for spelling in RUNS[name]]
)
def test_a_peer_computes_the_layer(name, spelling):
    cold = name.partition("-")[0] in WITH_COLD
    assert agree(installed(name), spelling) == ({Row.WARM, Row.COLD} if cold else {Row.WARM})


@pytest.mark.peer
@pytest.mark.parametrize("name", ["torch", "torch-nchw", "onnxruntime", "openvino", "ncnn"])
@pytest.mark.parametrize("spelling", POOLINGS)
def test_a_peer_computes_the_pooling(name, spelling):
    assert agree(installed(name), spelling) == {Row.WARM}


@pytest.mark.peer
@pytest.mark.parametrize("name", ["torch", "torch-nhwc", "torch-nchw"])
@pytest.mark.parametrize(
    "spelling",
    [
        "wgrad:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1",
        "wgrad:f32:n2c6h9w8_k4r3s3",
        "fprop:max:f32:n2c3h8w8_r3s3_st2x2_p1x1+indices",
        "fprop:avg:f32:n2c3h8w8_r3s3_st2x2_p1x1+ceil+exclude_pad",
        "fprop:avg:f32:n2c3w8_s3_st2_p1",
        "dgrad:max:f32:nhwc:n2c6h8w8_r3s3_st2x2_p1x1",
        "dgrad:avg:f32:n2c6h8w8_r3s3_st2x2_p1x1+exclude_pad",
    ],
)
def test_torch_without_weights_to_read_has_no_cold_row(name, spelling):
    assert agree(installed(name), spelling) == {Row.WARM}


@pytest.mark.peer
@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "ncnn"])
def test_there_are_not_too_many_cold_layers(name, monkeypatch):
    runner = installed(name)
    monkeypatch.setattr(adapter(name), "copies_past_cache", lambda nbytes: 1000)
    assert agree(runner, "fprop:f32:n1c4h6w6_k4r3s3") == {Row.WARM}


@pytest.mark.peer
def test_torch_keeps_the_order_it_was_told():
    torch = require("torch")
    problem = parse("fprop:f32:nhwc-krsc:n2c8h9w8_k8r3s3")
    data = operands(problem)
    for order, wanted in (
        (Order.CHANNELS_LAST, torch.channels_last),
        (Order.CHANNELS_FIRST, torch.contiguous_format),
    ):
        runner = peers.Torch(order)
        result = runner.calls(problem, data, [Row.WARM])[Row.WARM].run()
        assert result.is_contiguous(memory_format=wanted)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "spelling", "reason"),
    [
        ("onnxruntime", "fprop:f32:n1c4h6w6_k4r3s3+relu", "post ops"),
        ("onnxruntime", "fprop:f64:n1c4h6w6_k4r3s3", "float32"),
        ("onnxruntime", "dgrad:f32:n1c4h6w6_k4r3s3", "forward"),
        ("onnxruntime", "fprop:max:f32:n1c4h6w6_r2s2+indices", "indices"),
        ("openvino", "fprop:bf16:n1c4h6w6_k4r3s3", "float32"),
        ("ncnn", "fprop:f32:n1c4w6_k4s3", "images"),
        ("mnn", "fprop:f32:n1c4h6w6_k4r3s3_p0:1x0:1", "uneven"),
        ("mnn", "fprop:f32:n1c8h6w6_k8r3s3_g2", "groups"),
        ("mnn", "fprop:max:f32:n1c4h6w6_r2s2", "convolutions"),
        ("torch", "fprop:i32:n1c4h6w6_k4r3s3", "integers"),
        ("torch", "fprop:f32:n1c4h6w6_k4r3s3_st2x2_p0:1x0:1", "uneven"),
        ("torch-linear", "fprop:f32:nhwc-krsc:n1c4h6w6_k4r3s3", "1x1"),
    ],
)
def test_what_a_peer_does_not_do_it_refuses_in_words(name, spelling, reason):
    problem = parse(spelling)
    with pytest.raises(Unable, match=reason):
        installed(name).calls(problem, operands(problem), ROWS)


def test_an_unknown_peer_is_refused():
    with pytest.raises(ValueError, match=r"no peer 'caffe'; there are torch, .*onnxruntime"):
        peers.load(["caffe"])


def test_a_peer_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    runners, missing = peers.load(["torch-nhwc", "torch-nchw"])
    assert runners == []
    assert missing == ["torch was not measured: torch not installed"]
