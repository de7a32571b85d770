"""Layers, models converted in place, weights kept prepared, and blocks of ``use``."""

import copy
import pickle
import threading

import pytest

from convforge.testing import peers

torch = peers.require("torch")
import torch.nn.functional as F  # noqa: E402

import convforge  # noqa: E402
import convforge.torch as ct  # noqa: E402

pytestmark = pytest.mark.peer

LAYERS = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1}, 1),
    ("Conv2d", (4, 6, 3), {"padding": "same", "groups": 2}, 2),
    ("Conv2d", (4, 6, (3, 2)), {"padding": (2, 1), "padding_mode": "reflect"}, 2),
    ("Conv2d", (4, 6, 3), {"padding": "same", "padding_mode": "circular", "dilation": 2}, 2),
    ("Conv3d", (4, 6, 2), {"bias": False}, 3),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2}, 1),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 3, "output_padding": 1}, 2),
    ("ConvTranspose3d", (4, 6, 2), {}, 3),
    ("Linear", (7, 5), {}, 2),
    *((f"{kind}Pool{rank}d", (2,), {"ceil_mode": True}, rank) for kind in ("Max", "Avg")
      for rank in (1, 2, 3)),
    *((f"Adaptive{kind}Pool{rank}d", (2,), {}, rank) for kind in ("Max", "Avg")
      for rank in (1, 2, 3)),
    ("MaxPool2d", (3,), {"return_indices": True}, 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "settings", "rank"), LAYERS)
def test_layers(name, args, settings, rank):
    ct.report().clear()
    theirs = getattr(torch.nn, name)(*args, **settings).double()
    ours = getattr(ct.nn, name)(*args, **settings).double()
    ours.load_state_dict(theirs.state_dict())
    assert isinstance(ours, type(theirs)) and repr(ours) == repr(theirs)
    x = torch.randn(2, 4, *(7,) * rank, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x[0]), theirs(x[0]))
    assert not ct.report(), ct.report()


def test_transposed_layers_take_an_output_size():
    layer = ct.nn.ConvTranspose2d(4, 6, 3, stride=2)
    assert layer(torch.ones(1, 4, 5, 5), output_size=[12, 11]).shape == (1, 6, 12, 11)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.second = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.pool = torch.nn.MaxPool2d(2)
        self.mean = torch.nn.AdaptiveAvgPool2d(1)
        self.head = torch.nn.Linear(8, 5)
        self.special = Special(5, 5)
        self.shared = self.head

    def forward(self, x):
        x = self.pool(torch.relu(self.first(x)))
        x = self.mean(torch.relu(self.second(x))).flatten(1)
        return self.special(self.shared(x))


class Special(torch.nn.Linear):
    pass


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


X = torch.randn(2, 3, 12, 12)


def test_convert_and_restore(net):
    calls = []
    net.first.register_forward_hook(lambda *_: calls.append(1))
    before = dict(net.named_parameters())
    names = [name for name, _ in net.named_modules()]
    classes = [type(m) for m in net.modules()]
    wanted = net(X)
    net.eval()
    assert ct.convert(net) is net
    assert type(net.first) is ct.nn.Conv2d and type(net.special) is Special
    assert net.shared is net.head and not net.first.training
    assert [name for name, _ in net.named_modules()] == names
    assert all(p is before[name] for name, p in net.named_parameters())
    torch.testing.assert_close(net(X), wanted)
    assert len(calls) == 2
    ct.restore(net)
    assert [type(m) for m in net.modules()] == classes
    assert "convforge_policy" not in vars(net.first)
    torch.testing.assert_close(net(X), wanted)
    with pytest.raises(TypeError, match="Module"):
        ct.convert([net])


def test_convert_with_a_policy(net):
    ct.convert(net, policy=convforge.Policy(accuracy="strict"))
    assert net.first.convforge_policy == "accuracy='strict'"
    ct.convert(net)
    assert net.first.convforge_policy == ""


def test_copies_and_pickles(net):
    ct.convert(net, freeze=True)
    with torch.no_grad():
        wanted = net(X)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert other.first.convforge_packed is not net.first.convforge_packed
            torch.testing.assert_close(other(X), wanted)


