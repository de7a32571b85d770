"""The reference against PyTorch, in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.testing import assert_allclose, assert_array_equal

from convforge.problem import Direction, DType, Operand, PadMode, PoolKind, parse
from convforge.reference import compute
from convforge.testing import cases, peers
from convforge.testing.data import operands
from convforge.testing.strategies import pool_problems

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def torch():
    return peers.require("torch")


def conv_by_torch(torch, problem, x, w):
    functional = torch.nn.functional
    for dim, axis in enumerate(problem.axes):
        # torch pads the innermost axis first, and the other modes only along with all others.
        mode = "constant" if axis.pad_mode is PadMode.ZEROS else str(axis.pad_mode)
        moved = x.movedim(dim + 2, -1)
        flat = functional.pad(
            moved.reshape(1, -1, axis.size), (axis.pad_lo, axis.pad_hi), mode=mode
        )
        x = flat.reshape(*moved.shape[:-1], axis.padded).movedim(-1, dim + 2)
    conv = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[problem.rank]
    stride, dilation = zip(*((axis.stride, axis.dilation) for axis in problem.axes), strict=True)
    return conv(x, w, stride=stride, dilation=dilation, groups=problem.groups)


def has_work(problem):
    return all((problem.N, problem.C, problem.K, *problem.size))


PROBLEMS = [
    problem
    for problem in map(parse, cases.CONV)
    if problem.direction is Direction.FPROP
    and problem.x == problem.w == problem.y == Operand()
    and has_work(problem)
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_all_directions_of_convolution(torch, problem):
    data = operands(problem)
    x, w = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in data.arrays)
    y = conv_by_torch(torch, problem, x, w)
    dy = np.random.default_rng(1).standard_normal(problem.y_shape)
    y.backward(torch.tensor(dy))
    dgrad, wgrad = (replace(problem, direction=d) for d in (Direction.DGRAD, Direction.WGRAD))
    close = {"rtol": 1e-12, "atol": 1e-11}
    assert_allclose(compute(problem, *data.arrays), y.detach().numpy(), **close)
    assert_allclose(compute(dgrad, dy, data.arrays[1]), x.grad.numpy(), **close)
    assert_allclose(compute(wgrad, data.arrays[0], dy), w.grad.numpy(), **close)


@pytest.mark.parametrize("activation", ["relu", "relu6", "silu", "gelu", "gelu_tanh"])
def test_activations(torch, activation):
    x = np.array([-np.inf, -30, -3, -1, -1e-3, -0.0, 0.5, 2, 9, 40, np.inf, np.nan])
    functional = torch.nn.functional
    name, _, tanh = activation.partition("_")
    options = {"approximate": tanh} if tanh else {}
    expected = getattr(functional, name)(torch.tensor(x), **options).numpy()
    y = compute(f"fprop:f64:n1c1w{x.size}_k1s1+{activation}", x[None, None], np.ones((1, 1, 1)))
    assert_allclose(y.ravel(), expected, rtol=1e-13, atol=1e-15)


def pool_by_torch(torch, problem, x):
    options = {
        "kernel_size": problem.filter,
        "stride": [axis.stride for axis in problem.axes],
        "padding": [axis.pad_lo for axis in problem.axes],
        "ceil_mode": problem.ceil_mode,
    }
    functional = torch.nn.functional
    if problem.kind is PoolKind.MAX:
        options["dilation"] = [axis.dilation for axis in problem.axes]
        return getattr(functional, f"max_pool{problem.rank}d")(x, **options, return_indices=True)
    options["count_include_pad"] = problem.count_include_pad
    if problem.divisor:
        options["divisor_override"] = problem.divisor
    return getattr(functional, f"avg_pool{problem.rank}d")(x, **options), None


@pytest.mark.parametrize(("size", "windows"), [(7, 3), (5, 5), (3, 7), (9, 1), (10, 4)])
def test_adaptive_windows(torch, size, windows):
    x = np.random.default_rng(0).integers(-9, 10, (2, 3, size, 6)).astype(np.float64)
    geometry = f"n2c3h{size}w6_a{windows}x4"
    y, indices = compute(f"fprop:max:f64:{geometry}+indices", x)
    functional, shape = torch.nn.functional, (windows, 4)
    wanted = functional.adaptive_max_pool2d(torch.tensor(x), shape, return_indices=True)
    assert_array_equal(y, wanted[0].numpy())
    assert_array_equal(indices, wanted[1].numpy())
    wanted = functional.adaptive_avg_pool2d(torch.tensor(x), shape).numpy()
    assert_allclose(compute(f"fprop:avg:f64:{geometry}", x), wanted, rtol=1e-13)


def with_equal_padding(problem):
    axes = (
        replace(axis, pad_lo=max(axis.pad_lo, axis.pad_hi), pad_hi=max(axis.pad_lo, axis.pad_hi))
        for axis in problem.axes
    )
    return replace(problem, axes=tuple(axes), x=Operand(dtype=DType.F64))


@given(pool_problems(directions=[Direction.FPROP], adaptive=[False]).map(with_equal_padding))
@settings(max_examples=150)
def test_pooling_forward_and_backward(torch, problem):
    average = problem.kind is PoolKind.AVG
    # What torch does not offer: a divisor in 1-D, dilated averages, padding beyond half the
    # undilated window, no channels, windows larger than the image in 3-D.
    assume(not average or (problem.rank > 1 or problem.divisor is None))
    assume(not average or all(axis.dilation == 1 for axis in problem.axes))
    assume(all(axis.pad_lo <= axis.filter // 2 for axis in problem.axes))
    assume(problem.C > 0)
    assume(problem.rank < 3 or all(axis.size >= axis.extent for axis in problem.axes))
    (x,) = operands(problem, "integers").arrays
    tensor = torch.tensor(x, requires_grad=True)
    y, indices = pool_by_torch(torch, problem, tensor)
    dy = np.random.default_rng(1).standard_normal(problem.y_shape)
    y.backward(torch.tensor(dy))
    if average:
        assert_allclose(compute(problem, x), y.detach().numpy(), rtol=1e-13)
        arrays = (dy,)
    else:
        ours = compute(replace(problem, indices=True), x)
        assert_array_equal(ours[0], y.detach().numpy())
        assert_array_equal(ours[1], indices.numpy())
        arrays = (dy, ours[1])
    backward = replace(problem, direction=Direction.DGRAD, indices=False)
    assert_allclose(compute(backward, *arrays), tensor.grad.numpy(), rtol=1e-12, atol=1e-12)
