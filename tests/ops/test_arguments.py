"""Words of signatures become the fields of problems."""

from __future__ import annotations

import numpy as np
import pytest

from convforge import Policy
from convforge.ops import conv_arguments, pool_arguments
from convforge.ops.arguments import axes_of
from convforge.problem import PoolKind


def pads(padding, size, filter_size, stride=1, dilation=1):
    return [
        (axis.pad_lo, axis.pad_hi) for axis in axes_of(size, filter_size, stride, padding, dilation)
    ]


def test_spellings_of_one_call_are_one_key():
    plain = conv_arguments(2, (1, 2), ((0, 1), (2, 2)), 1, 1)
    for stride in ([1, 2], (np.int64(1), np.int32(2)), np.array([1, 2])):
        assert conv_arguments(2, stride, [[0, 1], [2, 2]], np.int8(1), 1) == plain
    assert conv_arguments(2, plain.stride, np.array([[0, 1], [2, 2]])) == plain
    assert conv_arguments(2, np.array(3)).stride == 3
    assert hash(conv_arguments(2, [1, 2], [[0, 1], [2, 2]])) == hash(plain)


def test_paddings_by_number():
    assert pads(1, (5, 6), (3, 3)) == [(1, 1), (1, 1)]
    assert pads((1, 2), (5, 6), (3, 3)) == [(1, 1), (2, 2)]
    assert pads(((1, 2), (0, 3)), (5, 6), (3, 3)) == [(1, 2), (0, 3)]


def test_paddings_by_word():
    assert pads("valid", (5,), (3,)) == [(0, 0)]
    assert pads("same", (5, 5), (3, 4)) == [(1, 1), (1, 2)]
    assert pads("same", (9,), (3,), dilation=2) == [(2, 2)]
    assert pads("causal", (9,), (3,), dilation=2) == [(4, 0)]
    # TensorFlow and ONNX: out = ceil(size / stride), so the padding depends on the size.
    assert pads("same_upper", (4,), (3,), stride=2) == [(0, 1)]
    assert pads("same_lower", (4,), (3,), stride=2) == [(1, 0)]
    assert pads("same_upper", (5,), (3,), stride=2) == [(1, 1)]
    assert pads("same_upper", (6,), (1,), stride=3) == [(0, 0)]


def test_an_algorithm_is_part_of_the_policy():
    assert conv_arguments(2).policy is None
    assert conv_arguments(2, algorithm="reference").policy == Policy(algorithm="reference")
    policy = Policy(workspace_limit=7, algorithm="reference")
    assert conv_arguments(2, policy=policy, algorithm="reference").policy == policy
    with pytest.raises(ValueError, match=r"algorithm is 'conv_direct', but policy\.algorithm"):
        conv_arguments(2, policy=policy, algorithm="conv_direct")
    with pytest.raises(TypeError, match="policy is of type dict"):
        conv_arguments(2, policy={})
    with pytest.raises(TypeError, match="algorithm is of type int"):
        conv_arguments(2, algorithm=3)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        (
            {"activation": ["relu"]},
            TypeError,
            r"activation is \['relu'\] of type list; wanted a wor",
        ),
        ({"activation": ""}, ValueError, "activation is ''; wanted None or relu, "),
        ({"activation": "bias"}, ValueError, "activation is 'bias'"),
        ({"layout": ["nchw"]}, TypeError, "layout is .* of type list; wanted a word"),
        ({"padding_mode": 0}, TypeError, "padding_mode is 0 of type int; wanted a word"),
        ({"algorithm": ""}, ValueError, "algorithm is ''; wanted None, a name or a glob"),
    ],
)
def test_words(keywords, error, message):
    with pytest.raises(error, match=message):
        conv_arguments(2, **keywords)


def test_no_activation_has_two_names():
    assert conv_arguments(2, activation="none") == conv_arguments(2)


@pytest.mark.parametrize("name", ["ceil_mode", "count_include_pad"])
def test_flags(name):
    assert getattr(pool_arguments(PoolKind.AVG, 2, 3, **{name: np.bool(True)}), name) is True
    for value in (1, "no", None):
        with pytest.raises(TypeError, match=f"{name} is {value!r} .*; wanted True or False"):
            pool_arguments(PoolKind.AVG, 2, 3, **{name: value})


def test_pool_stride_is_the_window_by_default():
    for stride in (None, [], ()):
        assert pool_arguments(PoolKind.MAX, 2, (2, 3), stride).stride == (2, 3)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"stride": (1, 2, 3)}, ValueError, r"stride is \(1, 2, 3\); wanted .* 2 .*\(h, w\)"),
        ({"stride": 1.0}, TypeError, r"stride is 1\.0 of type float; wanted an integer"),
        ({"stride": True}, TypeError, "stride is True of type bool"),
        ({"stride": "2"}, TypeError, "stride is '2' of type str"),
        ({"dilation": (1,)}, ValueError, r"dilation is \(1,\); wanted"),
        ({"groups": 2.0}, TypeError, r"groups is 2\.0"),
        ({"padding": "SAME"}, ValueError, r"padding is 'SAME'; wanted .*valid, same, same_upper"),
        ({"padding": ((1, 2),)}, ValueError, r"padding is \(\(1, 2\),\); wanted 2 pairs"),
        ({"padding": ((1, 2, 3), (1, 2))}, ValueError, "wanted 2 pairs"),
        ({"padding": (1, 2, 3)}, ValueError, r"padding is \(1, 2, 3\)"),
        ({"padding": ((1, 2.0), (1, 2))}, TypeError, r"padding is 2\.0"),
        ({"padding": None}, TypeError, "padding is None"),
    ],
)
def test_what_means_nothing_is_refused(keywords, error, message):
    with pytest.raises(error, match=message):
        conv_arguments(2, **keywords)
    if "groups" not in keywords:
        with pytest.raises(error, match=message):
            pool_arguments(PoolKind.AVG, 2, 3, **keywords)
