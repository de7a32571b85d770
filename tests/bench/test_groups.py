from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from convforge.bench import groups, peers, step, suites
from convforge.bench.catalogue import GROUPS
from convforge.bench.goals import PROMISES
from convforge.bench.groups import Group, Part
from convforge.bench.layers import labelled
from convforge.bench.ours import Convforge
from convforge.bench.rows import Row
from convforge.bench.timer import Method
from convforge.problem import ConvProblem, Direction, DType, Order, parse

METHOD = Method(rounds=2, most_rounds=2, block_s=1e-4, pause_s=0, unmeasured=1)
PARTS = [(group, part) for group in GROUPS.values() for part in group.parts()]
IDS = [f"{group.name}_{part.name}" for group, part in PARTS]


def problems(group: str, part: str) -> list:
    (found,) = (p for g, p in PARTS if (g.name, p.name) == (group, part))
    return [layer.problem for layer in found.layers]


@pytest.mark.parametrize(("group", "part"), PARTS, ids=IDS)
def test_every_part_has_layers_peers_and_distinct_labels(group, part):
    labels = [layer.label for layer in part.layers]
    assert labels and len(set(labels)) == len(labels)
    assert len({layer.problem for layer in part.layers}) == len(labels)
    assert set(part.peers) <= set(peers.PEERS)
    assert part.rows


@pytest.mark.parametrize(("group", "part"), PARTS, ids=IDS)
def test_every_layer_of_a_part_can_be_run(group, part):
    for layer in part.layers:
        assert Convforge().plan(layer.problem).algorithm


def test_promises_are_of_tables_that_there_are():
    assert set(PROMISES) == set(IDS)


def test_make_measures_every_group():
    text = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    words = text.partition("GROUPS ?= ")[2].partition("\n\n")[0]
    assert words.replace("\\", " ").split() == list(GROUPS)


@pytest.mark.parametrize("group", GROUPS.values(), ids=list(GROUPS))
def test_a_group_says_what_it_is(group):
    assert group.about.endswith(".") and group.title
    assert group.name not in suites.names()
    parts = group.parts()
    assert len({part.name for part in parts}) == len(parts)


def test_layers_are_those_that_the_title_says():
    for problem in problems("conv3x3", "batch1"):
        assert problem.filter == (3, 3) and problem.groups == 1
        assert min(problem.C, problem.K) >= 64 and min(problem.out) >= 14
        assert problem.x.order is Order.CHANNELS_LAST and problem.N == 1
    assert all(problem.N == 16 for problem in problems("conv3x3", "batch16"))
    assert all(p.x.order is Order.CHANNELS_FIRST for p in problems("conv3x3", "nchw"))
    assert all(p.filter == (1, 1) for p in problems("pointwise", "batch1"))
    assert {p.axes[0].dilation for p in problems("dense", "batch1")} == {1, 2, 4}
    assert {p.filter[0] for p in problems("depthwise", "batch1")} == {3, 5, 7}
    assert {p.filter[0] for p in problems("depthwise", "large")} == {31, 29, 27, 13}
    assert {p.group_C for p in problems("grouped", "batch1")} == {4, 8, 16, 32}
    assert {p.rank for p in problems("one_axis", "batch1")} == {1}
    assert {p.rank for p in problems("three_axes", "batch1")} == {3}
    assert {p.x.dtype for p in problems("float64", "resnet50")} == {DType.F64}
    assert {p.x.dtype for p in problems("bfloat16", "resnet50")} == {DType.BF16}
    assert {p.direction for p in problems("pooling", "backward")} == {Direction.DGRAD}
    assert all(p.flops < 5e6 for p in problems("tiny", "batch1"))
    assert all(p.filter == (1, 1) and p.groups == 1 for p in problems("linear", "batch1"))


def test_float64_accumulates_in_float64():
    (first, *_) = problems("float64", "resnet50")
    assert isinstance(first, ConvProblem) and first.acc is DType.F64


def test_equal_labels_name_the_network():
    padded, plain = "fprop:f32:n1c8h8w8_k8r3s3_p1x1", "fprop:f32:n1c8h8w8_k8r3s3"
    layers = labelled({parse(padded): "one", parse(plain): "other"})
    assert [layer.label for layer in layers] == ["3x3 8→8 @8", "3x3 8→8 @8 (other)"]


@pytest.fixture
def little():
    """A group of one forward layer and one step."""
    layers = suites.resolve(["fprop:f32:nhwc-krsc:n2c8h6w6_k8r3s3_p1x1"])
    forward = Part(name="a", title="A", layers=layers, rows=(Row.WARM,), peers=("torch-nchw",))
    steps = replace(
        forward, name="b", title="B", layers=step.layers(layers), rows=(Row.PLAIN,), training=True
    )
    return Group(name="little", title="Little", about="One.", parts=lambda: (forward, steps))


def test_a_run_measures_every_part_on_every_number_of_threads(little, monkeypatch, peer):
    monkeypatch.setitem(peers.PEERS, "torch-nchw", lambda: peer("torch-nchw"))
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: "installed")
    shown = []
    found = groups.run(
        little, peers=["torch"], threads=[2, 1], method=METHOD, finished=shown.append
    )
    assert [(t.name, t.threads) for t in found.tables] == [
        ("little_a", 2),
        ("little_a", 1),
        ("little_b", 2),
        ("little_b", 1),
    ]
    assert tuple(shown) == found.tables
    assert set(found.itself) == {2, 1}
    forward, _, steps, _ = (table.measured[0] for table in found.tables)
    assert set(forward.timings) == {"convforge warm", "torch-nchw warm"}
    assert set(steps.timings) == {"convforge plain", "torch-nchw warm"}
    assert found.tables[2].best_ratios(Row.PLAIN).keys() == {forward.label}


def test_libraries_that_are_not_wanted_stay_away(little, monkeypatch, peer):
    monkeypatch.setitem(peers.PEERS, "torch-nchw", lambda: peer("torch-nchw"))
    _, others = groups.contestants(little.parts()[0], ["onnxruntime"])
    assert others == []


def test_a_group_ends_when_its_time_is_over(little, monkeypatch):
    found = groups.run(little, peers=[], threads=[1], method=METHOD, minutes=0)
    assert all(table.measured == () for table in found.tables)
    assert all("the time was over" in table.notes[0] for table in found.tables)
