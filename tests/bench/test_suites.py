from __future__ import annotations

import pytest

from convforge.bench import suites
from convforge.bench.suites import describe
from convforge.problem import ConvProblem, Direction, Order, parse


def test_the_foundation_has_its_13_dense_layers():
    layers = suites.load("foundation")
    assert len(layers) == 13
    for layer in layers:
        assert isinstance(layer.problem, ConvProblem)
        assert layer.problem.x.order is Order.CHANNELS_LAST
        assert layer.problem.w.order is Order.CHANNELS_LAST
        assert layer.problem.groups == 1
    assert len({layer.label for layer in layers}) == 13
    assert str(layers[0].problem) == "fprop:f32:nhwc-krsc:n1c3h224w224_k64r7s7_st2x2_p3x3"


@pytest.mark.parametrize("name", suites.names())
def test_every_suite_parses_and_labels_are_short(name):
    layers = suites.load(name)
    assert layers
    assert all(0 < len(layer.label) < 60 for layer in layers)


def test_reading_a_file():
    text = """
# A network. Somebody 2020.

fprop:f32:n1c3h8w8_k4r3s3_p1x1  # stem
fprop:f32:n1c4h8w8_k4r1s1
"""
    stem, other = suites.read(text)
    assert stem.label == "stem"
    assert str(stem.problem) == "fprop:f32:n1c3h8w8_k4r3s3_p1x1"
    assert other.label == "1x1 4→4 @8"


def test_words_are_suites_or_problems():
    one, *rest = suites.resolve(["wgrad:f64:nhwc:n2c4h8w8_k8r3s3_p1x1", "foundation"])
    assert one.label == "3x3 4→8 @8 n2 nhwc wgrad f64"
    assert len(rest) == 13


def test_an_unknown_suite_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no suite 'resnet'; there are .*foundation"):
        suites.resolve(["resnet"])
    with pytest.raises(ValueError, match="cannot read problem 'conv:3'"):
        suites.resolve(["conv:3"])


@pytest.mark.parametrize(
    ("spelling", "label"),
    [
        ("fprop:f32:n1c3h224w224_k64r7s7_st2x2_p3x3", "7x7/2 3→64 @224"),
        ("fprop:f32:n1c256h28w28_k256r3s3_p2x2_d2x2", "3x3 dilation 2 256→256 @28"),
        ("fprop:f32:n8c32h9w7_k32r3s3_g32", "3x3 32→32 depthwise @9x7 n8"),
        ("fprop:f32:n1c32h9w9_k64r3s3_g4", "3x3 32→64 g4 @9"),
        ("fprop:max:f32:n1c64h112w112_r3s3_st2x2_p1x1", "3x3/2 max 64 @112"),
    ],
)
def test_labels(spelling, label):
    assert describe(parse(spelling)) == label


def test_layouts_and_gradients_of_layers():
    layers = suites.load("foundation")
    nchw = suites.in_order(layers, Order.CHANNELS_FIRST)
    assert [layer.label for layer in nchw] == [layer.label for layer in layers]
    assert all(":nhwc" not in str(layer.problem) for layer in nchw)
    assert all(layer.problem.w.order is Order.CHANNELS_FIRST for layer in nchw)
    wgrad = suites.gradients(layers, Direction.WGRAD)
    assert all(str(layer.problem).startswith("wgrad:f32:nhwc-krsc:") for layer in wgrad)
    pool = suites.resolve(["fprop:max:f32:n1c64h8w8_r2s2"])
    assert str(suites.in_order(pool, Order.CHANNELS_LAST)[0].problem).startswith(
        "fprop:max:f32:nhwc:"
    )