def fresh(net, x=X):
    """What a model computes with nothing kept."""
    other = ct.restore(copy.deepcopy(net))
    with torch.no_grad():
        return other(x)


def step(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    net(X).square().sum().backward()
    optimizer.step()


def load(net):
    net.load_state_dict(Net().state_dict())


def assign(net):
    net.first.weight = torch.nn.Parameter(torch.randn(8, 3, 3, 3))


def in_place(net):
    with torch.no_grad():
        net.first.weight[0, 0, 0, 1] += 3


def move(net):
    net.to(memory_format=torch.channels_last)


def inference(net):
    with torch.inference_mode():
        net.first.weight.mul_(2)


def data(net):
    net.first.weight.data.mul_(2)


@pytest.mark.parametrize("change", [step, load, assign, in_place, move, inference, data])
def test_frozen_layers_see_changes(net, change):
    ct.convert(net, freeze=True)
    with torch.no_grad():
        torch.testing.assert_close(net(X), fresh(net))
    change(net)
    with torch.no_grad():
        torch.testing.assert_close(net(X), fresh(net))


def test_frozen_weights_are_kept_and_refreshed(net):
    ct.convert(net, freeze=True)
    ct.convert(net.second, freeze=True, algorithm="conv_direct")  # which prepares weights
    with torch.no_grad():
        net(X)
        forms = dict(net.second.convforge_packed._kept._forms)
        assert forms
        net(X)
        assert net.second.convforge_packed._kept._forms == forms
        # What nobody sees: an element that is not among the samples, through ``.data``.
        net.second.weight.data[1, 1, 1, 1] += 100
        ct.refresh(net)
        torch.testing.assert_close(net(X), fresh(net))
    assert ct.convert(net).second.convforge_packed is None


def test_frozen_layers_of_inference_tensors(net):
    with torch.inference_mode():
        other = Net()
        ct.convert(other, freeze=True)
        torch.testing.assert_close(other(X), fresh(other))
        other.first.weight.add_(1)
        torch.testing.assert_close(other(X), fresh(other))


def test_frozen_layers_under_autocast_and_transforms(net):
    wanted = fresh(net)
    ct.convert(net, freeze=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(net(X), wanted)
            with torch.autocast("cpu", torch.bfloat16):
                near = net(X)
            assert near.dtype == torch.bfloat16
            torch.testing.assert_close(near.float(), wanted, rtol=0.1, atol=0.05)
    parameters = dict(net.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(net, parameters, (X,)).square().sum()

    ours = torch.func.grad(loss)(parameters)
    ct.restore(net)
    torch.testing.assert_close(ours, torch.func.grad(loss)(parameters))
    ct.report().clear()


def test_frozen_layers_train(net):
    other = copy.deepcopy(net)
    ct.convert(net, freeze=True)
    for _ in range(3):
        step(net)
        step(other)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_use():
    ct.report().clear()
    x, w = torch.randn(1, 4, 6, 6), torch.randn(4, 4, 3, 3)
    wanted = F.max_pool2d(F.conv2d(x, w), 2)
    with ct.use(algorithm="no_such"):
        with pytest.raises(ValueError, match="no_such"):
            F.conv2d(x, w)
        with ct.use():  # the inner one counts
            torch.testing.assert_close(F.max_pool2d(F.conv2d(x, w), 2), wanted)
        with pytest.raises(ValueError, match="no_such"):
            torch.conv2d(x, w)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(F.conv2d(x, w)))
        thread.start()
        thread.join()
    torch.testing.assert_close(F.conv2d(x, w), seen[0])


FUNCTIONS = {
    "conv1d": lambda: F.conv1d(torch.ones(1, 2, 5), torch.ones(3, 2, 3)),
    "conv_transpose2d": lambda: F.conv_transpose2d(torch.ones(1, 2, 3, 3), torch.ones(2, 3, 2, 2)),
    "linear": lambda: F.linear(torch.ones(2, 3), torch.ones(4, 3)),
    "max_pool1d": lambda: F.max_pool1d(torch.ones(1, 2, 5), 2),
    "max_pool2d": lambda: F.max_pool2d(torch.ones(1, 2, 5, 5), 2),
    "max_pool2d indices": lambda: F.max_pool2d(torch.ones(1, 2, 5, 5), 2, return_indices=True),
    "max_pool3d": lambda: F.max_pool3d(torch.ones(1, 2, 5, 5, 5), 2),
    "avg_pool2d": lambda: F.avg_pool2d(torch.ones(1, 2, 5, 5), 2),
    "avg_pool1d": lambda: F.avg_pool1d(torch.ones(1, 2, 5), 2),
    "adaptive_avg_pool1d": lambda: F.adaptive_avg_pool1d(torch.ones(1, 2, 5), 2),
    "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(torch.ones(1, 2, 5, 5), 2),
    "adaptive_max_pool2d": lambda: F.adaptive_max_pool2d(torch.ones(1, 2, 5, 5), 2),
    "adaptive_max_pool3d indices": lambda: F.adaptive_max_pool3d(
        torch.ones(1, 2, 5, 5, 5), 2, return_indices=True
    ),
    "lp_pool2d": lambda: F.lp_pool2d(torch.ones(1, 2, 5, 5), 2.0, 2),
    "unfold": lambda: F.unfold(torch.ones(1, 2, 5, 5), 2),
    "fold": lambda: F.fold(torch.ones(1, 4, 9), 4, 2),
    "pad": lambda: F.pad(torch.ones(1, 2, 5, 5), (1, 1, 2, 2), mode="reflect"),
    "max_unpool2d": lambda: F.max_unpool2d(
        torch.ones(1, 1, 2, 2), torch.arange(4).view(1, 1, 2, 2), 2
    ),
    "fractional_max_pool2d": lambda: F.fractional_max_pool2d(torch.ones(1, 2, 5, 5), 2, 3),
    "fractional_max_pool3d indices": lambda: F.fractional_max_pool3d(
        torch.ones(1, 2, 5, 5, 5), 2, 3, return_indices=True
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_use_reaches_every_function(name, monkeypatch):
    from convforge.integrations.torch import mode

    torch.manual_seed(0)
    wanted = FUNCTIONS[name]()
    called = []
    table = {
        func: (lambda *a, _run=run, **k: called.append(1) or _run(*a, **k), limited)
        for func, (run, limited) in mode._OURS.items()
    }
    monkeypatch.setattr(mode, "_OURS", table)
    torch.manual_seed(0)
    with ct.use():
        y = FUNCTIONS[name]()
    assert called
    torch.testing.assert_close(y, wanted)


def test_use_for_layers_and_training(net):
    other = copy.deepcopy(net)
    with ct.use(policy=convforge.Policy(accuracy="strict")):
        step(net)
    step(other)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_use_around_and_inside_compiled_code(net):
    from torch._dynamo.testing import EagerAndRecordGraphs

    def convolves_here(graph):
        return any("convforge.fprop" in str(node.target) for node in graph.graph.nodes)

    def inside(x):
        with ct.use(policy=convforge.Policy(accuracy="strict")):
            return net(x)

    wanted = net(X)
    torch._dynamo.reset()
    graphs = EagerAndRecordGraphs()
    compiled = torch.compile(net, backend=graphs, fullgraph=True)
    with ct.use():
        torch.testing.assert_close(compiled(X), wanted)
    assert convolves_here(graphs.graphs[-1])
    torch.testing.assert_close(compiled(X), wanted)
    assert not convolves_here(graphs.graphs[-1])  # compiled anew, for outside of the block
    compiled = torch.compile(inside, backend=graphs, fullgraph=True)
    torch.testing.assert_close(compiled(X), wanted)
    assert convolves_here(graphs.graphs[-1])


def test_data_parallel_training(net, tmp_path):
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("no gloo")
    other = copy.deepcopy(net)
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        wrapped = torch.nn.parallel.DistributedDataParallel(ct.convert(net))
        step(wrapped)
        step(other)
    finally:
        dist.destroy_process_group()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
