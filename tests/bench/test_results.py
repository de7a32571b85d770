from __future__ import annotations

import json

import pytest

from convforge.bench import goals, record, results
from convforge.bench.catalogue import GROUPS
from convforge.bench.groups import Run
from convforge.bench.timer import STANDARD

MACHINE = {"cpu": "EPYC", "cores": 2, "isa": "avx512"}


def kept(path):
    return json.loads(path.read_text(encoding="utf-8"))["machines"]


def test_a_run_replaces_its_own_numbers_only(tmp_path):
    other = {**MACHINE, "cores": 64}
    for machine, group, value in (
        (MACHINE, "conv3x3", 1),
        (MACHINE, "dense", 2),
        (other, "conv3x3", 3),
        (MACHINE, "conv3x3", 4),
    ):
        path = results.merge(tmp_path / "deep", group, {"machine": machine, "value": value})
    assert path == tmp_path / "deep" / "measured.json"
    assert [file.name for file in path.parent.iterdir()] == ["measured.json"]
    mine, theirs = kept(path).values()
    assert {name: group["value"] for name, group in mine["groups"].items()} == {
        "conv3x3": 4,
        "dense": 2,
    }
    assert theirs["groups"]["conv3x3"] == {"value": 3}
    assert mine["machine"] == MACHINE and theirs["machine"] == other


def test_machines_are_told_apart_by_processor_cores_and_instructions():
    assert results.machine_kind(MACHINE) == "EPYC, 2 cores, avx512"


def test_nothing_is_read_from_where_nothing_is(tmp_path):
    assert results.read(tmp_path) == {"machines": {}}


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"tables": []}')
    with pytest.raises(ValueError, match="not a file of measurements"):
        results.merge(path, "dense", {"machine": MACHINE})
    assert path.read_text() == '{"tables": []}'


def test_a_layer_is_a_line(tmp_path, measurement, table):
    layers = [measurement(name, 10**6, convforge_warm=(1.0,), torch_warm=(2.0,)) for name in "abc"]
    tables = (table(*layers, name="dense_batch1", asked=3),)
    run = Run(itself={2: 1.0}, tables=tables, seconds=3.0)
    made = record.group_record(
        GROUPS["dense"], run, goals.of_group(tables), STANDARD, "convforge bench dense"
    )
    path = results.merge(tmp_path, "dense", made)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert sum('"label"' in line for line in lines) == 3
    (machine,) = kept(path).values()
    group = machine["groups"]["dense"]
    assert group["command"] == "convforge bench dense" and group["seconds"] == 3.0
    assert machine["machine"]["isa"]
    (read,) = group["tables"]
    assert read["layers"][0]["best"] == {"warm": {"peer": "torch", "ratio": 2.0}}
    assert read["peers"] == ["torch", "onnxruntime"]
    mean, lowest, *_ = group["goals"]
    assert mean["note"] == "3 layers"
    assert mean["met"] and mean["value"] == 2.0 and lowest["note"] == "a"
