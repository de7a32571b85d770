"""Models optimised for inference compute what they did, or say why not."""

from __future__ import annotations

import pickle

import pytest

torch = pytest.importorskip("torch")

import convforge.torch as convforge_torch  # noqa: E402
from convforge.integrations.torch import optimize_layers, optimize_trace  # noqa: E402

TOLERANCE = 2e-6
"""Of the largest element: some roundings of float32, through at most five layers."""


def randomised(model, seed=0):
    """The model in evaluation mode, with statistics and factors that are not 0 and 1."""
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.2, 2)
            if layer.affine:
                torch.nn.init.uniform_(layer.weight, -2, 2)
                torch.nn.init.normal_(layer.bias)
    return model.eval()


def check(model, *shape, dtype=torch.float32, limit=TOLERANCE):
    """Optimise, compare on other numbers than the example's, and return the optimised model."""
    x = torch.randn(shape, dtype=dtype)
    optimized = convforge_torch.optimize(model, x)
    other = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        found, wanted = optimized(other), model(other)
    assert found.shape == wanted.shape and found.dtype is wanted.dtype
    assert float((found - wanted).abs().max()) <= limit * float(wanted.abs().max())
    return optimized


def words(optimized):
    return [what for _, what, _ in optimized.summary().fused]


class Block(torch.nn.Module):
    def __init__(self, after=torch.nn.ReLU, inplace=False):
        super().__init__()
        self.first = torch.nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.second = torch.nn.Conv2d(8, 8, 1)
        self.other = torch.nn.Conv2d(8, 8, 1, bias=False)
        self.after = after()
        self.inplace = inplace

    def forward(self, x):
        y = torch.nn.functional.relu(self.norm(self.first(x)), inplace=self.inplace)
        y = self.second(y)
        if self.inplace:
            y += self.other(x)
            return self.after(y)
        return self.after(self.other(x) + y)


