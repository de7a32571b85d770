"""What convolution and pooling mean at their edges, as one table each: a call and what comes out.

More golden values stand with their functions; here is what is about sizes, types and limits.
"""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Policy, nn

NAN, INF = np.nan, np.inf


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def row(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 1, -1)


BIAS = np.float32([1, 2, 3])
BIG = np.full((1, 512, 1, 1), 100, np.float16)
SIGNS = np.where(np.arange(512) % 2, 1, -1).astype(np.float16).reshape(1, 512, 1, 1)

CONVOLUTIONS = {
    "no images": (
        lambda: F.conv2d(ones(0, 2, 5, 5), ones(3, 2, 3, 3)), np.zeros((0, 3, 3, 3), "f"),
    ),
    "no channels": (
        lambda: F.conv2d(ones(2, 0, 5, 5), ones(3, 0, 3, 3), BIAS),
        np.broadcast_to(BIAS[:, None, None], (2, 3, 3, 3)),
    ),
    "no filters": (
        lambda: F.conv2d(ones(2, 4, 5, 5), ones(0, 4, 3, 3)),
        np.zeros((2, 0, 3, 3), "f"),
    ),
    "no pixels": (
        lambda: F.conv2d(ones(1, 2, 0, 3), ones(3, 2, 1, 1), BIAS, padding=1),
        np.broadcast_to(BIAS[:, None, None], (1, 3, 2, 5)),
    ),
    "nothing transposed": (
        lambda: F.conv_transpose2d(ones(0, 2, 5, 5), ones(2, 3, 3, 3)),
        np.zeros((0, 3, 7, 7), "f"),
    ),
    "bytes, 2700": (
        lambda: F.conv2d(ones(1, 3, 3, 3, dtype="b") * 10, ones(1, 3, 3, 3, dtype="b") * 10),
        np.full((1, 1, 1, 1), 2700, "i4"),
    ),
    "bytes, 900": (
        lambda: F.conv2d(ones(1, 1, 3, 3, dtype="b") * 10, ones(1, 1, 3, 3, dtype="b") * 10),
        np.full((1, 1, 1, 1), 900, "i4"),
    ),
    "half overflows where it is stored": (
        lambda: F.conv2d(BIG, BIG), np.full((1, 1, 1, 1), INF, np.float16),
    ),
    "half overflows nowhere else": (
        lambda: F.conv2d(BIG * SIGNS, BIG), np.zeros((1, 1, 1, 1), np.float16),
    ),
    "half in float32": (
        lambda: F.conv2d(BIG, BIG, out_dtype=np.float32),
        np.full((1, 1, 1, 1), 512e4, np.float32),
    ),
    "NaN times zero": (lambda: F.conv1d(row(1, NAN, 2), row(0, 1)), row(NAN, NAN)),
    "infinity times zero": (lambda: F.conv1d(row(1, INF, 2), row(1, 0)), row(NAN, INF)),
    "replicate any width": (
        lambda: F.pad(row(1, 2), (3, 4), "replicate"),
        row(1, 1, 1, 1, 2, 2, 2, 2, 2),
    ),
    "transposed length": (
        lambda: F.conv_transpose1d(row(1, 1), row(1, 1), None, 3, 1, 1, 1, 2),
        row(0, 1, 1, 0, 1),
    ),
}  # fmt: skip

POOLINGS = {
    "no images": (lambda: F.max_pool2d(ones(0, 2, 4, 4), 2), np.zeros((0, 2, 2, 2), "f")),
    "no channels": (lambda: F.avg_pool2d(ones(2, 0, 4, 4), 2), np.zeros((2, 0, 2, 2), "f")),
    "stride is the window": (lambda: F.max_pool1d(row(1, 2, 3, 4), 2, []), row(2, 4)),
    "stride is the window's, of averages": (lambda: F.avg_pool1d(row(1, 3, 5, 7), 2), row(2, 6)),
    "padding counts": (lambda: F.avg_pool1d(row(2, 4), 2, padding=1), row(1, 2)),
    "length is rounded down": (lambda: F.max_pool1d(row(1, 2, 3, 4, 5), 2), row(2, 4)),
    "padding up to half of the dilated window": (
        lambda: F.max_pool1d(row(1, 2, 3), 3, 1, 2, 2), row(3, 2, 3),
    ),
    "averages have dilation": (
        lambda: F.avg_pool1d(row(1, 2, 3, 4, 5), 2, 1, 1, count_include_pad=False, dilation=2),
        row(2, 2, 3, 4, 4),
    ),
    "five to three": (lambda: F.adaptive_avg_pool1d(row(0, 1, 2, 3, 4), 3), row(0.5, 2, 3.5)),
    "three to five": (lambda: F.adaptive_avg_pool1d(row(1, 2, 3), 5), row(1, 1.5, 2, 2.5, 3)),
    "powers have no magnitudes": (lambda: F.lp_pool1d(row(-3, 2), 3, 2), row(NAN)),
    "the first power is the sum": (lambda: F.lp_pool1d(row(-3, 2), 1, 2), row(-1)),
    "the infinite power is the largest magnitude": (
        lambda: F.lp_pool1d(row(-3, 2), INF, 2), row(3),
    ),
}  # fmt: skip
for _type in ("i1", "u1", "i2", "i4", "i8"):
    _least = np.iinfo(_type).min
    POOLINGS[f"maxima of {_type}"] = (
        lambda least=_least, type_=_type: F.max_pool1d(row(least, least, 7, dtype=type_), 2, 2, 1),
        row(_least, 7, dtype=_type),
    )


