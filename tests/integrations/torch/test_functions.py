"""Functions against PyTorch's: formats, types, autocast, errors, and what is left to PyTorch."""

import numpy as np
import pytest

from convforge.testing import peers

torch = peers.require("torch")
import torch.nn.functional as F  # noqa: E402

import convforge  # noqa: E402
import convforge.torch as ct  # noqa: E402

pytestmark = pytest.mark.peer

LAST = torch.channels_last


@pytest.fixture(autouse=True)
def fresh_report():
    ct.report().clear()
    yield
    ct.report().clear()


def test_both_names_are_one_package():
    import convforge.integrations.torch as package

    assert convforge.torch is ct is package


def test_tensors_are_seen_in_place():
    from convforge.integrations.torch.memory import array_of, tensor_of

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.complex64):
        tensor = torch.zeros(3, dtype=dtype, requires_grad=True)
        array = array_of(tensor)
        array[1] = 2
        assert tensor[1] == 2
        assert tensor_of(array).data_ptr() == tensor.data_ptr()
        assert tensor_of(array).dtype == dtype


FORMATS = [(False, False), (False, True), (True, False), (True, True)]
SIZES = [(8, 16, 6, 7, 3), (8, 16, 6, 7, 1), (1, 4, 5, 5, 3), (4, 1, 5, 5, 3), (8, 16, 1, 1, 1),
         (3, 4, 5, 1, 1)]  # fmt: skip


def made(*shape, last=False):
    tensor = torch.randn(*shape, dtype=torch.float64)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats[len(shape)]) if last else tensor


def agree(ours, theirs, **near):
    torch.testing.assert_close(ours, theirs, check_stride=True, **near)
    assert not ct.report(), ct.report()


@pytest.mark.parametrize(("x_last", "w_last"), FORMATS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_memory_formats_of_convolutions(size, x_last, w_last):
    C, K, H, W, k = size
    x = made(2, C, H, W, last=x_last)
    w, v = made(K, C, k, k, last=w_last), made(C, K, k, k, last=w_last)
    agree(ct.conv2d(x, w, padding=k // 2), F.conv2d(x, w, padding=k // 2))
    agree(ct.conv_transpose2d(x, v), F.conv_transpose2d(x, v))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.max_pool2d(x, 2),
        lambda m, x: m.max_pool2d(x, 3, 2, 1, 1, True, True),
        lambda m, x: m.avg_pool2d(x, 2),
        lambda m, x: m.adaptive_avg_pool2d(x, 1),
        lambda m, x: m.adaptive_max_pool2d(x, (2, 3)),
        lambda m, x: m.lp_pool2d(x, 2.0, 2),
        lambda m, x: m.pad(x, (1, 1, 2, 0)),
        lambda m, x: m.pad(x, (1, 1, 2, 0), mode="reflect"),
        lambda m, x: m.pad(x, (1, 1, 2, 0), mode="circular"),
        lambda m, x: m.unfold(x, 2),
        lambda m, x: m.max_pool3d(x[None], 2),
        lambda m, x: m.avg_pool3d(x[None], 2),
        lambda m, x: m.adaptive_avg_pool3d(x[None], 2),
        lambda m, x: m.adaptive_max_pool3d(x[None], 2),
        lambda m, x: m.conv1d(x[0].transpose(1, 2), torch.ones(2, 7, 3, dtype=x.dtype)),
        lambda m, x: m.max_pool1d(x[0].transpose(1, 2), 2),
    ],
)
def test_memory_formats_of_everything_else(function, last):
    x = made(2, 8, 6, 7, last=last)
    agree(function(ct, x), function(F, x))


def test_memory_formats_of_volumes():
    for x_last, w_last in FORMATS:
        x, w = made(2, 4, 4, 5, 6, last=x_last), made(6, 4, 3, 3, 3, last=w_last)
        x, w = x.float(), w.float()  # float64 comes back contiguous from PyTorch
        agree(ct.conv3d(x, w), F.conv3d(x, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2],
        lambda x: x[..., 1:],
        lambda x: x.transpose(2, 3),
        lambda x: x[:1].expand(3, -1, -1, -1),
        lambda x: x.flip(3),
        lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)[..., 1:],
    ],
)
def test_views(view):
    x = view(made(2, 6, 8, 8))
    w = made(4, x.shape[1], 3, 3)
    torch.testing.assert_close(ct.conv2d(x, w), F.conv2d(x, w))
    torch.testing.assert_close(ct.max_pool2d(x, 2), F.max_pool2d(x, 2))
    torch.testing.assert_close(
        ct.pad(x, (1, 1, 0, 2), "reflect"), F.pad(x, (1, 1, 0, 2), "reflect")
    )
    assert not ct.report()


def test_conjugated_and_negated_views():
    x, w = (torch.randn(*s, dtype=torch.complex128) for s in ((1, 2, 5, 5), (3, 2, 3, 3)))
    torch.testing.assert_close(ct.conv2d(x.conj(), w.conj()), F.conv2d(x.conj(), w.conj()))
    torch.testing.assert_close(ct.max_pool2d(x.conj().imag, 2), F.max_pool2d(x.conj().imag, 2))


