"""Networks to measure as wholes, as PyTorch modules; random weights, random statistics.

ResNet: He et al. 2015 (arXiv:1512.03385), stride in the 3x3. VGG: Simonyan, Zisserman 2014
(arXiv:1409.1556), columns A and D. MobileNetV2: Sandler et al. 2018 (arXiv:1801.04381). ConvNeXt-T:
Liu et al. 2022 (arXiv:2201.03545).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

CLASSES = 1000


def normed(C: int, K: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution with batch normalisation behind it."""
    conv = nn.Conv2d(C, K, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(K)]


class Residual(nn.Module):
    """The sum of two branches, and what follows."""

    def __init__(self, main: list[nn.Module], other: list[nn.Module], after: nn.Module) -> None:
        super().__init__()
        self.main, self.other, self.after = nn.Sequential(*main), nn.Sequential(*other), after

    def forward(self, x: Any) -> Any:
        """Images in, images out."""
        return self.after(self.main(x) + self.other(x))


def _resnet(blocks: tuple[int, ...], bottleneck: bool) -> nn.Module:
    layers = [*normed(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    C = 64
    for i, count in enumerate(blocks):
        width = 64 << i
        K = width * (4 if bottleneck else 1)
        for j in range(count):
            stride = 2 if i > 0 and j == 0 else 1
            if bottleneck:
                main = [
                    *normed(C, width, 1), nn.ReLU(), *normed(width, width, 3, stride), nn.ReLU(),
                    *normed(width, K, 1),
                ]  # fmt: skip
            else:
                main = [*normed(C, width, 3, stride), nn.ReLU(), *normed(width, K, 3)]
            other = [] if C == K and stride == 1 else normed(C, K, 1, stride)
            layers.append(Residual(main, other, nn.ReLU()))
            C = K
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, CLASSES))


def _vgg(widths: tuple[tuple[int, ...], ...]) -> nn.Module:
    layers: list[nn.Module] = []
    C = 3
    for level in widths:
        for K in level:
            layers += [nn.Conv2d(C, K, 3, padding=1), nn.ReLU()]
            C = K
        layers.append(nn.MaxPool2d(2))
    head = [
        nn.Linear(C * 49, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, CLASSES),
    ]  # fmt: skip
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head)


def _mobilenet_v2() -> nn.Module:
    layers = [*normed(3, 32, 3, 2), nn.ReLU6()]
    C = 32
    for factor, K, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for j in range(count):
            wide, step = C * factor, stride if j == 0 else 1
            widen = [*normed(C, wide, 1), nn.ReLU6()] if factor > 1 else []
            main = [
                *widen, *normed(wide, wide, 3, step, wide), nn.ReLU6(), *normed(wide, K, 1),
            ]  # fmt: skip
            if step == 1 and C == K:
                layers.append(Residual(main, [], nn.Identity()))
            else:
                layers += main
            C = K
    layers += [*normed(C, 1280, 1), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, CLASSES))


class LastNorm(nn.LayerNorm):
    """Layer normalisation of the channels of images ``(N, C, H, W)``."""

    def forward(self, x: Any) -> Any:
        """Images in, images out."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise, normalisation, two linear maps of pixels, scaled and added."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(C, C, 7, padding=3, groups=C)
        self.pixels = nn.Sequential(
            nn.LayerNorm(C, 1e-6), nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C)
        )
        self.scale = nn.Parameter(torch.full((C,), 0.1))

    def forward(self, x: Any) -> Any:
        """Images in, images out."""
        pixels = self.pixels(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * pixels).permute(0, 3, 1, 2)


def _convnext_t() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), LastNorm(96, 1e-6)]
    C = 96
    for i, (K, count) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
        if i:
            layers += [LastNorm(C, 1e-6), nn.Conv2d(C, K, 2, 2)]
        layers += [ConvNeXtBlock(K) for _ in range(count)]
        C = K
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(C, 1e-6), nn.Linear(C, CLASSES)]
    return nn.Sequential(*layers, *head)


_A = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": lambda: _resnet((2, 2, 2, 2), bottleneck=False),
    "ResNet-50": lambda: _resnet((3, 4, 6, 3), bottleneck=True),
    "VGG-11": lambda: _vgg(_A),
    "VGG-16": lambda: _vgg(_D),
    "MobileNetV2": _mobilenet_v2,
    "ConvNeXt-T": _convnext_t,
}


def network(name: str, seed: int = 0) -> nn.Module:
    """One of :data:`NETWORKS`, in evaluation mode, whose activations keep their size."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model.eval()
