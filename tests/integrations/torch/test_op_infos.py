"""PyTorch's own samples (its OpInfos) of every function that is claimed here."""

import warnings

import pytest

from convforge.testing import peers

torch = peers.require("torch")
# What PyTorch's tests are written with.
peers.require("expecttest")
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

import convforge.torch as ct  # noqa: E402

# PyTorch's test modules forbid its settings to everybody in the process; other tests have some.
FLAGS = torch.backends.disable_global_flags.__globals__
FLAGS["__allow_nonbracketed_mutation_flag"] = True

pytestmark = pytest.mark.peer

DTYPES = [torch.float64, torch.float32, torch.complex128, torch.int64]
HALVES = {torch.bfloat16: ("conv2d", "linear", "max_pool2d"), torch.float16: ("conv_transpose2d",)}
INFOS = {
    (info.name.removeprefix("nn.functional."), info.variant_test_name): info
    for info in op_db
    if info.name.startswith("nn.functional.")
    and hasattr(ct, info.name.removeprefix("nn.functional."))
}
CASES = [
    pytest.param(key, dtype, id="-".join(filter(None, (*key, str(dtype).partition(".")[2]))))
    for key, info in INFOS.items()
    for dtype in (*DTYPES, *HALVES)
    if dtype in info.dtypes and key[0] in HALVES.get(dtype, key)
]
MOST_SAMPLES = 40
"""Of a function and a type: those of poolings are hundreds of the same few."""

EMPTY = "a tensor is empty"
INTEGERS = "torch.int64 is not computed here"
DIVISOR = "divisor_override is -2; it must be at least 1"
NOTHING = "there are no elements for the borders"
SAMPLES = "_random_samples go beyond 0 to 1"
LEFT = {
    **{(f"conv{rank}d", INTEGERS): "PyTorch's sums of integers wrap" for rank in (1, 2, 3)},
    **{(f"conv_transpose{rank}d", INTEGERS): "the same" for rank in (1, 2, 3)},
    ("linear", INTEGERS): "the same",
    **{(f"avg_pool{rank}d", INTEGERS): "PyTorch's means truncate" for rank in (1, 2, 3)},
    ("avg_pool2d", DIVISOR): "no divisor is negative here",
    ("avg_pool3d", DIVISOR): "the same",
    ("fractional_max_pool2d", SAMPLES): "PyTorch reads wherever samples point to",
    ("pad", NOTHING): "PyTorch gives an array of no elements",
    **{
        (name, EMPTY): "of nothing PyTorch makes what each of its functions thinks right"
        for name in (
            "adaptive_avg_pool1d", "adaptive_avg_pool3d", "avg_pool1d", "avg_pool3d",
            "linear", "pad", "unfold",
        )
    },
}  # fmt: skip
"""Every reason that samples are left to PyTorch for, by function."""


def tensors_of(sample):
    return [
        value
        for value in (sample.input, *sample.args, *sample.kwargs.values())
        if isinstance(value, torch.Tensor)
    ]


def unit(info, sample, dtype):
    """The largest sum of magnitudes, times the machine epsilon."""
    wide = sample.transform(
        lambda t: t.detach().abs().double() if t.is_floating_point() else t.detach()
    )
    y = info.op(wide.input, *wide.args, **wide.kwargs)
    y = y[0] if isinstance(y, tuple) else y
    return torch.finfo(dtype).eps * y.abs().max().item() if y.numel() else 0.0


@pytest.mark.parametrize(("key", "dtype"), CASES)
def test_samples(key, dtype):
    info = INFOS[key]
    ours = getattr(ct, key[0])
    exact = dtype in (torch.float64, torch.complex128, torch.int64)
    differentiated = dtype in (torch.float64, torch.complex128)
    ct.report().clear()
    samples = info.sample_inputs("cpu", dtype, requires_grad=differentiated)
    for _, sample in zip(range(MOST_SAMPLES), samples, strict=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = info.op(sample.input, *sample.args, **sample.kwargs)
        torch.manual_seed(42)  # as PyTorch seeds functions that draw numbers
        y = ours(sample.input, *sample.args, **sample.kwargs)
        near = {} if exact else {"rtol": 0, "atol": 8 * unit(info, sample, dtype)}
        torch.testing.assert_close(y, wanted, check_stride=True, **near)
        if differentiated:
            compare_gradients(sample, y, wanted)
    for name, why in ct.report().counts:
        assert any(n == name and why.startswith(reason) for n, reason in LEFT), (name, why)
    if (key[0], INTEGERS) in LEFT and dtype == torch.int64:
        assert (key[0], INTEGERS) in ct.report().counts


def compare_gradients(sample, y, wanted):
    y, wanted = (v[0] if isinstance(v, tuple) else v for v in (y, wanted))
    inputs = [t for t in tensors_of(sample) if t.requires_grad]
    dy = torch.randn_like(wanted)
    ours = torch.autograd.grad(y, inputs, dy)
    for a, b in zip(ours, torch.autograd.grad(wanted, inputs, dy), strict=True):
        torch.testing.assert_close(a, b)