def test_words_and_lists_of_padding():
    x, w = made(1, 2, 9, 8), made(3, 2, 4, 3)
    for padding in ("same", "valid", 1, (2, 0), [1, 2], [1]):
        for dilation in (1, (1, 2)):
            ours = ct.conv2d(x, w, padding=padding, dilation=dilation)
            torch.testing.assert_close(ours, F.conv2d(x, w, padding=padding, dilation=dilation))
    assert not ct.report()


AUTOCAST = {
    "conv2d": lambda m, c: m.conv2d(c(X2), torch.ones(2, 3, 3, 3)),
    "conv_transpose2d": lambda m, c: m.conv_transpose2d(c(X2), torch.ones(3, 2, 3, 3)),
    "linear": lambda m, c: m.linear(c(X2), torch.ones(2, 8)),
    "unfold": lambda m, c: m.unfold(c(X2), 2),
    "fractional": lambda m, c: m.fractional_max_pool2d(c(X2), 2, 3, _random_samples=c(SAMPLES)),
    **{
        f"{name}{rank}d": lambda m, c, n=f"{name}{rank}d", r=rank: getattr(m, n)(c(IMAGES[r]), 2)
        for name in ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")
        for rank in (1, 2, 3)
    },
    **{
        f"lp_pool{rank}d": lambda m, c, n=f"lp_pool{rank}d", r=rank: getattr(m, n)(
            c(IMAGES[r]), 2.0, 2
        )
        for rank in (1, 2, 3)
    },
    **{
        f"{mode}{rank}": lambda m, c, mode=mode, r=rank: m.pad(
            c(IMAGES[r]), (1,) * (2 * r), mode=mode
        )
        for mode in ("constant", "reflect", "replicate", "circular")
        for rank in (1, 2, 3)
    },
}
IMAGES = {rank: torch.rand(2, 3, *(8,) * rank) for rank in (1, 2, 3)}
X2 = IMAGES[2]
SAMPLES = torch.rand(2, 3, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", AUTOCAST)
def test_autocast(name, dtype):
    with torch.autocast("cpu", torch.bfloat16):
        y = AUTOCAST[name](ct, lambda t: t.to(dtype))
        wanted = AUTOCAST[name](F, lambda t: t.to(dtype))
    torch.testing.assert_close(y, wanted, rtol=2e-2, atol=2e-2)
    assert not ct.report()


def test_gradients_under_autocast_have_the_type_of_the_weights():
    w = torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = ct.conv2d(X2, w)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and w.grad.dtype == torch.float32


BAD = [
    ("conv2d", (made(1, 2, 5, 5), made(3, 4, 3, 3)), {}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"stride": 0}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"stride": (1, 1, 1)}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"padding": -1}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"padding": "same", "stride": 2}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"padding": "same_upper"}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"dilation": 0}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {"groups": 2}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 7, 7)), {}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3).float()), {}),
    ("conv2d", (made(1, 2, 5, 5), made(3, 2, 3, 3), torch.ones(4, dtype=torch.float64)), {}),
    ("conv2d", (made(2, 5), made(3, 2, 3, 3)), {}),
    ("conv2d", (np.ones((1, 2, 5, 5)), made(3, 2, 3, 3)), {}),
    ("conv_transpose2d", (made(1, 2, 5, 5), made(2, 3, 3, 3)), {"output_padding": 1}),
    ("conv_transpose2d", (made(1, 2, 5, 5), made(3, 2, 3, 3)), {}),
    ("conv_transpose2d", (made(1, 2, 1, 1), made(2, 3, 2, 2)), {"padding": 2}),
    ("linear", (made(1, 1, 2, 5), made(1, 1, 1, 1)), {}),
    ("max_pool2d", (made(1, 2, 5, 5), 3), {"padding": 2}),
    ("max_pool2d", (made(1, 2, 5, 5), 3), {"padding": 2, "dilation": 2}),
    ("max_pool2d", (made(1, 2, 5, 5), 0), {}),
    ("max_pool2d", (made(1, 2, 5, 5), 7), {}),
    ("avg_pool2d", (made(1, 2, 5, 5), 2), {"divisor_override": 0}),
    ("avg_pool1d", (made(1, 2, 5, 5), 2), {}),
    ("adaptive_avg_pool2d", (made(1, 2, 5, 5), (1, 2, 3)), {}),
    ("lp_pool2d", (torch.ones(1, 2, 5, 5, dtype=torch.int32), 2.0, 2), {"stride": 0}),
    ("fractional_max_pool2d", (made(1, 2, 5, 5), 2), {}),
    ("fractional_max_pool2d", (made(1, 2, 5, 5), 2, 5), {}),
    ("max_unpool2d", (made(1, 2, 2, 2), torch.full((1, 2, 2, 2), 99), 2), {}),
    ("max_unpool2d", (made(1, 2, 2, 2), torch.zeros(1, 2, 2, 1, dtype=torch.int64), 2), {}),
    ("unfold", (made(1, 2, 5, 5), 7), {}),
    ("fold", (made(1, 5, 9), 4, 2), {}),
    ("pad", (made(1, 2, 5, 5), (6, 0, 0, 0)), {"mode": "reflect"}),
    ("pad", (made(1, 2, 5, 5), (1,)), {}),
    ("pad", (made(1, 2, 5, 5), (1, 1)), {"mode": "nearest"}),
]


