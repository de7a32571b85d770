"""Two steps of training on a device beside two on the host: what no kernel's case can show.

Everything around the kernels (arithmetic, normalisation, losses, optimisers) is CuPy's there; a
stand-in for CuPy cannot tell whether it is used rightly.
"""

from __future__ import annotations

import numpy as np

from convforge import Tensor, functional, manual_seed, nn, optim

_STEPS = 2
MOST = 1e-3
"""Largest difference of a parameter, as a share of the largest of its tensor."""


class _Network(nn.Module):
    """One of each layer that computes by other means than a kernel of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.SiLU(),
            nn.Conv2d(16, 24, 1),
            nn.GELU(),
            nn.AvgPool2d(2),
        )
        self.classes = nn.Linear(24 * 4 * 4, 5)

    def forward(self, input: Tensor) -> Tensor:
        """Scores of five classes."""
        scores: Tensor = self.classes(functional.flatten(self.features(input), 1))
        return scores


def difference(place: str) -> tuple[float, str]:
    """How far parameters and buffers are apart after the steps, at most, and which are."""
    there, here = _trained(place), _trained("cpu")
    apart = {
        name: float(np.abs(there[name] - value).max() / max(np.abs(value).max(), 1e-6))
        for name, value in here.items()
    }
    apart = {name: value if np.isfinite(value) else np.inf for name, value in apart.items()}
    worst = max(apart, key=apart.__getitem__)
    return apart[worst], worst


def _trained(place: str) -> dict[str, np.ndarray]:
    manual_seed(11)
    model = _Network().to(place)
    halves = [list(model.features.parameters()), list(model.classes.parameters())]
    optimisers = optim.SGD(halves[0], lr=0.05, momentum=0.9), optim.AdamW(halves[1], lr=0.01)
    rng = np.random.default_rng(12)
    for _ in range(_STEPS):
        x = Tensor(rng.standard_normal((8, 3, 16, 16)).astype(np.float32)).to(place)
        labels = Tensor(rng.integers(0, 5, 8)).to(place)
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss = functional.cross_entropy(model(x), labels, label_smoothing=0.1)
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
    model.eval()
    return {"loss": np.asarray(loss.item()), **model.to("cpu").state_dict()}
