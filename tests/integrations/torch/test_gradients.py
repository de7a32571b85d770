"""First and second derivatives against finite differences, in both memory formats."""

import pytest

from convforge.testing import peers

torch = peers.require("torch")
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

import convforge.torch as ct  # noqa: E402

pytestmark = pytest.mark.peer


def tensor(*shape, last=False, dtype=torch.float64):
    made = torch.randn(*shape, dtype=dtype)
    if last:
        made = made.contiguous(memory_format=torch.channels_last)
    return made.requires_grad_()


def check(function, *tensors):
    assert gradcheck(function, tensors)
    assert gradgradcheck(function, tensors)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_conv2d(last, dtype):
    x, w, b = tensor(2, 4, 5, 4, last=last, dtype=dtype), tensor(2, 2, 3, 2, dtype=dtype), None
    b = tensor(2, dtype=dtype)
    settings = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    check(lambda x, w, b: ct.conv2d(x, w, b, **settings), x, w, b)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_conv_transpose2d(last, dtype):
    x, w = tensor(2, 4, 3, 2, last=last, dtype=dtype), tensor(4, 1, 3, 2, dtype=dtype)
    b = tensor(2, dtype=dtype)
    settings = {"stride": (2, 1), "padding": (1, 0), "output_padding": 1, "groups": 2}
    settings["dilation"] = (1, 2)
    check(lambda x, w, b: ct.conv_transpose2d(x, w, b, **settings), x, w, b)


def test_one_and_three_axes():
    check(ct.conv1d, tensor(1, 2, 5), tensor(3, 2, 2), tensor(3))
    check(ct.conv3d, tensor(1, 2, 3, 2, 3), tensor(2, 2, 2, 2, 2), tensor(2))
    check(ct.conv_transpose1d, tensor(1, 2, 4), tensor(2, 3, 2), tensor(3))
    check(ct.conv_transpose3d, tensor(1, 2, 2, 2, 2), tensor(2, 1, 2, 2, 2), tensor(1))
    check(ct.linear, tensor(2, 3, 4), tensor(5, 4), tensor(5))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_of_layers(mode):
    layer = ct.nn.Conv2d(2, 2, 3, padding=(1, 2), padding_mode=mode).double()
    x = tensor(1, 2, 4, 4)
    ct.report().clear()
    torch.testing.assert_close(layer(x), torch.nn.Conv2d._conv_forward(layer, x, *values(layer)))
    check(lambda x, w, b: layer._conv_forward(x, w, b), x, *values(layer))
    assert not ct.report()


def values(layer):
    return [value.detach().clone().requires_grad_() for value in layer.parameters()]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "pooling",
    [
        lambda x: ct.max_pool2d(x, 3, 2, 1),
        lambda x: ct.avg_pool2d(x, 3, 2, 1, True, False),
        lambda x: ct.avg_pool2d(x, 2, divisor_override=3),
        lambda x: ct.adaptive_max_pool2d(x, (3, 2)),
        lambda x: ct.adaptive_avg_pool2d(x, (3, None)),
        lambda x: ct.lp_pool2d(x.abs() + 1, 3.0, 2, ceil_mode=True),
        lambda x: ct.max_unpool2d(*ct.max_pool2d(x, 2, return_indices=True), 2, output_size=(5, 4)),
        lambda x: ct.fractional_max_pool2d(x, 2, 3, _random_samples=SAMPLES),
        lambda x: ct.unfold(x, (2, 3), padding=1, stride=(1, 2)),
        lambda x: ct.fold(ct.unfold(x, 2) * 2, (5, 4), 2),
        lambda x: ct.pad(x, (1, -1, 0, 2), value=3.0),
        lambda x: ct.pad(x, (1, 2, 3, 0), mode="reflect"),
        lambda x: ct.pad(x, (2, 1, 0, 1), mode="replicate"),
        lambda x: ct.pad(x, (1, 2, 3, 0), mode="circular"),
    ],
)
def test_everything_else(pooling, last):
    ct.report().clear()
    check(pooling, tensor(2, 2, 5, 4, last=last))
    assert not ct.report()


SAMPLES = torch.rand(2, 2, 2, dtype=torch.float64)


def test_gradients_of_one_operand_alone():
    x, w = tensor(1, 2, 4, 4), tensor(3, 2, 3, 3)
    for inputs in ((x.detach(), w), (x, w.detach())):
        y = ct.conv2d(*inputs).square().sum()
        wanted = torch.conv2d(*inputs).square().sum()
        (wrt,) = [t for t in inputs if t.requires_grad]
        (ours,), (theirs,) = torch.autograd.grad(y, wrt), torch.autograd.grad(wanted, wrt)
        torch.testing.assert_close(ours, theirs)


def test_gradients_lie_as_their_weights_do():
    weight = tensor(4, 3, 3, 3, last=True)
    ct.conv2d(tensor(1, 3, 5, 5), weight).sum().backward()
    assert weight.grad.stride() == weight.stride()


def test_checkpointing():
    from torch.utils.checkpoint import checkpoint

    x, w = tensor(1, 2, 6, 6), tensor(2, 2, 3, 3)

    def body(x):
        return ct.max_pool2d(ct.conv2d(x, w).relu(), 2)

    ours = torch.autograd.grad(checkpoint(body, x, use_reentrant=False).sum(), (x, w))
    for a, b in zip(ours, torch.autograd.grad(body(x).sum(), (x, w)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_saved_operand_that_is_written_to_is_noticed():
    x, w = tensor(1, 2, 4, 4), tensor(2, 2, 3, 3)
    y = ct.conv2d(x, w)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
