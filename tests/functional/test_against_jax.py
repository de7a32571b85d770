"""What JAX computes: convolution in all directions and types, ``SAME``, and pooling."""

from __future__ import annotations

import numpy as np
import pytest

import convforge.functional as F
from convforge import Tensor

pytestmark = pytest.mark.peer

SIZE = (9, 8, 6)


def layouts(rank):
    space = "DHW"[-rank:]
    return f"NC{space}", f"OI{space}", f"NC{space}"


def convolution(jax, rank, stride, padding, dilation, groups):
    def theirs(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            window_strides=(stride,) * rank,
            padding=padding,
            rhs_dilation=(dilation,) * rank,
            dimension_numbers=layouts(rank),
            feature_group_count=groups,
            precision="highest",
            preferred_element_type=np.int32 if x.dtype.kind == "i" else None,
        )

    return theirs


def compare_convolutions(jax, agree, rank, stride, padding, dilation, groups, **options):
    conv = getattr(F, f"conv{rank}d")
    word = {"SAME": "same_upper", "SAME_LOWER": "same_lower", "VALID": "valid"}

    def ours(x, w):
        own = word[padding] if isinstance(padding, str) else padding
        return conv(x, w, stride=stride, padding=own, dilation=dilation, groups=groups)

    theirs = convolution(jax, rank, stride, padding, dilation, groups)
    shapes = (2, 4, *SIZE[:rank]), (6, 4 // groups, *(3, 2, 3)[:rank])
    agree(ours, theirs, *shapes, **options)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 2)])
def test_convolution_with_uneven_padding(jax, agree, rank, stride, dilation, groups):
    padding = ((2, 1), (0, 3), (1, 0))[:rank]
    compare_convolutions(jax, agree, rank, stride, padding, dilation, groups)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)])
def test_words_of_padding(jax, agree, rank, padding, stride, dilation):
    compare_convolutions(jax, agree, rank, stride, padding, dilation, 1)


@pytest.mark.parametrize("dtype", [np.int8, np.complex64])
def test_other_types(jax, agree, dtype):
    compare_convolutions(jax, agree, 2, 2, ((1, 0), (0, 1)), 1, 2, dtype=dtype)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise(jax, agree, multiplier):
    def ours(x, w):
        return F.conv2d(x, w, padding=1, groups=5)

    theirs = convolution(jax, 2, 1, ((1, 1), (1, 1)), 1, 5)
    agree(ours, theirs, (2, 5, 9, 8), (5 * multiplier, 1, 3, 3))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (2, 3, 1)])
def test_gradients(jax, agree, rank, stride, dilation, groups):
    pairs = ((2, 1), (1, 2), (0, 2))[:rank]
    theirs_forward = convolution(jax, rank, stride, pairs, dilation, groups)

    def ours(x, w, dy):
        x, w = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
        conv = getattr(F, f"conv{rank}d")
        conv(x, w, None, stride, pairs, dilation, groups).backward(dy)
        return x.grad, w.grad

    def theirs(x, w, dy):
        return jax.vjp(theirs_forward, x, w)[1](dy)

    x, w = (2, 4, *SIZE[:rank]), (6, 4 // groups, *(3, 2, 2)[:rank])
    dy = jax.eval_shape(theirs_forward, np.empty(x, np.float32), np.empty(w, np.float32)).shape
    agree(ours, theirs, x, w, dy)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "dilation", "extra"), [(1, 1, 0), (2, 1, 1), (3, 2, 2)])
def test_transposed_convolution(jax, agree, rank, stride, dilation, extra):
    filters = (3, 2, 4)[:rank]
    crop = ((1, 0), (0, 1), (2, 1))[:rank]

    def ours(x, w):
        transposed = getattr(F, f"conv_transpose{rank}d")
        return transposed(x, w, None, stride, crop, extra, dilation=dilation)

    def theirs(x, w):
        # JAX says what is put around the spread input, we say what is taken off the result.
        reach = [dilation * (k - 1) for k in filters]
        padding = [(r - lo, r - hi + extra) for r, (lo, hi) in zip(reach, crop, strict=True)]
        return jax.lax.conv_transpose(
            x,
            w,
            (stride,) * rank,
            padding,
            rhs_dilation=(dilation,) * rank,
            dimension_numbers=layouts(rank),
            transpose_kernel=True,
            precision="highest",
        )

    agree(ours, theirs, (2, 4, *(5, 4, 3)[:rank]), (4, 3, *filters))


