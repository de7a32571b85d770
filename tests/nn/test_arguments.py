"""Every layer refuses in its constructor what it could never run."""

from __future__ import annotations

import numpy as np
import pytest

from convforge import Policy, nn

CONV = [
    ({"in_channels": -1}, ValueError, "in_channels is -1; wanted at least 0"),
    ({"in_channels": 3.0}, TypeError, r"in_channels is 3\.0 of type float; wanted an integer"),
    ({"out_channels": True}, TypeError, "out_channels is True of type bool; wanted an integer"),
    ({"kernel_size": (3, 0)}, ValueError, r"kernel_size is \(3, 0\); wanted at least 1"),
    ({"stride": -1}, ValueError, "stride is -1; wanted at least 1"),
    ({"dilation": 0}, ValueError, "dilation is 0; wanted at least 1"),
    ({"padding": -1}, ValueError, "padding is -1; wanted at least 0"),
    ({"padding": ((0, 0), (1, -2))}, ValueError, r"padding is .*-2\)\); wanted at least 0"),
    ({"groups": True}, TypeError, "groups is True of type bool; wanted an integer"),
    ({"groups": 0}, ValueError, "groups is 0; wanted at least 1"),
    ({"groups": 4}, ValueError, "groups is 4; wanted a divisor of in_channels=6 and out_channels"),
    ({"algorithm": "no_such"}, ValueError, "algorithm 'no_such' is unknown; there is .*reference"),
    ({"algorithm": ""}, ValueError, "algorithm is ''; wanted"),
    ({"policy": Policy(algorithm="no_such")}, ValueError, "algorithm 'no_such' is unknown"),
    ({"policy": "strict"}, TypeError, r"policy is of type str; wanted a convforge\.Policy"),
    ({"activation": ["relu"]}, TypeError, "activation is .* of type list; wanted a word"),
]


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize(("keywords", "error", "message"), CONV)
def test_convolution(layer, keywords, error, message):
    with pytest.raises(error, match=message):
        layer(**{"in_channels": 6, "out_channels": 8, "kernel_size": 3} | keywords)


def test_padding_words_of_convolution():
    with pytest.raises(ValueError, match="padding 'same' needs stride 1, got 2"):
        nn.Conv2d(1, 1, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match="padding 'causal' is for 1 spatial axis; this has 2"):
        nn.Conv2d(1, 1, 3, padding="causal")
    y = nn.Conv2d(1, 1, 3, stride=2, padding="same_upper").eval()(np.ones((1, 1, 5, 5), "f"))
    assert y.shape == (1, 1, 3, 3)


def test_no_channels_and_other_spellings():
    assert nn.Conv2d(0, 4, 3).eval()(np.ones((1, 0, 5, 5), "f")).shape == (1, 4, 3, 3)
    assert nn.Conv2d(4, 0, 3).weight.shape == (0, 4, 3, 3)
    layer = nn.Conv2d(np.int64(2), 4, np.array([3, 1]), groups=np.int8(2), activation="none")
    assert layer.weight.shape == (4, 1, 3, 1)
    assert layer.activation is None
    assert repr(layer) == "Conv2d(2, 4, kernel_size=(3, 1), stride=(1, 1), groups=2)"


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((-1, 2), {}, ValueError, "in_features is -1; wanted at least 0"),
        ((1, 2.0), {}, TypeError, r"out_features is 2\.0 of type float"),
        ((1, 2), {"activation": "swish"}, ValueError, "activation is 'swish'"),
        ((1, 2), {"algorithm": "no_such"}, ValueError, "algorithm 'no_such' is unknown"),
        ((1, 2), {"policy": 1}, TypeError, "policy is of type int"),
    ],
)
def test_linear(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        nn.Linear(*arguments, **keywords)


POOL = [
    ({"kernel_size": 0}, ValueError, "kernel_size is 0; wanted at least 1"),
    ({"kernel_size": (2, 2, 2)}, ValueError, r"kernel_size is \(2, 2, 2\); wanted"),
    ({"stride": (1, 0)}, ValueError, r"stride is \(1, 0\); wanted at least 1"),
    ({"padding": -1}, ValueError, "padding is -1; wanted at least 0"),
    ({"padding": 2}, ValueError, r"padding is 2; wanted at most half the window, .* \(3, 3\)"),
    ({"padding": "full"}, ValueError, "padding is 'full'"),
    ({"ceil_mode": 1}, TypeError, "ceil_mode is 1 of type int; wanted True or False"),
    ({"layout": "ncw"}, ValueError, "layout is 'ncw'"),
    ({"algorithm": "no_such"}, ValueError, "algorithm 'no_such' is unknown"),
]


@pytest.mark.parametrize("layer", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize(("keywords", "error", "message"), POOL)
def test_pooling(layer, keywords, error, message):
    with pytest.raises(error, match=message):
        layer(**{"kernel_size": 3} | keywords)


def test_one_kind_of_pooling():
    with pytest.raises(ValueError, match="dilation is 0"):
        nn.MaxPool1d(3, dilation=0)
    with pytest.raises(TypeError, match="return_indices is 'yes'"):
        nn.MaxPool3d(3, return_indices="yes")
    with pytest.raises(ValueError, match="divisor_override is 0; wanted at least 1"):
        nn.AvgPool3d(3, divisor_override=0)
    with pytest.raises(TypeError, match="count_include_pad is 0"):
        nn.AvgPool1d(3, count_include_pad=0)
    # Half of the dilated window, which spans 5.
    assert nn.MaxPool1d(3, padding=2, dilation=2).padding == 2
