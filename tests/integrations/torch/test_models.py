"""Models of Hugging Face's transformers: converted, under ``use``, and optimised."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import convforge.torch as convforge_torch  # noqa: E402

FORWARD, BACKWARD = 2e-5, 2e-4
"""Largest error, as a share of the largest element of a result or of a parameter's gradient. Sums
are of other orders, and normalisation over few pixels enlarges what is left of them."""


def _resnet():
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 2])
    return transformers.ResNetForImageClassification(config)


def _mobilenet_v2():
    config = transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.35)
    return transformers.MobileNetV2ForImageClassification(config)


def _convnext():
    config = transformers.ConvNextConfig(
        hidden_sizes=[16, 32], depths=[1, 2], num_stages=2, layer_scale_init_value=0.3
    )
    return transformers.ConvNextForImageClassification(config)


def _segformer():
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, hidden_sizes=[16, 32], depths=[1, 1], decoder_hidden_size=16,
        sr_ratios=[4, 2], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2],
        mlp_ratios=[2, 2], hidden_dropout_prob=0.0, classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


MODELS = {
    "resnet": _resnet, "mobilenet_v2": _mobilenet_v2, "convnext": _convnext,
    "segformer": _segformer,
}  # fmt: skip


@pytest.fixture(params=MODELS)
def model(request):
    """With random statistics, in evaluation mode."""
    torch.manual_seed(1)
    made = MODELS[request.param]()
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, std=0.3)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.3)
    return made.eval()


def images(count=2):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(7))


def require_close(found, wanted, limit, what):
    error, scale = float((found - wanted).abs().max()), float(wanted.abs().max())
    assert error <= limit * scale, f"{what} errs by {error} of {scale}"


def test_gradients_under_convert_and_use_are_torchs(model):
    x = images()
    weights = torch.randn(model(x).logits.shape)

    def gradients(one):
        one.zero_grad()
        y = one(x).logits
        (y * weights).sum().backward()
        return y.detach(), {n: p.grad.clone() for n, p in one.named_parameters()}

    y, grads = gradients(model)
    largest = max(float(grad.abs().max()) for grad in grads.values())
    converted = convforge_torch.convert(copy.deepcopy(model))
    convforge_torch.report().clear()
    found = {"convert": gradients(converted)}
    with convforge_torch.use():
        found["use"] = gradients(model)
    for how, (ours, our_grads) in found.items():
        require_close(ours, y, FORWARD, how)
        for name, grad in grads.items():
            error = float((our_grads[name] - grad).abs().max())
            # Gradients that are sums to zero are judged by what they are sums of.
            scale = max(float(grad.abs().max()), 1e-2 * largest)
            assert error <= BACKWARD * scale, f"{how}: {name} errs by {error} of {scale}"


def test_optimised_models_compute_the_same(model):
    optimized = convforge_torch.optimize(model, images())
    summary = optimized.summary()
    assert not summary.split
    products = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    fused = [what for _, what, _ in summary.fused]
    assert sum(what.count("conv2d") + what.count("linear") for what in fused) == len(products)
    assert not any("batch_norm" in name for name, _ in summary.left)
    x = images().flip(0) * 2
    with torch.no_grad():
        found, wanted = optimized(x), model(x)
    assert type(found) is type(wanted)
    require_close(found.logits, wanted.logits, FORWARD, "optimised")


def test_training_gives_the_same_losses():
    torch.manual_seed(2)
    model = _resnet().train()
    x, labels = images(8), torch.arange(8) % 2

    def losses(one):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.01, momentum=0.9)
        found = []
        for _ in range(20):
            loss = one(x, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        return found

    ours = losses(convforge_torch.convert(copy.deepcopy(model)))
    wanted = losses(model)
    assert wanted[-1] < wanted[0]
    assert max(abs(a - b) for a, b in zip(ours, wanted, strict=True)) <= 1e-4
