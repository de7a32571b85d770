"""JAX's and Flax's rules as golden values, and ``jax.lax`` with the same arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convforge.conventions import flax
from convforge.conventions import jax as ours

FEW = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
NAN = np.nan


def row(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 1, -1)


def last(*values):
    return np.array(values, np.float32).reshape(1, -1, 1)


COUNT = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
ONES = np.ones((1, 1, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("word", "sums"), [("SAME", [54, 45, 72, 54]), ("same_lower", [14, 30, 57, 99])]
)
def test_same_depends_on_the_size(word, sums):
    np.testing.assert_array_equal(ours.conv(COUNT, ONES, (2, 2), word).ravel(), sums)


@pytest.mark.parametrize(
    ("word", "taps"), [("SAME", [4, 3, 2, 1, 0]), ("SAME_LOWER", [0, 4, 3, 2, 1])]
)
def test_the_odd_element_of_an_even_kernel(word, taps):
    y = ours.conv(row(0, 0, 1, 0, 0), row(1, 2, 3, 4), (1,), word)
    np.testing.assert_array_equal(y, row(*taps))


@pytest.mark.parametrize(
    ("strides", "padding", "flip", "wanted"),
    [
        (2, "SAME", True, [1, 10, 102, 20, 203, 30]),
        (2, "SAME", False, [100, 10, 201, 20, 302, 30]),
        (2, "VALID", True, [1, 10, 102, 20, 203, 30, 300]),
        (4, "VALID", True, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]),
        (4, "SAME", True, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]),
        (2, [(1, 2)], True, [10, 102, 20, 203, 30, 300]),
        (2, [(3, 2)], True, [0, 1, 10, 102, 20, 203, 30, 300]),
    ],
)
def test_transposed(strides, padding, flip, wanted):
    kernel = np.float32([1, 10, 100]).reshape(3, 1, 1)
    y = ours.conv_transpose(last(1, 2, 3), kernel, (strides,), padding, transpose_kernel=flip)
    np.testing.assert_array_equal(y, last(*wanted))


def test_negative_padding_takes_elements_away():
    y = ours.conv_general_dilated(row(1, 2, 3, 4, 5), row(1, 1), (1,), [(-1, 2)])
    np.testing.assert_array_equal(y, row(5, 7, 9, 5, 0))


@pytest.mark.parametrize(("C", "total"), [(3, 2700), (1, 900)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_bytes_do_not_wrap(C, total, dtype):
    x, w = np.full((1, C, 3, 3), 10, np.int8), np.full((1, C, 3, 3), 10, np.int8)
    y = ours.conv(x, w, (1, 1), "VALID", preferred_element_type=dtype)
    assert (y.dtype, y.item()) == (dtype, total)
    with pytest.raises(TypeError, match=r"JAX's sums wrap: pass preferred_element_type=np\.int32"):
        ours.conv(x, w, (1, 1), "VALID")


@pytest.mark.parametrize("size", [(2, 0, 4, 4), (0, 2, 4, 4)])
def test_no_channels_and_no_images(size):
    y = ours.conv(
        np.ones(size, np.float32), np.ones((3, size[1], 3, 3), np.float32), (1, 1), "SAME"
    )
    np.testing.assert_array_equal(y, np.zeros((size[0], 3, 4, 4)))
    y = ours.conv(COUNT, np.ones((0, 1, 3, 3), np.float32), (1, 1), "VALID")
    assert y.shape == (1, 0, 2, 2)


def test_complex_filters_are_not_conjugated():
    x = row(1j, 0, dtype=np.complex64)
    y = ours.conv(x, row(1j, dtype=np.complex64), (1,), "VALID")
    np.testing.assert_array_equal(y, row(-1, 0))


@pytest.mark.parametrize("values", [(NAN, 1, 2), (1, NAN, 2), (1, 2, NAN)])
def test_the_maximum_hands_nan_on_wherever_it_stands(values):
    assert np.isnan(flax.max_pool(last(*values), (3,)).item())


def test_windows_are_one_apart_and_averages_count_the_padding():
    assert flax.max_pool(last(1, 2, 3), (2,)).shape == (1, 2, 1)
    y = flax.avg_pool(last(2, 4), (2,), padding=((1, 1),))
    np.testing.assert_array_equal(y, last(1, 3, 2))
    y = flax.avg_pool(last(2, 4), (2,), padding=((1, 1),), count_include_pad=False)
    np.testing.assert_array_equal(y, last(2, 3, 4))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.conv(COUNT, ONES, (1, 1), "FULL"), "padding is 'FULL'; wanted one of VALID"),
        (lambda: ours.conv(COUNT, ONES, (0, 1), "VALID"), "stride of axis h is 0"),
        (lambda: ours.conv(COUNT[..., :2], ONES, (1, 1), "VALID"), "larger than the padded input"),
        (
            lambda: ours.conv_general_dilated(COUNT, ONES, (1, 1), "SAME", (2, 2)),
            r"padding is 'SAME' and lhs_dilation \(2, 2\): give pairs, or call conv_transpose",
        ),
        (
            lambda: ours.conv_transpose(COUNT, ONES, (2, 2), "SAME_LOWER"),
            "padding is 'SAME_LOWER'; wanted 'SAME', 'VALID' or pairs",
        ),
        (
            lambda: ours.conv_general_dilated(
                COUNT, ONES, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHX", "NCHW")
            ),
            "dimension_numbers are .* with the same 2 spatial letters",
        ),
        (
            lambda: ours.conv_general_dilated(
                COUNT, ONES, (1, 1), "SAME", feature_group_count=2, batch_group_count=2
            ),
            "one of them must be 1",
        ),
        (
            lambda: ours.conv_general_dilated(COUNT, ONES, (1, 1), "SAME", batch_group_count=2),
            "batch_group_count is 2; it must divide the 1 images",
        ),
        (
            lambda: flax.max_pool(np.ones((1, 4, 1), np.float32), (2,), padding=((2, 2),)),
            "must not exceed half the window's extent 2",
        ),
    ],
)
def test_what_cannot_be_says_what_can(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def general(x, w, *arguments, **given_):
    return ours.conv_general_dilated(x, w, *arguments, **given_)


def test_gradients(adjoint):
    uneven = [(1, 2), (-1, 0)]
    adjoint(lambda x, w: general(x, w, (2, 1), uneven), (2, 4, 6, 7), (6, 4, 3, 2))
    adjoint(lambda x, w: general(x, w, (1, 1), uneven, (2, 3)), (2, 4, 4, 5), (6, 4, 3, 2))
    adjoint(
        lambda x, w: general(x, w, (1, 1), uneven, (2, 3), feature_group_count=2),
        (2, 4, 4, 5), (6, 2, 3, 2),
    )  # fmt: skip
    adjoint(
        lambda x, w: general(x, w, (2, 1), [(4, 5), (0, 1)], (3, 2)), (2, 4, 4, 5), (6, 4, 3, 2)
    )
    adjoint(
        lambda x, w: general(x, w, (1, 1), uneven, batch_group_count=2), (4, 3, 6, 7), (6, 3, 3, 2)
    )
    numbers = ("HNWC", "IHOW", "WNHC")
    adjoint(
        lambda x, w: general(x, w, (2, 1), uneven, dimension_numbers=numbers),
        (6, 2, 7, 4), (4, 3, 6, 2),
    )  # fmt: skip
    adjoint(
        lambda x, w: ours.conv_transpose(x, w, (2, 3), "SAME", transpose_kernel=True),
        (2, 4, 5, 4), (3, 2, 6, 4),
    )  # fmt: skip


PAIRS = st.tuples(st.integers(-1, 3), st.integers(-1, 3))
STEPS = st.tuples(*[st.integers(1, 3)] * 2)
PADS = st.one_of(st.sampled_from(["SAME", "SAME_LOWER", "VALID"]), st.tuples(PAIRS, PAIRS))
NUMBERS = [("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NHWC"), ("WNHC", "IHOW", "NWCH")]


def arranged(shape, spec, plain):
    """A shape with its axes in the order of a word."""
    return tuple(shape[plain.index(letter)] for letter in spec)


@pytest.mark.peer
@given(
    strides=STEPS, padding=PADS, spread=STEPS, dilation=STEPS, numbers=st.sampled_from(NUMBERS),
    groups=st.sampled_from([(1, 1), (2, 1), (1, 2)]),
)  # fmt: skip
@FEW
def test_jax_agrees_on_convolution(jax, agree, strides, padding, spread, dilation, numbers, groups):
    feature, batch = groups
    given_ = {
        "lhs_dilation": (1, 1) if isinstance(padding, str) else spread,
        "rhs_dilation": dilation,
        "dimension_numbers": numbers,
        "feature_group_count": feature,
        "batch_group_count": batch,
    }
    x = arranged((4, 4, 9, 8), numbers[0], "NCHW")
    w = arranged((6, 4 // feature, 3, 2), numbers[1], "OIHW")

    def theirs(x, w):
        return jax.lax.conv_general_dilated(x, w, strides, padding, precision="highest", **given_)

    agree(lambda x, w: general(x, w, strides, padding, **given_), theirs, x, w, whole=True)


@pytest.mark.peer
@pytest.mark.parametrize("rank", [1, 2, 3])
@given(
    stride=st.integers(1, 4), dilation=st.integers(1, 2), k=st.integers(1, 4), flip=st.booleans(),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), PAIRS), consistent=st.booleans(),
)  # fmt: skip
@FEW
def test_jax_agrees_on_transposed_convolution(
    jax, agree, rank, stride, dilation, k, flip, padding, consistent
):
    if not isinstance(padding, str):
        # Nothing may be left of a single pixel that is cropped at both ends.
        padding = (tuple(abs(width) for width in padding),) * rank
    given_ = {
        "rhs_dilation": (dilation,) * rank,
        "transpose_kernel": flip,
        "use_consistent_padding": consistent and isinstance(padding, str),
    }
    x, w = (2, *(6, 5, 4)[:rank], 4), (*(k, 2, 3)[:rank], *((3, 4) if flip else (4, 3)))

    def theirs(x, w):
        return jax.lax.conv_transpose(
            x, w, (stride,) * rank, padding, precision="highest", **given_
        )

    def own(x, w):
        return ours.conv_transpose(x, w, (stride,) * rank, padding, **given_)

    agree(own, theirs, x, w, whole=True)


@pytest.mark.peer
def test_jax_agrees_on_the_padding_of_the_convolution_that_is_undone(jax, agree):
    def call(module, **more):
        return lambda x, w: module.conv_transpose(
            x, w, (2, 3), ((1, 0), (0, 2)), use_consistent_padding=True, **more
        )

    theirs = call(jax.lax, precision="highest")
    agree(call(ours), theirs, (2, 6, 5, 4), (3, 4, 4, 3), whole=True)


@pytest.mark.peer
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_jax_agrees_on_bytes(jax, agree, dtype):
    same = {"preferred_element_type": np.int32}
    agree(
        lambda x, w: ours.conv(x, w, (2, 1), "SAME", **same),
        lambda x, w: jax.lax.conv(x, w, (2, 1), "SAME", **same),
        (2, 4, 9, 8), (6, 4, 3, 3), dtype=dtype,
    )  # fmt: skip


@pytest.mark.peer
@given(
    strides=STEPS,
    padding=st.one_of(
        st.sampled_from(["SAME", "SAME_LOWER", "VALID"]),
        st.tuples(*[st.tuples(*[st.integers(0, 1)] * 2)] * 2),
    ),
)
@FEW
def test_reduce_window_agrees_on_poolings(jax, agree, strides, padding):
    pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))

    def reduced(x, initial, combine):
        start = np.asarray(initial, x.dtype)
        return jax.lax.reduce_window(x, start, combine, (1, 3, 2, 1), (1, *strides, 1), pads)

    def means(x, include):
        total = reduced(x, 0, jax.lax.add)
        return total / (6 if include else reduced(np.ones_like(x), 0, jax.lax.add))

    def maxima(x):
        return reduced(x, -np.inf, jax.lax.max)

    shape = (2, 8, 7, 3)
    agree(lambda x: flax.max_pool(x, (3, 2), strides, padding), maxima, shape)
    for include in (True, False):
        agree(
            lambda x, include=include: flax.avg_pool(x, (3, 2), strides, padding, include),
            lambda x, include=include: means(x, include),
            shape,
            exact=False,
        )