@pytest.mark.parametrize(("name", "args", "keywords"), BAD)
def test_bad_input_is_refused_as_pytorch_refuses_it(name, args, keywords):
    with pytest.raises(Exception) as theirs:  # whichever it is
        getattr(F, name)(*args, **keywords)
    with pytest.raises(type(theirs.value)) as ours:
        getattr(ct, name)(*args, **keywords)
    if "invalid combination of arguments" not in str(theirs.value):  # which quotes the call
        assert str(ours.value) == str(theirs.value)


def test_reasons():
    x, w = made(1, 2, 5, 5), made(3, 2, 3, 3)
    cases = {
        "torch.int64 is not computed": lambda: ct.conv2d(x.long(), w.long()),
        "is not a plain tensor": lambda: ct.conv2d(Subclass(x), w),
        "a tensor is empty": lambda: ct.conv2d(x[:0], w),
        "torch.jit.trace": lambda: torch.jit.trace(lambda x: ct.conv2d(x, w), x),
        "torch.func": lambda: torch.func.vmap(lambda x: ct.conv2d(x, w))(x[None]),
        "forward-mode": forward_mode,
        "divisor": lambda: ct.avg_pool2d(x, 2, divisor_override=-2),
        "sparse": lambda: ct.linear(x[0, 0], torch.eye(5, dtype=x.dtype).to_sparse_csr()),
    }
    for reason, run in cases.items():
        ct.report().clear()
        run()
        assert len(ct.report()) == 1 and reason in str(ct.report()), (reason, ct.report())


class Subclass(torch.Tensor):
    pass


def forward_mode():
    import torch.autograd.forward_ad as forward

    x, w = made(1, 2, 5, 5), made(3, 2, 3, 3)
    with forward.dual_level():
        dual = forward.make_dual(x, torch.ones_like(x))
        tangent = forward.unpack_dual(ct.conv2d(dual, w)).tangent
    torch.testing.assert_close(tangent, F.conv2d(torch.ones_like(x), w))


def test_transforms_of_functions_are_right():
    x, w = made(2, 2, 5, 5), made(3, 2, 3, 3)
    ours = torch.func.grad(lambda x: ct.conv2d(x, w).square().sum())(x)
    torch.testing.assert_close(ours, torch.func.grad(lambda x: F.conv2d(x, w).square().sum())(x))


def test_a_fake_tensor_gives_a_fake_tensor():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        x, w = mode.from_tensor(made(1, 2, 5, 5)), mode.from_tensor(made(3, 2, 3, 3))
        y = ct.conv2d(x, w, stride=2)
    assert type(y).__name__ == "FakeTensor" and y.shape == (1, 3, 2, 2)


def test_algorithms_and_policies():
    x, w = made(1, 8, 9, 9), made(8, 8, 3, 3)
    strict = convforge.Policy(accuracy="strict", threads=1)
    ours = ct.conv2d(x, w, algorithm="conv_direct", policy=strict)
    torch.testing.assert_close(ours, F.conv2d(x, w))
    with pytest.raises(convforge.UnsupportedProblem):
        ct.conv2d(x, w, algorithm="pool_window")
    with pytest.raises(convforge.UnsupportedProblem, match="empty"):
        ct.conv2d(x[:0], w, algorithm="conv_direct")
    with pytest.raises(ValueError, match="name it in one place"):
        ct.conv2d(x, w, algorithm="a", policy=convforge.Policy(algorithm="b"))
    with pytest.raises(TypeError, match="Policy"):
        ct.conv2d(x, w, policy="strict")
    with pytest.raises(ValueError, match="no_such"):
        ct.conv2d(x, w, algorithm="no_such")


def test_the_algorithm_named_does_not_speak_of_gradients():
    x = made(1, 8, 5, 5, last=True).requires_grad_()
    w = made(2, 8, 1, 1).requires_grad_()
    y = ct.conv2d(x, w, algorithm="conv_few")  # which has no gradients
    torch.testing.assert_close(y, F.conv2d(x, w))
    ours = torch.autograd.grad(y.sum(), (x, w))
    torch.testing.assert_close(ours, torch.autograd.grad(F.conv2d(x, w).sum(), (x, w)))


def test_words_of_policies_come_back():
    from convforge.integrations.torch.policies import policy_of, word_of

    policy = convforge.Policy(
        algorithm="conv_*", accuracy=2.5, batch_invariant=True, workspace_limit=5, threads=3
    )
    assert policy_of(word_of(policy)) == policy
    assert word_of(convforge.Policy()) == "" and policy_of("") is None


def test_python_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    x, w = made(1, 8, 9, 9), made(8, 8, 3, 3)
    wanted = F.conv2d(x, w)
    with ThreadPoolExecutor(4) as pool:
        for y in pool.map(lambda _: ct.conv2d(x, w), range(40)):
            torch.testing.assert_close(y, wanted)