def comes_out(call, wanted):
    with np.errstate(all="ignore"):
        got = call()
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case):
    comes_out(*CONVOLUTIONS[case])


@pytest.mark.parametrize("case", POOLINGS)
def test_poolings(case):
    comes_out(*POOLINGS[case])


REFUSED = {
    "bool": (lambda: F.conv1d(row(1) > 0, row(1) > 0), TypeError, "dtype bool; wanted one of"),
    "two types": (
        lambda: F.conv1d(row(1), row(1, dtype="d")), TypeError, "weight has dtype float64",
    ),
    "bias": (
        lambda: F.conv1d(row(1), row(1), np.ones(1)), TypeError, "bias has dtype float64",
    ),
    "a filter too large": (lambda: F.conv1d(row(1), row(1, 2)), ValueError, "larger than the"),
    "a filter of nothing": (lambda: F.conv1d(row(1), row()), ValueError, "filter of axis w is 0"),
    "negative padding": (
        lambda: F.conv1d(row(1, 2), row(1), padding=-1), ValueError, "must not be negative: slice",
    ),
    "a transpose of the same": (
        lambda: F.conv_transpose1d(row(1), row(1), padding="same"),
        ValueError, "'same'; a transposed convolution wants integers",
    ),
    "a layer of it": (
        lambda: nn.ConvTranspose2d(1, 1, 3, padding="same"), ValueError, "padding is 'same'",
    ),
    "bytes of bytes": (
        lambda: F.conv1d(row(1, dtype="b"), row(1, dtype="b"), out_dtype=np.int8),
        TypeError, "int32 or int64",
    ),
    "divisor 0": (
        lambda: F.avg_pool2d(ones(1, 1, 2, 2), 2, divisor_override=0), ValueError, "at least 1",
    ),
    "divisor -1": (
        lambda: F.avg_pool2d(ones(1, 1, 2, 2), 2, divisor_override=-1), ValueError, "at least 1",
    ),
    "padding over half": (
        lambda: F.max_pool1d(row(1, 2, 3), 3, 1, 2), ValueError, "half the window's extent 3",
    ),
    "no pixels": (
        lambda: F.max_pool2d(ones(1, 1, 0, 4), 2, padding=1),
        ValueError, "pooling needs at least 1",
    ),
    "maxima of bool": (lambda: F.max_pool1d(row(1) > 0, 1), TypeError, "dtype bool"),
    "averages of integers": (
        lambda: F.avg_pool1d(row(1, dtype="q"), 1), TypeError, "an average of integers is none",
    ),
    "reflection of all": (
        lambda: F.pad(row(1, 2), (2, 0), "reflect"), ValueError, "no elements for",
    ),
    "more than once around": (
        lambda: F.pad(row(1, 2), (3, 0), "circular"), ValueError, "no elements for",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    call, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize("weight_last", [False, True])
def test_results_and_positions_lie_in_memory_as_the_image_does(weight_last):
    def last(array):
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)

    x, w = np.random.default_rng(0).random((2, 3, 6, 5)).astype("f"), ones(4, 3, 2, 2)
    w = last(w) if weight_last else w
    for image, order in ((x, "C"), (last(x), "last")):
        results = [F.conv2d(image, w), *F.max_pool2d(image, 2, return_indices=True)]
        for result in results:
            seen = result if order == "C" else np.moveaxis(result, 1, -1)
            assert seen.flags.c_contiguous


@pytest.mark.parametrize(("C", "K", "size"), [(16, 24, 14), (64, 64, 20), (4, 8, 7)])
def test_a_batch_changes_no_bits_where_that_is_asked_for(C, K, size):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, C, size, size)).astype(np.float32)
    w = rng.standard_normal((K, C, 3, 3)).astype(np.float32)
    policy = Policy(batch_invariant=True)
    whole = F.conv2d(x, w, padding=1, policy=policy)
    for n in range(4):
        alone = F.conv2d(x[n : n + 1], w, padding=1, policy=policy)
        np.testing.assert_array_equal(alone, whole[n : n + 1])


def test_no_scratch_memory_is_enough():
    x, w = ones(1, 16, 14, 14), ones(24, 16, 3, 3)
    y = F.conv2d(x, w, policy=Policy(workspace_limit=0))
    np.testing.assert_array_equal(y, np.full((1, 24, 12, 12), 144))
