"""What Keras computes with its channels last, on whichever backend there is."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge.testing import peers

pytestmark = pytest.mark.peer

SIZE = (9, 8, 6)
LAYOUTS = {1: "nwc", 2: "nhwc", 3: "ndhwc"}


def filters(w):
    """Ours ``(K, C // groups, R, S)`` as Keras has them, ``(R, S, C // groups, K)``."""
    return np.moveaxis(w, (1, 0), (-2, -1))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 2)])
def test_convolution(keras, agree, rank, padding, stride, dilation, groups):
    own = {"valid": "valid", "same": "same_upper"}[padding]

    def ours(x, w):
        conv = getattr(F, f"conv{rank}d")
        return conv(x, w, None, stride, own, dilation, groups, layout=LAYOUTS[rank])

    def theirs(x, w):
        y = keras.ops.conv(x, filters(w), stride, padding, "channels_last", dilation)
        return keras.ops.convert_to_numpy(y)

    agree(ours, theirs, (2, *SIZE[:rank], 4), (6, 4 // groups, *(3, 2, 3)[:rank]))


@pytest.mark.parametrize("dilation", [1, 3])
def test_causal_convolution(keras, agree, dilation):
    def ours(x, w):
        return F.conv1d(x, w, padding="causal", dilation=dilation, layout="nwc")

    def theirs(x, w):
        layer = keras.layers.Conv1D(
            len(w), w.shape[-1], padding="causal", dilation_rate=dilation, use_bias=False
        )
        layer.build(x.shape)
        layer.set_weights([filters(w)])
        return keras.ops.convert_to_numpy(layer(x))

    agree(ours, theirs, (2, 9, 4), (6, 4, 3))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolution(keras, agree, stride, multiplier):
    def ours(x, w):
        return F.conv2d(x, w, None, stride, "same_upper", groups=5, layout="nhwc")

    def theirs(x, w):
        # One axis for the channel, and one for which of its filters.
        kernel = np.moveaxis(w.reshape(5, multiplier, 3, 2), (0, 1), (-2, -1))
        y = keras.ops.depthwise_conv(x, kernel, stride, "same", "channels_last")
        return keras.ops.convert_to_numpy(y)

    agree(ours, theirs, (2, 9, 8, 5), (5 * multiplier, 1, 3, 2))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("padding", "stride", "crop", "extra"),
    [("valid", 1, (0, 0), 0), ("valid", 2, (0, 0), 0), ("same", 2, (0, 1), 0)],
)
def test_transposed_convolution(keras, agree, rank, padding, stride, crop, extra):
    def ours(x, w):
        transposed = getattr(F, f"conv_transpose{rank}d")
        return transposed(x, w, None, stride, (crop,) * rank, extra, layout=LAYOUTS[rank])

    def theirs(x, w):
        y = keras.ops.conv_transpose(x, filters(w), stride, padding, None, "channels_last")
        return keras.ops.convert_to_numpy(y)

    agree(ours, theirs, (2, *(5, 4, 3)[:rank], 4), (4, 3, *(3,) * rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling(keras, agree, rank, padding, window, stride, kind):
    own = {"valid": "valid", "same": "same_upper"}[padding]
    if (kind, padding) == ("average", "same"):
        peers.require("jax")  # Keras on PyTorch repeats the border where the padding is uneven

    def ours(x):
        if kind == "max":
            pool = getattr(F, f"max_pool{rank}d")
            return pool(x, window, stride, own, layout=LAYOUTS[rank])
        pool = getattr(F, f"avg_pool{rank}d")
        return pool(x, window, stride, own, count_include_pad=False, layout=LAYOUTS[rank])

    def theirs(x):
        pool = getattr(keras.ops, f"{kind}_pool")
        return keras.ops.convert_to_numpy(pool(x, window, stride, padding, "channels_last"))

    agree(ours, theirs, (2, *SIZE[:rank], 3), exact=kind == "max")
