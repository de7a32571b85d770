"""ONNX's rules as golden values, and onnxruntime with the same attributes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convforge import Tensor
from convforge.conventions import onnx as ours

NAN = np.nan
FEW = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def row(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 1, -1)


COUNT = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
ONES = np.ones((1, 1, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("word", "sums"), [("SAME_UPPER", [54, 45, 72, 54]), ("SAME_LOWER", [14, 30, 57, 99])]
)
def test_same_depends_on_the_size(word, sums):
    y = ours.Conv(COUNT, ONES, strides=[2, 2], auto_pad=word)
    np.testing.assert_array_equal(y.ravel(), sums)


@pytest.mark.parametrize(
    ("word", "taps"), [("SAME_UPPER", [4, 3, 2, 1, 0]), ("SAME_LOWER", [0, 4, 3, 2, 1])]
)
def test_the_odd_element_of_an_even_kernel(word, taps):
    y = ours.Conv(row(0, 0, 1, 0, 0), row(1, 2, 3, 4), auto_pad=word)
    np.testing.assert_array_equal(y, row(*taps))


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({}, [1, 10, 102, 20, 203, 30, 300]),
        ({"pads": [1, 1], "output_padding": [1]}, [10, 102, 20, 203, 30, 300]),
        ({"auto_pad": "SAME_UPPER"}, [1, 10, 102, 20, 203, 30]),
        ({"auto_pad": "SAME_LOWER"}, [10, 102, 20, 203, 30, 300]),
        ({"auto_pad": "VALID"}, [1, 10, 102, 20, 203, 30, 300]),
        ({"output_shape": [6]}, [10, 102, 20, 203, 30, 300]),
        ({"output_shape": [6], "pads": [0, 1]}, [10, 102, 20, 203, 30, 300]),
        ({"output_shape": [1, 1, 6], "auto_pad": "SAME_UPPER"}, [1, 10, 102, 20, 203, 30]),
        ({"strides": [4]}, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300]),
        ({"strides": [4], "auto_pad": "SAME_UPPER"}, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300]),
        ({"strides": [4], "output_shape": [12]}, [1, 10, 100, 0, 2, 20, 200, 0, 3, 30, 300, 0]),
    ],
)
def test_transposed(attributes, wanted):
    y = ours.ConvTranspose(row(1, 2, 3), row(1, 10, 100), **({"strides": [2]} | attributes))
    np.testing.assert_array_equal(y, row(*wanted))


@pytest.mark.parametrize(
    ("size", "wanted"), [((2, 0, 4, 4), (2, 3, 2, 2)), ((0, 2, 4, 4), (0, 3, 2, 2))]
)
def test_no_channels_leave_the_bias_and_no_images_are_none(size, wanted):
    W, B = np.ones((3, size[1], 3, 3), np.float32), np.array([1, 2, 3], np.float32)
    y = ours.Conv(np.ones(size, np.float32), W, B)
    assert y.shape == wanted
    if not size[1]:
        np.testing.assert_array_equal(y, np.broadcast_to(B[:, None, None], wanted))


@pytest.mark.parametrize(("C", "total"), [(3, 2700), (1, 900)])
def test_bytes_do_not_wrap(C, total):
    x, w = np.full((1, C, 3, 3), 10, np.int8), np.full((1, C, 3, 3), 10, np.int8)
    y = ours.ConvInteger(x, w)
    assert (y.dtype, y.item()) == (np.int32, total)


def test_zero_points_are_taken_off_and_padding_is_one():
    x, w = row(5, 7, 3, dtype=np.uint8), row(2, 1, dtype=np.int8)
    y = ours.ConvInteger(x, w, 3, np.array([1], np.int8), pads=[1, 0])
    np.testing.assert_array_equal(y, row(0, 2, 4))
    with pytest.raises(TypeError, match="x has dtype float32; ConvInteger wants int8 or uint8"):
        ours.ConvInteger(row(1.0), w)


@pytest.mark.parametrize("values", [(NAN, 1, 2), (1, NAN, 2), (1, 2, NAN)])
def test_the_maximum_hands_nan_on_wherever_it_stands(values):
    y, place = ours.MaxPool(row(*values), kernel_shape=[3], return_indices=True)
    assert np.isnan(y.item())
    assert place.item() == [i for i, v in enumerate(values) if np.isnan(v)][-1]


@pytest.mark.parametrize("values", [(2, 2, 1), (-np.inf,) * 3, (-128, -128, -128)])
def test_the_first_of_equals_has_the_position(values):
    dtype = np.int8 if values[0] == -128 else np.float32
    x = row(*values, dtype=dtype)
    y, place = ours.MaxPool(x, kernel_shape=[3], pads=[1, 1], strides=[3], return_indices=True)
    np.testing.assert_array_equal((y.item(), place.item()), (values[0], 0))


def test_strides_are_one_by_default():
    assert ours.MaxPool(COUNT, kernel_shape=[2, 2]).shape == (1, 1, 3, 3)
    assert ours.AveragePool(COUNT, kernel_shape=[2, 2]).shape == (1, 1, 3, 3)
    assert ours.LpPool(COUNT, kernel_shape=[2, 2]).shape == (1, 1, 3, 3)


@pytest.mark.parametrize(("order", "wanted"), [(0, [5, 7, 13, 15]), (1, [5, 13, 7, 15])])
def test_positions_count_the_whole_array(order, wanted):
    x = np.broadcast_to(COUNT, (2, 3, 4, 4)).copy()
    same = {"kernel_shape": [2, 2], "strides": [2, 2], "storage_order": order}
    _, places = ours.MaxPool(x, **same, return_indices=True)
    planes = np.arange(6).reshape(2, 3, 1, 1) * 16
    np.testing.assert_array_equal(places, np.reshape(wanted, (2, 2)) + planes)
    y, recorded = ours.MaxPool(Tensor(x, requires_grad=True), **same, return_indices=True)
    assert y.requires_grad
    assert type(recorded) is Tensor
    np.testing.assert_array_equal(recorded, places)


@pytest.mark.parametrize(("include", "first"), [(0, 3.5), (1, 14 / 9)])
def test_averages_leave_padding_out_by_default(include, first):
    same = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1}
    y = ours.AveragePool(COUNT, **same, **({"count_include_pad": 1} if include else {}))
    assert y.shape == (1, 1, 3, 3)
    np.testing.assert_allclose(y[0, 0, 0, 0], first, rtol=1e-6)
    # What hangs over is never counted.
    np.testing.assert_allclose(y[0, 0, 2, 2], 4 if include else 16, rtol=1e-6)


def test_averages_have_dilations():
    y = ours.AveragePool(row(1, 2, 3, 4, 5), kernel_shape=[2], dilations=[2], pads=[1, 1])
    np.testing.assert_array_equal(y, row(2, 2, 3, 4, 4))


@pytest.mark.parametrize(("p", "wanted"), [(1, [7, 5]), (2, [5, 5]), (3, [91 ** (1 / 3), 5])])
def test_norms_are_of_magnitudes_and_of_what_a_window_holds(p, wanted):
    y = ours.LpPool(row(-3, 4, -5), kernel_shape=[2], strides=[2], ceil_mode=1, p=p)
    np.testing.assert_allclose(y, row(*wanted), rtol=1e-6)
    x = Tensor(row(-3, 0, -5), requires_grad=True)
    ours.LpPool(x, kernel_shape=[2], p=1).sum().backward()
    np.testing.assert_array_equal(x.grad, row(-1, 0, -1))


def test_planes_as_a_whole():
    np.testing.assert_array_equal(ours.GlobalMaxPool(COUNT), [[[[16]]]])
    np.testing.assert_array_equal(ours.GlobalAveragePool(COUNT), [[[[8.5]]]])
    np.testing.assert_allclose(ours.GlobalLpPool(COUNT), [[[[1496**0.5]]]], rtol=1e-6)


def test_unpooling_is_the_way_back():
    same = {"kernel_shape": [2, 2], "strides": [2, 2]}
    for shape in ((2, 3, 4, 6), (2, 3, 5, 7)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        y, places = ours.MaxPool(x, **same, return_indices=True)
        back = ours.MaxUnpool(y, places, None if shape[3] == 6 else shape, **same)
        np.testing.assert_array_equal(back, np.where(back != 0, x, 0))
        assert (back != 0).sum() == y.size
    with pytest.raises(ValueError, match=r"output_shape is \(3, 6\); wanted at least \(4, 6\)"):
        ours.MaxUnpool(y, places, (3, 6), **same)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.Conv(COUNT, ONES, auto_pad="SAME"), "auto_pad is 'SAME'; wanted one of NOTS"),
        (lambda: ours.Conv(COUNT, ONES, pads=[1, 1]), r"pads are \[1, 1\]; wanted 2 beginnings"),
        (lambda: ours.Conv(COUNT, ONES, pads=[-1] * 4), "must not be negative: slice the input"),
        (lambda: ours.Conv(COUNT, ONES, pads=[1] * 4, auto_pad="VALID"), "give one of them"),
        (lambda: ours.Conv(COUNT, ONES, kernel_shape=[2, 2]), r"kernel_shape is \(2, 2\), but W"),
        (lambda: ours.Conv(COUNT[..., :2], ONES), "filter is larger than the padded input"),
        (lambda: ours.Conv(COUNT[0, 0], ONES[0, 0]), "W has shape .* wanted 1, 2 or 3 spatial"),
        (
            lambda: ours.ConvTranspose(COUNT, ONES, output_padding=[1, 1]),
            "output_padding is .* name the size in output_shape",
        ),
        (
            lambda: ours.MaxPool(COUNT, kernel_shape=[2, 2], pads=[2] * 4),
            "must not exceed half the window's extent 2",
        ),
    ],
)
def test_what_cannot_be_says_what_can(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_gradients(adjoint):
    same = {"strides": [2, 1], "pads": [1, 0, 0, 2], "dilations": [1, 2], "group": 2}
    adjoint(lambda x, w: ours.Conv(x, w, **same), (2, 4, 6, 7), (6, 2, 3, 2))
    adjoint(lambda x, w: ours.ConvTranspose(x, w, **same), (2, 4, 3, 4), (4, 3, 3, 2))
    shape = {"strides": [3, 2], "output_shape": [11, 20]}
    adjoint(lambda x, w: ours.ConvTranspose(x, w, **shape), (2, 4, 3, 4), (4, 3, 2, 2))
    adjoint(lambda x: ours.AveragePool(x, kernel_shape=[2, 2], pads=[1, 0, 0, 1]), (1, 2, 4, 4))


def attributes(rank, **more):
    """Strides, dilations, and pads that every window is more than half inside of."""
    each = {
        "strides": st.integers(1, 3),
        "dilations": st.integers(1, 2),
    }
    drawn = {name: st.lists(value, min_size=rank, max_size=rank) for name, value in each.items()}
    pads = st.lists(st.integers(0, 1), min_size=2 * rank, max_size=2 * rank)
    return st.one_of(
        st.fixed_dictionaries({**drawn, "pads": pads, **more}),
        st.fixed_dictionaries(
            {
                "strides": drawn["strides"],
                "auto_pad": st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
                **more,
            }
        ),
    )


@pytest.mark.peer
@given(given_=attributes(2, group=st.sampled_from([1, 2])))
@FEW
def test_onnxruntime_agrees_on_convolution(onnx, agree, given_):
    shapes = (2, 4, 8, 7), (6, 4 // given_["group"], 3, 2), (6,)
    agree(lambda *a: ours.Conv(*a, **given_), onnx("Conv", **given_), *shapes)


@pytest.mark.peer
@given(given_=attributes(2, group=st.sampled_from([1, 2])), data=st.data())
@FEW
def test_onnxruntime_agrees_on_transposed_convolution(onnx, agree, given_, data):
    if data.draw(st.booleans()) and "pads" in given_:
        del given_["pads"]
        given_["output_shape"] = [
            (n - 1) * s + d * (k - 1) + 1 - data.draw(st.integers(0, 2))
            for n, k, s, d in zip(
                (4, 5), (3, 2), given_["strides"], given_["dilations"], strict=True
            )
        ]
    shapes = (2, 4, 4, 5), (4, 3, 3, 2), (3 * given_["group"],)
    agree(lambda *a: ours.ConvTranspose(*a, **given_), onnx("ConvTranspose", **given_), *shapes)


@pytest.mark.peer
@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.uint8, np.int8)])
@pytest.mark.parametrize("zeros", [(), (7, 3)])
def test_onnxruntime_agrees_on_bytes(onnx, dtypes, zeros):
    rng = np.random.default_rng(0)
    x, w = (
        rng.integers(0, 100, s).astype(d)
        for s, d in zip(((2, 4, 9, 8), (6, 4, 3, 3)), dtypes, strict=True)
    )
    points = [np.array(z, d) for z, d in zip(zeros, dtypes, strict=False)]
    (wanted,) = onnx("ConvInteger", pads=[1, 0, 0, 1])(x, w, *points)
    np.testing.assert_array_equal(
        ours.ConvInteger(x, w, *points, pads=[1, 0, 0, 1]), wanted, strict=True
    )


@pytest.mark.peer
@given(given_=attributes(2, ceil_mode=st.integers(0, 1), storage_order=st.integers(0, 1)))
@FEW
def test_onnxruntime_agrees_on_maxima(onnx, agree, given_):
    given_["kernel_shape"] = [3, 2]

    def both(x):
        return ours.MaxPool(x, **given_, return_indices=True)

    agree(both, onnx("MaxPool", outputs=2, **given_), (2, 3, 8, 7))


@pytest.mark.peer
@given(given_=attributes(2, ceil_mode=st.integers(0, 1), count_include_pad=st.integers(0, 1)))
@FEW
def test_onnxruntime_agrees_on_averages(onnx, agree, given_):
    given_["kernel_shape"] = [3, 2]
    theirs = onnx("AveragePool", **given_)
    agree(lambda x: ours.AveragePool(x, **given_), theirs, (2, 3, 8, 7), exact=False)


@pytest.mark.peer
@given(given_=attributes(2, ceil_mode=st.integers(0, 1), p=st.integers(1, 3)))
@FEW
def test_onnxruntime_agrees_on_norms(onnx, agree, given_):
    given_["kernel_shape"] = [3, 2]
    theirs = onnx("LpPool", **given_)
    agree(lambda x: ours.LpPool(x, **given_), theirs, (2, 3, 8, 7), exact=False)


@pytest.mark.peer
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_onnxruntime_agrees_on_planes(onnx, agree, rank):
    for name in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"):
        agree(getattr(ours, name), onnx(name), (2, 3, *(5, 4, 3)[:rank]), exact=False)


@pytest.mark.peer
@pytest.mark.parametrize("pads", [[0] * 4, [1, 0, 1, 0], [1, 0, 0, 1]])
@pytest.mark.parametrize("shape", [None, (2, 3, 9, 10)])
def test_onnxruntime_agrees_on_unpooling(onnx, pads, shape):
    rng = np.random.default_rng(0)
    same = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": pads}
    x = rng.standard_normal((2, 3, 3, 4)).astype(np.float32)
    size = [2 * 2 + 3 - pads[0] - pads[2], 3 * 2 + 2 - pads[1] - pads[3]]
    size = size if shape is None else shape[2:]
    places = [np.sort(rng.permutation(size[0] * size[1])[:12]) for _ in range(6)]
    whole = np.reshape(places, x.shape) + np.arange(6).reshape(2, 3, 1, 1) * size[0] * size[1]
    extra = () if shape is None else (np.array(shape, np.int64),)
    (wanted,) = onnx("MaxUnpool", **same)(x, whole, *extra)
    np.testing.assert_array_equal(ours.MaxUnpool(x, whole, shape, **same), wanted)
