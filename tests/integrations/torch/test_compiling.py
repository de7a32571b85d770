"""Operators as PyTorch's compilers, exporters and checks see them."""

import shutil

import pytest

from convforge.testing import peers

torch = peers.require("torch")
import torch.nn.functional as F  # noqa: E402

import convforge.torch as ct  # noqa: E402

pytestmark = pytest.mark.peer

OPS = torch.ops.convforge
CONV = ((2, 1), (1, 1, 0, 1), (1, 2), 2, "zeros", "")
POOL = ((3, 2), (2, 2), (1, 0), (1, 1), True, False, None, (), "")
ADAPTIVE = ((1, 1), (1, 1), (0, 0), (1, 1), False, True, None, (2, 3), "")
FOLD = ((2, 3), (1, 1), (1, 0), (2, 1))


def images(*shape, last=False, grad=True, dtype=torch.float64):
    tensor = torch.randn(*shape, dtype=dtype)
    if last:
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor.requires_grad_(grad)


def cases(last):
    x, w = images(2, 4, 6, 7, last=last), images(6, 2, 3, 2)
    bias = images(6)
    dy = torch.ops.convforge.fprop(x, w, None, *CONV).detach().requires_grad_()
    _, places = OPS.max_pool_indices(x, *POOL)
    pooled = images(*places.shape, last=last)
    yield "fprop", (x, w, bias, *CONV)
    yield "fprop", (x, w, None, *CONV[:4], "reflect", "")
    yield "dgrad", (dy, w, images(4), (6, 7), *CONV)
    yield "wgrad", (x, dy, (3, 2), last, *CONV)
    yield "max_pool", (x, *POOL)
    yield "max_pool_indices", (x, *POOL)
    yield "max_pool_dgrad", (pooled, places, (6, 7), *POOL)
    yield "avg_pool", (x, *POOL)
    yield "avg_pool", (x, *ADAPTIVE)
    yield "avg_pool_dgrad", (pooled, (6, 7), *POOL)
    yield "unfold", (x, *FOLD)
    columns = OPS.unfold(x, *FOLD).detach().requires_grad_()
    yield "fold", (columns, (6, 7), *FOLD)
    yield "pad", (x, [1, 2, 0, 1], "reflect", 0.0)
    yield "unpad", (x, [1, 1, 2, 0], "reflect")
    yield "max_unpool", (pooled, places, (6, 7))
    samples = torch.rand(2, 4, 2, dtype=torch.float64)
    yield "fractional_max_pool", (x, samples, (2, 2), (3, 4))


CASES = [(False, i) for i in range(16)] + [(True, i) for i in (0, 2, 3, 5, 6, 9, 12)]
NAMES = [name for name, _ in cases(False)]


@pytest.mark.parametrize(("last", "i"), CASES, ids=lambda v: str(v))
def test_opcheck(last, i):
    name, args = list(cases(last))[i]
    result = torch.library.opcheck(getattr(OPS, name).default, args)
    assert set(result.values()) == {"SUCCESS"}, result


def test_every_operator_is_checked():
    assert {name.partition(".")[0] for name in _registered()} == set(NAMES)


def _registered():
    found = torch._C._dispatch_get_all_op_names()
    return [name.removeprefix("convforge::") for name in found if name.startswith("convforge::")]


def network(m):
    """A function of an image and two filter banks, of PyTorch's or of our functions."""

    def run(x, w, v):
        y = m.conv2d(x, w, padding="same").relu()
        y = m.max_pool2d(y, 3, 2, 1)
        y = m.conv_transpose2d(y, v, stride=2, padding=1, output_padding=(1, 0))
        y = m.avg_pool2d(m.pad(y, (1, 1, 2, 0), mode="circular"), 2, ceil_mode=True)
        y = m.lp_pool2d(y.abs() + 1, 3.0, 2)
        return m.adaptive_avg_pool2d(y, (2, 1)).flatten(1)

    return run


def filters():
    return images(5, 3, 3, 3), images(5, 4, 3, 3)


def same(run, reference, *tensors):
    y, wanted = run(*tensors), reference(*tensors)
    torch.testing.assert_close(y, wanted)
    grad = torch.randn_like(wanted)
    inputs = [t for t in tensors if t.requires_grad]
    for a, b in zip(
        torch.autograd.grad(y, inputs, grad), torch.autograd.grad(wanted, inputs, grad), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_compiles_without_breaks_and_for_any_size():
    torch._dynamo.reset()
    compiled = torch.compile(network(ct), backend="aot_eager", fullgraph=True, dynamic=True)
    w, v = filters()
    for shape in ((2, 3, 12, 13), (3, 3, 17, 14)):
        same(compiled, network(F), images(*shape), w, v)


def test_compiles_for_a_varying_batch_once():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x, w: ct.conv2d(x, w).relu(), backend=counter, fullgraph=True)
    w = images(5, 3, 3, 3)
    for batch in (2, 3, 4, 5):
        x = images(batch, 3, 12, 13, last=True)
        same(compiled, lambda x, w: F.conv2d(x, w).relu(), x, w)
    assert counter.frame_count == 2  # one for the first batch, one for all others


def test_compiles_under_no_grad_with_a_policy():
    torch._dynamo.reset()
    import convforge

    policy = convforge.Policy(accuracy="strict")

    def run(x, w):
        y = ct.conv2d(x, w, policy=policy)
        return ct.max_pool2d(y, 2, policy=policy)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    x, w = images(2, 3, 8, 8), images(4, 3, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, w), F.max_pool2d(F.conv2d(x, w), 2))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
def test_compiles_by_inductor():
    torch._dynamo.reset()
    compiled = torch.compile(network(ct), fullgraph=True)
    w, v = filters()
    same(compiled, network(F), images(2, 3, 12, 13, last=True), w, v)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 8, 3, groups=4, padding=1, padding_mode="reflect"),
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5),
        )  # fmt: skip

    def forward(self, x):
        return self.body(x)


def test_a_converted_model_compiles_and_exports():
    torch._dynamo.reset()
    model = Net()
    wanted = Net()
    wanted.load_state_dict(model.state_dict())
    ct.convert(model, freeze=True)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(compiled(x), wanted(x))
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model.eval(), (x,), dynamic_shapes={"x": {0: batch}})
    assert "convforge.fprop" in str(program.graph)
    y = torch.randn(7, 3, 12, 12)
    torch.testing.assert_close(program.module()(y), wanted(y))


def test_autocast_compiles():
    torch._dynamo.reset()
    x, w = torch.randn(2, 4, 8, 8), torch.randn(6, 4, 3, 3)

    def run(m):
        def body(x, w):
            with torch.autocast("cpu", torch.bfloat16):
                return m.conv2d(x, w)

        return body

    y = torch.compile(run(ct), backend="aot_eager", fullgraph=True)(x, w)
    wanted = run(F)(x, w)
    assert y.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(y, wanted, rtol=2e-2, atol=5e-2)


def test_symbolic_tracing_leaves_functions_of_pytorch():
    model = ct.convert(Net())
    graph = torch.fx.symbolic_trace(model)
    assert any(node.target is torch.conv2d for node in graph.graph.nodes)
    ct.report().clear()
