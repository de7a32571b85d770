"""Whole networks: ratios, promises, the record and the page; nothing is timed."""

import math

import pytest

from convforge.bench import goals, models
from convforge.bench.models import CONVERT, ONNXRUNTIME, OPTIMIZE, TORCH, Model
from convforge.bench.timer import BRIEF, Timing


def made(name="ResNet-50", batch=1, **seconds):
    times = {TORCH[0]: 4.0, TORCH[1]: 3.0, CONVERT: 2.0, OPTIMIZE: 1.0, **seconds}
    timings = {who: Timing((s, s)) for who, s in times.items() if s}
    return Model(name=name, batch=batch, training=False, timings=timings)


def test_ratios_are_to_the_better_memory_order():
    one = made(onnxruntime=1.5)
    assert one.ratio(CONVERT) == 1.5 and one.ratio(OPTIMIZE) == 3
    assert one.ratio(OPTIMIZE, (ONNXRUNTIME,)) == 1.5
    assert math.isnan(made().ratio(OPTIMIZE, (ONNXRUNTIME,)))


def test_every_network_promises_something_and_a_slow_one_breaks_it():
    for training, wanted in ((False, models.INFERENCE), (True, models.TRAINING)):
        for name, batch in wanted:
            one = Model(name=name, batch=batch, training=training, timings=made().timings)
            assert list(goals.of_models([one]))
    *met, missing = goals.of_models([made()])
    assert all(goal.met for goal in met) and not missing.met
    assert not any(goal.met for goal in goals.of_models([made(convert=9.0, optimize=9.0)]))


def test_record_and_page():
    pytest.importorskip("jinja2")
    from convforge.bench import page, record

    one = made(onnxruntime=1.5)
    found = record.models_record([one], goals.of_models([one]), BRIEF, "convforge bench models")
    text = page._models(found["models"])
    assert "ResNet-50, batch 1" in text and "1.50" in text and "3.00" in text


@pytest.mark.parametrize("name", ["ResNet-18", "MobileNetV2", "ConvNeXt-T"])
def test_networks_have_the_published_sizes(name):
    torch = pytest.importorskip("torch")
    from convforge.bench.networks import NETWORKS

    with torch.device("meta"):
        model = NETWORKS[name]()
        assert model.eval()(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    wanted = {"ResNet-18": 11_689_512, "MobileNetV2": 3_504_872, "ConvNeXt-T": 28_589_128}
    assert sum(p.numel() for p in model.parameters()) == wanted[name]