class Pixels(torch.nn.Module):
    """ConvNeXt's block without what is PyTorch's."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = torch.nn.Linear(6, 20), torch.nn.Linear(20, 6)
        self.scale = torch.nn.Parameter(torch.linspace(-1, 2, 6))

    def forward(self, x):
        y = torch.nn.functional.gelu(self.wide(x.permute(0, 2, 3, 1)))
        return x + (self.scale * self.narrow(y)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_residual_block_is_three_kernels(inplace):
    optimized = check(randomised(Block(inplace=inplace)), 2, 8, 9, 7)
    assert sorted(words(optimized)) == ["conv2d", "conv2d + add + relu", "conv2d + norm + relu"]
    assert not optimized.summary().left


def test_linear_layers_take_gelu_scale_and_sum_through_permuted_axes():
    optimized = check(Pixels().eval(), 2, 6, 5, 4)
    assert words(optimized) == ["linear + gelu", "linear + scale + add"]
    assert not optimized.summary().left


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_normalisation_is_folded(affine, bias):
    layers = [
        torch.nn.Conv2d(5, 6, 3, bias=bias, padding="same"),
        torch.nn.BatchNorm2d(6, eps=0.1, affine=affine),
    ]
    assert words(check(randomised(torch.nn.Sequential(*layers)), 2, 5, 6, 7)) == ["conv2d + norm"]


def test_borders_are_part_of_the_kernel():
    layers = [torch.nn.ZeroPad2d((0, 1, 2, 0)), torch.nn.Conv2d(4, 6, 3, 2, padding=1)]
    assert words(check(torch.nn.Sequential(*layers).eval(), 2, 4, 9, 8)) == ["pad + conv2d"]


def test_what_somebody_else_needs_is_not_fused():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) * y + torch.relu(y) + y + y

    optimized = check(randomised(Twice()), 2, 4, 5, 5)
    assert words(optimized) == ["conv2d"]
    assert optimized.summary().left


def test_poolings_views_and_other_types():
    layers = [
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU6(), torch.nn.MaxPool2d(2, 2, 1),
        torch.nn.AvgPool2d(2, ceil_mode=True), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Dropout(), torch.nn.Linear(32, 5),
    ]  # fmt: skip
    model = torch.nn.Sequential(*layers).eval()
    assert not check(model, 2, 3, 17, 15).summary().left
    check(model.double(), 2, 3, 17, 15, dtype=torch.float64, limit=1e-14)


def test_every_shape_has_its_graph_and_all_share_the_weights():
    model = randomised(Block())
    optimized = check(model, 1, 8, 6, 6)
    prepared = optimized.prepared_bytes
    for shape in ((3, 8, 6, 6), (1, 8, 12, 5), (3, 8, 6, 6)):
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            torch.testing.assert_close(optimized(x), model(x), rtol=1e-5, atol=1e-5)
    assert optimized.prepared_bytes <= 2 * prepared
    assert prepared >= sum(p.nbytes for n, p in model.named_parameters() if "weight" in n) - 64


class Branches(torch.nn.Module):
    """What no tracer follows: a decision by numbers."""

    def __init__(self):
        super().__init__()
        self.block, self.layers = Block(), torch.nn.ModuleList([torch.nn.Conv2d(8, 8, 1)])

    def forward(self, x):
        y = self.block(x)
        return self.layers[0](y) if float(y.mean()) > 0.1 else y


def test_what_cannot_be_traced_is_traced_in_parts():
    model = randomised(Branches())
    optimized = check(model, 1, 8, 6, 6)
    assert "conv2d + add + relu" in words(optimized)
    ((name, why),) = optimized.summary().split
    assert name == "" and why
    assert "not traced as a whole" in str(optimized.summary())
    with torch.no_grad():
        x = torch.full((1, 8, 6, 6), -9.0)
        torch.testing.assert_close(optimized(x), model(x), rtol=1e-5, atol=1e-5)
    assert type(model.layers[0]) is torch.nn.Conv2d and "forward" not in vars(model.block)


def test_wrong_results_are_seen(monkeypatch):
    model, x = randomised(Block()), torch.randn(1, 8, 6, 6)
    right = optimize_layers.Weights.__init__

    def forgets_the_mean(self, weight, bias, norm, scale):
        if norm is not None:
            norm = optimize_layers.Norm(
                mean=0 * norm.mean, var=norm.var, eps=norm.eps, weight=norm.weight, bias=norm.bias
            )
        right(self, weight, bias, norm, scale)

    monkeypatch.setattr(optimize_layers.Weights, "__init__", forgets_the_mean)
    with pytest.raises(RuntimeError, match="errs by"):
        convforge_torch.optimize(model, x)
    monkeypatch.setattr(optimize_layers.Weights, "__init__", right)
    fuse = optimize_trace.fuse

    def forgets_activations(*args):
        summary = fuse(*args)
        graph = args[0]
        for node in graph.graph.nodes:
            if getattr(node.target, "label", "").endswith("relu"):
                node.replace_all_uses_with(node.args[0])
        graph.recompile()
        return summary

    monkeypatch.setattr(optimize_trace, "fuse", forgets_activations)
    with pytest.raises(RuntimeError, match="the model, optimised"):
        convforge_torch.optimize(model, x)


def test_only_inference_is_taken():
    model, x = Block().eval(), torch.randn(1, 8, 6, 6)
    with pytest.raises(ValueError, match="training mode"):
        convforge_torch.optimize(Block(), x)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        convforge_torch.optimize(torch.relu, x)
    optimized = convforge_torch.optimize(model, {"x": x})
    with pytest.raises(RuntimeError, match="no gradients"):
        optimized(x.clone().requires_grad_())
    with torch.no_grad():
        optimized(x=x.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="autocast"), torch.autocast("cpu"):
        optimized(x)
    with pytest.raises(RuntimeError, match="trained"):
        optimized.train()
    assert optimized.eval() is optimized
    with pytest.raises(RuntimeError, match="moved or cast"):
        optimized.double()
    with pytest.raises(TypeError, match="not copied"):
        pickle.dumps(optimized)


def test_weights_that_change_are_refused_for_new_shapes():
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3)).eval()
    optimized = convforge_torch.optimize(model, torch.randn(1, 4, 8, 8))
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match="changed"):
        optimized(torch.randn(1, 4, 9, 9))