@pytest.mark.parametrize(
    ("word", "filter", "stride", "crop", "extra"),
    [
        ("VALID", 3, 2, (0, 0), 0),
        ("VALID", 2, 4, (0, 0), 2),  # a whole stride for every pixel
        ("SAME", 3, 2, (0, 1), 0),
        ("SAME", 4, 2, (1, 1), 0),
        ("SAME", 4, 1, (1, 2), 0),
        ("SAME", 2, 3, (0, 0), 1),
    ],
)
def test_words_of_padding_of_the_transpose_are_crops(jax, agree, word, filter, stride, crop, extra):
    def ours(x, w):
        return F.conv_transpose1d(x, w, None, stride, (crop,), extra)

    def theirs(x, w):
        return jax.lax.conv_transpose(
            x,
            w,
            (stride,),
            word,
            dimension_numbers=layouts(1),
            transpose_kernel=True,
            precision="highest",
        )

    agree(ours, theirs, (2, 4, 7), (4, 3, filter))


def windows(jax, x, initial, combine, rank, filters, stride, padding, dilation):
    return jax.lax.reduce_window(
        x,
        np.asarray(initial, x.dtype),
        combine,
        (1, 1, *filters),
        (1, 1, *(stride,) * rank),
        padding if isinstance(padding, str) else ((0, 0), (0, 0), *padding),
        window_dilation=(1, 1, *(dilation,) * rank),
    )


POOLINGS = [
    pytest.param(rank, stride, dilation, padding, own, id=f"{rank}d-s{stride}-d{dilation}-{own}")
    for rank in (1, 2, 3)
    for stride, dilation in ((1, 1), (2, 2))
    for padding, own in (
        (((1, 0), (0, 1), (1, 1))[:rank], ((1, 0), (0, 1), (1, 1))[:rank]),
        ("SAME", "same_upper"),
        ("SAME_LOWER", "same_lower"),
    )
]


@pytest.mark.parametrize(("rank", "stride", "dilation", "padding", "own"), POOLINGS)
def test_max_pooling(jax, agree, rank, stride, dilation, padding, own):
    filters = (3, 2, 3)[:rank]

    def ours(x):
        return getattr(F, f"max_pool{rank}d")(x, filters, stride, own, dilation)

    def theirs(x):
        return windows(jax, x, -np.inf, jax.lax.max, rank, filters, stride, padding, dilation)

    agree(ours, theirs, (2, 3, *SIZE[:rank]))


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_of_max_pooling_goes_to_the_first_of_equals(jax, rank, stride):
    filters, pairs = (3, 2, 3)[:rank], ((1, 0), (0, 1), (1, 1))[:rank]
    rng = np.random.default_rng(0)
    values = rng.integers(-2, 3, (2, 3, *SIZE[:rank])).astype(np.float32)
    x = Tensor(values, requires_grad=True)
    y = getattr(F, f"max_pool{rank}d")(x, filters, stride, pairs)
    dy = rng.integers(-4, 5, y.shape).astype(np.float32)
    y.backward(dy)

    def theirs(x):
        return windows(jax, x, -np.inf, jax.lax.max, rank, filters, stride, pairs, 1)

    (wanted,) = jax.vjp(theirs, values)[1](dy)
    np.testing.assert_array_equal(x.grad, wanted)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("rank", "stride", "dilation", "padding", "own"), POOLINGS)
def test_average_pooling(jax, agree, rank, stride, dilation, padding, own, include):
    filters = (3, 2, 3)[:rank]

    def ours(x):
        pool = getattr(F, f"avg_pool{rank}d")
        return pool(x, filters, stride, own, count_include_pad=include, dilation=dilation)

    def theirs(x):
        def total(values):
            return windows(jax, values, 0, jax.lax.add, rank, filters, stride, padding, dilation)

        return total(x) / (np.float32(np.prod(filters)) if include else total(np.ones_like(x)))

    # Where the sum is exact, the quotient is rounded once, by whoever divides.
    agree(ours, theirs, (2, 3, *SIZE[:rank]), exact=False)
