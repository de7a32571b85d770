"""Convolution on arrays: memory in and out, odd arrays, empty arrays, gradients."""

from __future__ import annotations

import threading
from itertools import product

import numpy as np
import pytest

from convforge import ops, set_num_threads
from convforge.ops import conv_arguments
from convforge.policy import Policy
from convforge.reference import compute
from convforge.runtime.threads import get_num_threads

RNG = np.random.default_rng(0)


def integers(*shape, dtype=np.float32):
    """Small integers, on which every kernel is exact."""
    return RNG.integers(-4, 5, shape).astype(dtype)


def direct(x, w, args):
    """What a call must give, for logical arrays with the channels first."""
    call = ops.conv_call(args, np.ascontiguousarray(x), np.ascontiguousarray(w), None, None)
    return compute(call.problem, np.ascontiguousarray(x), np.ascontiguousarray(w))


def moved(array):
    """The same logical array over memory whose second axis lies last."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def misaligned(array):
    buffer = np.zeros(array.nbytes + 1, np.uint8)
    odd = buffer[1:].view(array.dtype).reshape(array.shape)
    odd[...] = array
    assert not odd.flags.aligned
    return odd


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def holed(array):
    wide = np.full((*array.shape[:-1], array.shape[-1] * 2), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


ODD = {
    "fortran": np.asfortranarray,
    "moved": moved,
    "holed": holed,
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "misaligned": misaligned,
    "read only": read_only,
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_odd_arrays_just_work(kind, rank):
    size = (5, 6, 4)[:rank]
    x, w, bias = integers(2, 3, *size), integers(4, 3, *(2,) * rank), integers(4)
    residual = integers(2, 4, *(n + 1 for n in size))
    args = conv_arguments(rank, padding=1)
    wanted = direct(x, w, args) + bias.reshape(-1, *(1,) * rank) + residual
    odd = ODD[kind]
    before = [array.copy() for array in (x, w, bias, residual)]
    for arrays in (
        (odd(x), w, bias, residual),
        (x, odd(w), bias, residual),
        (x, w, odd(bias[:, None])[:, 0], residual),
        (x, w, bias, odd(residual)),
        (odd(x), odd(w), odd(bias[:, None])[:, 0], odd(residual)),
    ):
        np.testing.assert_array_equal(ops.conv(args, *arrays), wanted)
    for array, copy in zip((x, w, bias, residual), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("batched", [True, False])
def test_memory_order_and_layout_are_two_things(batched):
    x, w = integers(2, 3, 5, 6), integers(4, 3, 3, 3)
    args = conv_arguments(2, padding=1)
    wanted = direct(x, w, args)
    if not batched:
        x, wanted = x[0], wanted[0]
    for layout, memory in product(("nchw", "nhwc"), repeat=2):
        to_layout = (lambda a: a) if layout == "nchw" else (lambda a: np.moveaxis(a, -3, -1))
        # The memory's own order first, then the logical axes over it.
        own = x if memory == "nchw" else np.ascontiguousarray(np.moveaxis(x, -3, -1))
        logical = own if memory == "nchw" else np.moveaxis(own, -1, -3)
        y = ops.conv(args._replace(layout=layout), to_layout(logical), w)
        np.testing.assert_array_equal(y, to_layout(wanted))
        back = y if layout == "nchw" else np.moveaxis(y, -1, -3)
        in_memory = back if memory == "nchw" else np.moveaxis(back, -3, -1)
        assert in_memory.flags.c_contiguous, (layout, memory)


def test_weights_are_used_in_place_in_both_orders():
    x, w = integers(1, 3, 5, 5), integers(4, 3, 3, 3)
    args = conv_arguments(2)
    np.testing.assert_array_equal(ops.conv(args, x, moved(w)), direct(x, w, args))
    assert str(ops.conv_call(args, x, moved(w), None, None).problem.w.order) == "last"


def test_same_kind_of_call_is_prepared_once():
    args = conv_arguments(2)
    x, w = integers(1, 2, 4, 4), integers(2, 2, 3, 3)
    first = ops.conv_call(args, x, w, None, None)
    assert ops.conv_call(conv_arguments(2), x + 1, w.copy(), None, None) is first
    assert ops.conv_call(args, moved(x), w, None, None) is not first


def test_a_prepared_call_follows_the_number_of_threads():
    args = conv_arguments(2)
    x, w = integers(1, 2, 4, 4), integers(2, 2, 3, 3)
    before = get_num_threads()
    first = ops.conv(args, x, w)
    try:
        set_num_threads(1)
        np.testing.assert_array_equal(ops.conv(args, x, w), first)
    finally:
        set_num_threads(before)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "args"),
    [
        ((0, 3, 5, 5), (4, 3, 3, 3), conv_arguments(2)),
        ((2, 0, 5, 5), (4, 0, 3, 3), conv_arguments(2)),
        ((2, 3, 5, 5), (0, 3, 3, 3), conv_arguments(2)),
        ((2, 3, 0, 5), (4, 3, 1, 3), conv_arguments(2, padding=1)),
        ((2, 4, 5, 5), (4, 0, 3, 3), conv_arguments(2, transposed=True)),
        ((0, 4, 5, 5), (4, 2, 3, 3), conv_arguments(2, transposed=True)),
        ((2, 0, 5, 5), (0, 2, 3, 3), conv_arguments(2, transposed=True)),
    ],
)
def test_empty_arrays_give_the_bias_or_nothing(x_shape, w_shape, args):
    x, w = np.zeros(x_shape, np.float32), np.zeros(w_shape, np.float32)
    call = ops.conv_call(args, x, w, None, None)
    channels = w_shape[1] if args.transposed else w_shape[0]
    bias = integers(channels)
    y = ops.conv(args, x, w, bias)
    assert y.shape == call.result_shape
    np.testing.assert_array_equal(y, np.broadcast_to(bias.reshape(-1, 1, 1), y.shape))
    dy = np.ones_like(y)
    assert call.input_gradient(dy, w).shape == x_shape
    np.testing.assert_array_equal(call.weight_gradient(x, dy), np.zeros(w_shape))
    assert ops.conv_dbias(args, dy).shape == (channels,)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [("int8", "int32"), ("uint8", "int32"), ("int16", "int32"), ("int32", "int64"),
     ("int64", "int64"), ("float16", "float16"), ("float32", "float32"), ("float64", "float64"),
     ("complex64", "complex64"), ("complex128", "complex128")],
)  # fmt: skip
def test_types_of_results(dtype, result):
    x, w = np.full((1, 3, 3, 3), 10, dtype), np.full((1, 3, 3, 3), 10, dtype)
    y = ops.conv(conv_arguments(2), x, w)
    assert y.dtype == result
    # In int8 this would wrap to -116.
    assert y.item() == 2700


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x, w = integers(1, 3, 4, 4, dtype=ml_dtypes.bfloat16), integers(2, 3, 3, 3)
    y = ops.conv(conv_arguments(2), x, w.astype(ml_dtypes.bfloat16))
    assert y.dtype.name == "bfloat16"
    wanted = ops.conv(conv_arguments(2), x.astype(np.float64), w.astype(np.float64))
    np.testing.assert_array_equal(y, wanted.astype(ml_dtypes.bfloat16))


def test_nan_and_infinity_go_everywhere_their_window_goes():
    x = np.zeros((1, 1, 7, 7), np.float32)
    x[0, 0, 3, 3] = np.nan
    y = ops.conv(conv_arguments(2), x, np.zeros((1, 1, 3, 3), np.float32))
    assert np.isnan(y).sum() == 9
    x[0, 0, 3, 3] = np.inf
    assert np.isnan(ops.conv(conv_arguments(2), x, np.zeros((1, 1, 3, 3), np.float32))).sum() == 9


@pytest.mark.parametrize("place", ["dense", "moved", "holed", "misaligned"])
def test_out_is_written_wherever_it_lies(place):
    x, w, args = integers(2, 3, 5, 5), integers(4, 3, 3, 3), conv_arguments(2)
    wanted = direct(x, w, args)
    poison = np.full(wanted.shape, np.nan, np.float32)
    out = {"dense": np.copy, "moved": moved, "holed": holed, "misaligned": misaligned}[place](
        poison
    )
    assert ops.conv(args, x, w, out=out) is out
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("other", ["input", "weight", "bias", "residual"])
def test_out_must_not_share_memory_with_an_input(other):
    memory = np.zeros(1000, np.float32)
    arrays = {
        "input": np.zeros((1, 2, 4, 4), np.float32),
        "weight": np.zeros((2, 2, 1, 1), np.float32),
        "bias": np.zeros(2, np.float32),
        "residual": np.zeros((1, 2, 4, 4), np.float32),
    }
    shape = arrays[other].shape
    arrays[other] = memory[10 : 10 + np.prod(shape)].reshape(shape)
    out = memory[:32].reshape(1, 2, 4, 4)
    with pytest.raises(ValueError, match=rf"out shares memory with {other}.*\(fprop:f32:n1c2h4w4"):
        ops.conv(conv_arguments(2), *arrays.values(), out=out)
    apart = memory[-32:].reshape(1, 2, 4, 4)
    assert ops.conv(conv_arguments(2), *arrays.values(), out=apart) is apart


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.full((1, 4, 3, 4), 7, "f"), ValueError, r"out has shape \(1, 4, 3, 4\); wanted \(1, 4"),
        (np.full((1, 4, 3, 3), 7, "d"), TypeError, "out has dtype float64; wanted float32"),
        (read_only(np.full((1, 4, 3, 3), 7, "f")), ValueError, "out is read-only"),
        ([1.0], TypeError, "out is of type list"),
    ],
)  # fmt: skip
def test_a_wrong_out_is_refused_and_not_written(out, error, message):
    with pytest.raises(error, match=message):
        ops.conv(conv_arguments(2), integers(1, 3, 5, 5), integers(4, 3, 3, 3), out=out)
    assert np.all(np.asarray(out) == np.asarray(out).flat[0])


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("batched", [True, False])
def test_gradient_operators_are_the_gradients(layout, batched):
    args = conv_arguments(2, (2, 1), ((1, 0), (0, 2)), (1, 2), 2, layout=layout)
    shape = (2, 4, 7, 8) if batched else (4, 7, 8)
    x, w = integers(*shape, dtype=np.float64), integers(6, 2, 3, 2, dtype=np.float64)
    if layout == "nhwc":
        x = np.ascontiguousarray(np.moveaxis(x, -3, -1))
    y = ops.conv(args, x, w)
    dy = integers(*y.shape, dtype=np.float64)
    dx = ops.conv_dgrad(args, dy, w, x.shape)
    dw = ops.conv_wgrad(args, x, dy, w.shape)
    assert dx.shape == x.shape
    assert (y * dy).sum() == (x * dx).sum() == (w * dw).sum()
    channel = -1 if layout == "nhwc" else -3
    others = tuple(a for a in range(dy.ndim) if a != dy.ndim + channel)
    np.testing.assert_array_equal(ops.conv_dbias(args, dy), dy.sum(axis=others))


def test_gradients_lie_as_what_they_are_gradients_of():
    x, w = moved(integers(2, 3, 5, 5)), moved(integers(4, 3, 3, 3))
    args = conv_arguments(2)
    call = ops.conv_call(args, x, w, None, None)
    dy = integers(*call.result_shape)
    assert call.input_gradient(dy, w).strides == x.strides
    assert call.weight_gradient(x, dy).strides == w.strides
    broadcast = np.broadcast_to(np.float32(1), dy.shape)
    np.testing.assert_array_equal(
        call.input_gradient(broadcast, w), call.input_gradient(np.ones_like(dy), w)
    )


def test_dbias_sums_long_axes_accurately():
    dy = np.full((1, 1, 4096, 1024), 0.1, np.float32)
    exact = dy.size * float(np.float32(0.1))
    assert abs(ops.conv_dbias(conv_arguments(2), dy).item() / exact - 1) < 1e-6


def test_threads_share_prepared_calls():
    x, w = integers(2, 8, 20, 20), integers(8, 8, 3, 3)
    args = conv_arguments(2, padding=1, policy=Policy(accuracy="strict"))
    wanted = direct(x, w, args)
    results = []

    def work():
        for _ in range(10):
            results.append(np.array_equal(ops.conv(args, x, w), wanted))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 40
