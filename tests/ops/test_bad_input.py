"""Every wrong argument is named, with what came and what was wanted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from convforge import UnsupportedProblem, ops
from convforge.ops import conv_arguments, pool_arguments
from convforge.problem import PoolKind


def array(*shape, dtype="f"):
    return np.ones(shape, dtype)


X, W = array(1, 4, 5, 6), array(8, 4, 3, 3)

CONV = {
    "rank of input": (
        {"input": array(5, 6)},
        r"input has shape \(5, 6\); wanted \(N, C, H, W\) or, for one image, \(C, H, W\)",
    ),
    "rank of input, last": (
        {"input": array(5, 6), "layout": "nhwc"},
        r"wanted \(N, H, W, C\) or, for one image, \(H, W, C\)",
    ),
    "rank of weight": (
        {"weight": array(8, 4, 3)},
        r"weight has shape \(8, 4, 3\); wanted \(K, C // groups, R, S\)",
    ),
    "channels": (
        {"input": array(1, 3, 5, 6)},
        r"input has 3 channels in shape \(1, 3, 5, 6\); weight of shape \(8, 4, 3, 3\) with "
        r"groups=1 wants 4",
    ),
    "channels and groups": ({"groups": 2}, "groups=2 wants 8"),
    "groups": ({"groups": 0}, "groups is 0; it must be at least 1"),
    "groups and filters": (
        {"groups": 3, "input": array(1, 12, 5, 6)},
        "groups is 3; it must divide the output channels, of which weight .* has 8",
    ),
    "stride": ({"stride": 0}, "stride of axis h is 0; it must be at least 1"),
    "dilation": ({"dilation": (1, -1)}, "dilation of axis w is -1; it must be at least 1"),
    "padding": ({"padding": -1}, r"padding of axis h is \(-1, -1\); it must not be negative"),
    "same": ({"padding": "same", "stride": 2}, "'same' needs stride 1, got 2.*same_upper"),
    "causal": ({"padding": "causal"}, "'causal' is for 1 spatial axis; this has 2"),
    "kernel size 0": ({"weight": array(8, 4, 0, 3)}, "filter of axis h is 0; it must be at least"),
    "kernel larger": (
        {"weight": array(8, 4, 7, 3)},
        r"filter is larger than the padded input on axis h: it spans 7 .*, the input has 5",
    ),
    "layout": ({"layout": "nwc"}, "layout is 'nwc'; wanted 'nchw' or 'nhwc' for 2 spatial axes"),
    "activation": (
        {"activation": "swish"},
        "activation is 'swish'; wanted None or relu, relu6, silu, gelu, gelu_tanh",
    ),
    "padding mode": (
        {"padding_mode": "mirror"},
        "padding_mode is 'mirror'; wanted zeros, reflect, replicate, circular",
    ),
    "reflect": (
        {"padding_mode": "reflect", "padding": 5},
        "reflect padding 5 on axis h must be smaller than its size 5",
    ),
    "bias shape": (
        {"bias": array(4)},
        r"bias has shape \(4,\); wanted \(8,\) \(fprop:f32:n1c4h5w6_k8r3s3\+bias\)",
    ),
    "residual shape": (
        {"residual": array(1, 8, 5, 6)},
        r"residual has shape \(1, 8, 5, 6\); wanted \(1, 8, 3, 4\) \(fprop:f32",
    ),
    "algorithm": ({"algorithm": "no_such"}, "algorithm 'no_such' is unknown; there is .*reference"),
}
TYPES = {
    "bool": (
        {"input": X > 0},
        r"input has dtype bool; wanted one of float16, .*astype\(np.uint8\)",
    ),
    "object": ({"input": X.astype(object)}, "input has dtype object"),
    "mixed": (
        {"weight": W.astype("d")},
        r"weight has dtype float64; wanted float32, the type of input: pass "
        r"weight\.astype\('float32'\) \(fprop:f32:n1c4h5w6_k8r3s3\)",
    ),
    "bias type": (
        {"bias": array(8, dtype="d")},
        r"bias has dtype float64; wanted float32, the type of the result: .* \(fprop:f32:n1c4h5w6",
    ),
    "residual type": ({"residual": array(1, 8, 3, 4, dtype="i")}, "residual has dtype int32"),
    "bias of int8": (
        {"input": X.astype("b"), "weight": W.astype("b"), "bias": array(8, dtype="b")},
        "bias has dtype int8; wanted int32",
    ),
    "complex relu": (
        {"input": X.astype("F"), "weight": W.astype("F"), "activation": "relu"},
        "activation 'relu' has no meaning for complex64",
    ),
    "integer silu": (
        {"input": X.astype("b"), "weight": W.astype("b"), "activation": "silu"},
        "activation 'silu' has no meaning for int32",
    ),
    "list": ({"input": X.tolist()}, r"input is of type list; wanted an array: pass np\.asarray"),
    "no weight": ({"weight": None}, "weight is of type NoneType"),
}


def call(keywords, transposed=False):
    arrays = {"input": X, "weight": W, "bias": None, "residual": None}
    arrays |= {name: keywords.pop(name) for name in list(keywords) if name in arrays}
    # The result of every case that reaches one, so that a write would show.
    out = np.full((1, 8, 3, 4), 7, "f")
    try:
        ops.conv(conv_arguments(2, transposed=transposed, **keywords), **arrays, out=out)
    finally:
        assert (out == 7).all()


@pytest.mark.parametrize("case", CONV)
def test_convolution_values(case):
    keywords, message = CONV[case]
    for _ in range(2):  # an error is not cached away
        with pytest.raises(ValueError, match=message):
            call(dict(keywords))


@pytest.mark.parametrize("case", TYPES)
def test_convolution_types(case):
    keywords, message = TYPES[case]
    for _ in range(2):
        with pytest.raises(TypeError, match=message):
            call(dict(keywords))


TRANSPOSED = {
    "groups": (
        {"input": array(1, 8, 5, 6), "groups": 3},
        "groups is 3; it must divide the input channels, of which weight .* has 8",
    ),
    "channels": (
        {},
        r"input has 4 channels .* weight of shape \(8, 4, 3, 3\) with groups=1 wants 8",
    ),
    "words": (
        {"input": array(1, 8, 5, 6), "padding": "same"},
        "padding is 'same'; a transposed convolution wants integers",
    ),
    "output padding": (
        {"input": array(1, 8, 5, 6), "stride": 2, "output_padding": 2},
        "output_padding is 2; each must be at least 0 and smaller than its stride",
    ),
    "negative output padding": (
        {"input": array(1, 8, 5, 6), "output_padding": -1},
        "output_padding is -1",
    ),
    "nothing left": (
        {"input": array(1, 8, 1, 6), "padding": 2},
        r"the transposed convolution of \(1, 6\) pixels .* has the size \(-1, 4\)",
    ),
    "stride": ({"input": array(1, 8, 5, 6), "stride": 0}, "stride of axis h is 0|output_padding"),
    "rank of weight": (
        {"weight": array(8, 4, 3)},
        r"weight has shape \(8, 4, 3\); wanted \(C, K // groups, R, S\)",
    ),
    "bias shape": ({"input": array(1, 8, 5, 6), "bias": array(8)}, r"bias .*\(8,\); wanted \(4,\)"),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_values(case):
    keywords, message = TRANSPOSED[case]
    with pytest.raises(ValueError, match=message):
        call(dict(keywords), transposed=True)


def test_a_named_algorithm_that_cannot_lists_the_reasons():
    with pytest.raises(UnsupportedProblem, match=r"no algorithm for fprop:c64.*conv_direct"):
        ops.conv(conv_arguments(2, algorithm="conv_direct"), X.astype("F"), W.astype("F"))


@pytest.mark.parametrize(
    "keywords",
    [{"stride": 0}, {"padding": -1}, {"padding": "same", "stride": 2}, {"groups": 2},
     {"stride": (0, 1), "layout": "nchw"}],
)  # fmt: skip
def test_what_makes_no_problem_is_spelled_as_it_came(keywords):
    spelled = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | keywords
    settings = ", ".join(f"{name} {value}" for name, value in spelled.items())
    with pytest.raises(ValueError) as caught:
        call(dict(keywords))
    arrays = "(input (1, 4, 5, 6) float32, weight (8, 4, 3, 3) float32, "
    assert str(caught.value).endswith(f"{arrays}{settings})")


def test_a_pooling_that_makes_no_problem_is_spelled_as_it_came():
    with pytest.raises(ValueError, match=r"\(input \(1, 4, 5, 6\) float32, kernel_size 8, "):
        ops.pool(pool_arguments(PoolKind.MAX, 2, 8), X)


OUT = {
    "zero stride": lambda: as_strided(array(12), (1, 8, 3, 4), (0, 0, 16, 4)),
    "sliding": lambda: as_strided(array(99), (1, 8, 3, 4), (0, 48, 4, 4)),
}


@pytest.mark.parametrize("case", OUT)
@pytest.mark.parametrize("pooled", [False, True])
def test_out_that_overlaps_itself(case, pooled):
    out = OUT[case]()
    before = out.copy()
    with pytest.raises(ValueError, match="out overlaps itself: with strides "):
        if pooled:
            ops.pool(pool_arguments(PoolKind.MAX, 2, 3, 1), array(1, 8, 5, 6), out=out)
        else:
            ops.conv(conv_arguments(2), X, W, out=out)
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize("name", ["input", "weight", "bias", "residual"])
def test_out_that_is_an_operand(name):
    memory = array(1, 8, 3, 4)
    arrays = {"input": array(1, 8, 3, 4), "weight": array(8, 8, 1, 1), "bias": array(8)}
    arrays["residual"] = array(1, 8, 3, 4)
    arrays[name] = as_strided(memory, arrays[name].shape, arrays[name].strides, writeable=False)
    with pytest.raises(ValueError, match=f"out shares memory with {name}"):
        ops.conv(conv_arguments(2), **arrays, out=memory)
    assert (memory == 1).all()


def test_out_in_the_other_byte_order():
    out = np.zeros((1, 8, 3, 4), np.dtype("f").newbyteorder())
    with pytest.raises(TypeError, match=r"out has dtype .f4; wanted native byte order"):
        ops.conv(conv_arguments(2), X, W, out=out)


GRADIENTS = {
    "grad_output": (lambda a: ops.conv_dgrad(a, array(1, 8, 9, 9), W, X.shape), "grad_output has"),
    "input_size": (lambda a: ops.conv_dgrad(a, array(1, 8, 3, 4), W, (4,)), r"input has .*\(4,"),
    "weight_size": (
        lambda a: ops.conv_wgrad(a, X, array(1, 8, 3, 4), (8, 4, 3)), "weight has shape",
    ),
    "dbias": (lambda a: ops.conv_dbias(a, array(3, 4)), r"grad_output has shape \(3, 4\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradient_values(case):
    run, message = GRADIENTS[case]
    with pytest.raises(ValueError, match=message):
        run(conv_arguments(2))


POOL = {
    "rank": (
        {"input": array(5, 6)},
        ValueError,
        r"input has shape \(5, 6\); wanted \(N, C, H, W\)",
    ),
    "window": ({"kernel_size": 0}, ValueError, "filter of axis h is 0"),
    "stride": ({"stride": (1, 0)}, ValueError, "stride of axis w is 0"),
    "padding": ({"padding": 2}, ValueError, "must not exceed half the window's extent 3"),
    "larger": ({"kernel_size": 8}, ValueError, "larger than the padded input on axis h"),
    "no image": (
        {"input": array(1, 4, 0, 6), "padding": 1, "kernel_size": 2},
        ValueError,
        "pooling needs at least 1",
    ),
    "divisor": ({"divisor": 0}, ValueError, "divisor_override is 0; it must be at least 1"),
    "divisor type": ({"divisor": 1.5}, TypeError, r"divisor_override is 1\.5"),
    "average of integers": ({"input": X.astype("i")}, TypeError, "an average of integers is none"),
    "complex maximum": ({"input": X.astype("F"), "kind": PoolKind.MAX}, TypeError, "no maximum"),
    "bool": ({"input": X > 0}, TypeError, "input has dtype bool"),
    "list": ({"input": [[1.0]]}, TypeError, "input is of type list"),
    "layout": ({"layout": "ncw"}, ValueError, "layout is 'ncw'"),
}


@pytest.mark.parametrize("case", POOL)
def test_pooling(case):
    keywords, error, message = POOL[case]
    keywords = {"kind": PoolKind.AVG, "rank": 2, "kernel_size": 3, "input": X, **keywords}
    input = keywords.pop("input")
    out = np.full((1, 4, 1, 2), 7, "f")
    with pytest.raises(error, match=message):
        ops.pool(pool_arguments(**keywords), input, out=out)
    assert (out == 7).all()
