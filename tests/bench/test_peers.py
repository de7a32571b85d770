from __future__ import annotations

import numpy as np
import pytest

from convforge.bench import peers
from convforge.bench.rows import Row, Unable
from convforge.problem import parse
from convforge.testing import oracle
from convforge.testing.data import operands
from convforge.testing.peers import require

ROWS = (Row.WARM, Row.COLD)


@pytest.fixture(autouse=True)
def few_copies(monkeypatch):
    monkeypatch.setattr(peers, "copies_past_cache", lambda nbytes: 3)


def agree(runner, spelling, rows=ROWS):
    """Run every row; returns which there are."""
    problem = parse(spelling)
    data = operands(problem)
    with runner.quiet():
        calls = runner.calls(problem, data, rows)
        for call in calls.values():
            for _ in range(2):  # the second call of a cold row has another copy
                got = np.ascontiguousarray(call.read(call.run()))
                assert oracle.worst(problem, got, data).units < 8
    return set(calls)


@pytest.mark.peer
@pytest.mark.parametrize(
    "spelling",
    [
        "fprop:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1",
        "fprop:f32:n2c6h9w8_k4r3s2_d2x1_g2",
        "fprop:f64:n1c4w12_k6s3_p1",
        "fprop:f32:ndhwc-ktrsc:n1c3d4h5w6_k2t2r3s3",
        "fprop:bf16:nhwc-krsc:n1c4h6w6_k4r3s3",
        "dgrad:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1",
        "dgrad:f32:n2c6h9w8_k4r3s3_g2",
    ],
)
def test_torch_computes_the_problem(spelling):
    require("torch")
    assert agree(peers.Torch(), spelling) == {Row.WARM, Row.COLD}


@pytest.mark.peer
@pytest.mark.parametrize(
    "spelling",
    [
        "wgrad:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1",
        "wgrad:f32:n2c6h9w8_k4r3s3",
        "fprop:max:f32:nhwc:n2c3h8w8_r3s3_st2x2_p1x1",
        "fprop:max:f32:n2c3h8w8_r3s3_st2x2_p1x1+indices",
        "fprop:avg:f32:n2c3h8w8_r3s3_st2x2_p1x1+ceil+exclude_pad",
    ],
)
def test_torch_without_weights_to_read_has_no_cold_row(spelling):
    require("torch")
    assert agree(peers.Torch(), spelling) == {Row.WARM}


@pytest.mark.peer
@pytest.mark.parametrize(
    "spelling",
    [
        "fprop:f32:nhwc-krsc:n2c6h9w8_k4r3s3_st2x1_p1x1_g2",
        "fprop:f32:n2c6h9w8_k4r3s2_d2x1",
    ],
)
def test_onnxruntime_computes_the_problem(spelling):
    require("onnx")
    require("onnxruntime")
    assert agree(peers.OnnxRuntime(), spelling) == {Row.WARM, Row.COLD}


@pytest.mark.peer
def test_onnxruntime_has_no_cold_row_where_it_would_take_too_many_layers(monkeypatch):
    require("onnx")
    require("onnxruntime")
    monkeypatch.setattr(peers, "copies_past_cache", lambda nbytes: 1000)
    assert agree(peers.OnnxRuntime(), "fprop:f32:n1c4h6w6_k4r3s3") == {Row.WARM}


@pytest.mark.parametrize(
    ("spelling", "reason"),
    [
        ("fprop:f32:n1c4h6w6_k4r3s3_p0:1x0:1", "uneven"),
        ("fprop:f32:n1c4h6w6_k4r3s3+relu", "post ops"),
        ("fprop:f64:n1c4h6w6_k4r3s3", "float32"),
        ("dgrad:f32:n1c4h6w6_k4r3s3", "forward"),
    ],
)
def test_what_a_peer_does_not_do_it_refuses_in_words(spelling, reason):
    problem = parse(spelling)
    with pytest.raises(Unable, match=reason):
        peers.OnnxRuntime().calls(problem, operands(problem), ROWS)


@pytest.mark.peer
def test_torch_convolves_no_integers():
    require("torch")
    problem = parse("fprop:i32:n1c4h6w6_k4r3s3")
    with pytest.raises(Unable, match="integers"):
        peers.Torch().calls(problem, operands(problem), ROWS)


def test_an_unknown_peer_is_refused():
    with pytest.raises(ValueError, match="no peer 'caffe'; there are torch, onnxruntime"):
        peers.load(["caffe"])


def test_a_peer_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    runners, missing = peers.load(["torch"])
    assert runners == []
    assert missing == ["torch was not measured: torch not installed"]
