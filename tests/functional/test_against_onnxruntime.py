"""What ONNX means and ONNX Runtime computes, with one operator a model."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F

pytestmark = pytest.mark.peer

SIZE = (9, 8, 6)


def ends(pairs):
    """``(low, high)`` of every axis as ONNX has them: all low ones, then all high ones."""
    return [lo for lo, _ in pairs] + [hi for _, hi in pairs]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 2)])
def test_convolution_with_uneven_padding_and_bias(onnx, agree, rank, stride, dilation, groups):
    pairs = ((2, 1), (0, 3), (1, 0))[:rank]

    def ours(x, w, bias):
        return getattr(F, f"conv{rank}d")(x, w, bias, stride, pairs, dilation, groups)

    theirs = onnx(
        "Conv",
        strides=[stride] * rank,
        pads=ends(pairs),
        dilations=[dilation] * rank,
        group=groups,
    )
    agree(ours, theirs, (2, 4, *SIZE[:rank]), (6, 4 // groups, *(3, 2, 3)[:rank]), (6,))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("word", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_words_of_padding(onnx, agree, rank, word, stride):
    def ours(x, w):
        return getattr(F, f"conv{rank}d")(x, w, stride=stride, padding=word.lower())

    theirs = onnx("Conv", strides=[stride] * rank, auto_pad=word)
    agree(ours, theirs, (2, 4, *SIZE[:rank]), (6, 4, *(3, 2, 4)[:rank]))


def test_depthwise_convolution(onnx, agree):
    def ours(x, w):
        return F.conv2d(x, w, padding=1, groups=6)

    agree(ours, onnx("Conv", pads=[1] * 4, group=6), (2, 6, 9, 8), (12, 1, 3, 3))


def test_convolution_of_bytes(onnx):
    rng = np.random.default_rng(0)
    x, w = (rng.integers(0, 256, s, np.uint8) for s in ((2, 4, 9, 8), (6, 4, 3, 3)))
    (wanted,) = onnx("ConvInteger", pads=[1, 0, 0, 1])(x, w)
    got = F.conv2d(x, w, padding=((1, 0), (0, 1)))
    np.testing.assert_array_equal(got, wanted, strict=True)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("stride", "dilation", "groups", "extra"), [(1, 1, 1, 0), (2, 1, 2, 1), (3, 2, 2, 2)]
)
def test_transposed_convolution(onnx, agree, rank, stride, dilation, groups, extra):
    pairs = ((1, 0), (0, 1), (2, 1))[:rank]

    def ours(x, w):
        transposed = getattr(F, f"conv_transpose{rank}d")
        return transposed(x, w, None, stride, pairs, extra, groups, dilation)

    theirs = onnx(
        "ConvTranspose",
        strides=[stride] * rank,
        pads=ends(pairs),
        output_padding=[extra] * rank,
        dilations=[dilation] * rank,
        group=groups,
    )
    agree(ours, theirs, (2, 4, *(5, 4, 3)[:rank]), (4, 3, *(3, 2, 4)[:rank]))


POOLINGS = [
    (rank, stride, dilation, ceil)
    for rank in (1, 2, 3)
    for stride, dilation in ((1, 1), (2, 1), (3, 2))
    for ceil in (0, 1)
]


@pytest.mark.parametrize(("rank", "stride", "dilation", "ceil"), POOLINGS)
def test_max_pooling_with_positions(onnx, agree, rank, stride, dilation, ceil):
    pairs = ((1, 0), (1, 1), (0, 1))[:rank]
    plane = np.prod(SIZE[:rank])

    def ours(x):
        pool = getattr(F, f"max_pool{rank}d")
        return pool(x, 3, stride, pairs, dilation, bool(ceil), return_indices=True)

    def theirs(x):
        y, places = onnx(
            "MaxPool",
            outputs=2,
            kernel_shape=[3] * rank,
            strides=[stride] * rank,
            pads=ends(pairs),
            dilations=[dilation] * rank,
            ceil_mode=ceil,
        )(x)
        return y, places % plane  # counted along the whole array

    agree(ours, theirs, (2, 3, *SIZE[:rank]))


@pytest.mark.parametrize("word", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("window", [2, 3, 4])
def test_words_of_padding_of_poolings(onnx, agree, word, window):
    same = {"kernel_shape": [window] * 2, "strides": [2] * 2, "auto_pad": word}
    agree(
        lambda x: F.max_pool2d(x, window, 2, word.lower()),
        onnx("MaxPool", **same),
        (2, 3, *SIZE[:2]),
    )
    agree(
        lambda x: F.avg_pool2d(x, window, 2, word.lower(), count_include_pad=False),
        onnx("AveragePool", **same),
        (2, 3, *SIZE[:2]),
        exact=False,
    )


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(("rank", "stride", "dilation", "ceil"), POOLINGS)
def test_average_pooling(onnx, agree, rank, stride, dilation, ceil, include):
    pairs = ((1, 0), (1, 1), (0, 1))[:rank]

    def ours(x):
        pool = getattr(F, f"avg_pool{rank}d")
        return pool(x, 3, stride, pairs, bool(ceil), bool(include), dilation=dilation)

    theirs = onnx(
        "AveragePool",
        kernel_shape=[3] * rank,
        strides=[stride] * rank,
        pads=ends(pairs),
        dilations=[dilation] * rank,
        ceil_mode=ceil,
        count_include_pad=include,
    )
    agree(ours, theirs, (2, 3, *SIZE[:rank]), exact=False)
