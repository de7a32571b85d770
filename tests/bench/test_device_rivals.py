"""The rivals on a GPU compute what they are asked for: shown on the CPU, by the same code."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("numba.cuda")

from convforge.bench.device import rivals
from convforge.bench.rows import Unable
from convforge.problem import Order, parse
from convforge.testing import oracle, peers
from convforge.testing.data import operands

CONVOLUTIONS = (
    "fprop:f32:nhwc-krsc:n2c3h7w8_k4r3s3_st2x1_p1x0",
    "fprop:f32:n2c4h7w8_k6r3s2_p1x1_d1x2_g2",
    "fprop:f32:nhwc-krsc:n1c2h5w6_k3r1s1",
    "fprop:f32:n1c2d4h5w6_k3t2r3s1",
    "fprop:f32:n2c3w11_k4s3_p1",
    "dgrad:f32:nhwc-krsc:n2c3h7w8_k4r3s3_p1x1",
    "dgrad:f32:n2c4h7w8_k6r3s3_st2x2_g2",
    "wgrad:f32:nhwc-krsc:n2c3h7w8_k4r3s3_p1x1",
    "wgrad:f32:n2c3h7w8_k4r3s3_d2x2",
)
POOLS = (
    "fprop:max:f32:nhwc:n2c3h7w8_r3s3_st2x2_p1x1",
    "fprop:max:f32:n2c3h7w8_r2s3+ceil",
    "fprop:avg:f32:n2c3h7w8_r3s3_st2x2_p1x1+exclude_pad",
    "fprop:avg:f32:nhwc:n2c3h7w8_r2s2_st2x2",
)


def judged(rival, problem):
    data = operands(problem)
    contest = rival.contest(problem, data, 2)
    assert len(contest.calls) == 2
    for call in contest.calls:
        got = contest.read(call())
        assert got.flags.c_contiguous
        assert oracle.worst(problem, got, data).units < 8


@pytest.mark.peer
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("spelled", CONVOLUTIONS + POOLS)
def test_torch(spelled, order):
    torch = peers.require("torch")
    settings = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [s.allow_tf32 for s in settings]
    try:
        rival = rivals.Torch(order, device="cpu")
        assert [s.allow_tf32 for s in settings] == [False, False]
        problem = parse(spelled)
        if problem.rank == 1 and order is Order.CHANNELS_LAST:
            with pytest.raises(Unable, match="no channels_last for sequences"):
                judged(rival, problem)
        else:
            judged(rival, problem)
    finally:
        for one, value in zip(settings, before, strict=True):
            one.allow_tf32 = value
        torch.backends.cudnn.benchmark = False


@pytest.fixture
def cupy(monkeypatch):
    """NumPy, which has these functions under the same names."""
    stub = ModuleType("cupy")
    stub.__dict__.update(vars(np))
    stub.asnumpy = np.asarray
    monkeypatch.setitem(sys.modules, "cupy", stub)


@pytest.mark.parametrize("spelled", [c for c in CONVOLUTIONS if c.startswith("fprop")])
def test_windows_and_a_product(cupy, spelled):
    problem = parse(spelled)
    if problem.groups > 1:
        with pytest.raises(Unable):
            judged(rivals.CupyMatmul(), problem)
    else:
        judged(rivals.CupyMatmul(), problem)


def test_who_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    found, missing = rivals.load()
    assert not found and len(missing) == 3
    assert all("does not take part" in sentence for sentence in missing)
