"""Models that exist, brought to these kernels and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from convforge.integrations.torch import nn
from convforge.integrations.torch.packed import PackedWeights
from convforge.integrations.torch.policies import word_of

if TYPE_CHECKING:
    from convforge.policy import Policy

_OURS: dict[type, type] = {
    getattr(torch.nn, name): ours
    for name, ours in vars(nn).items()
    if isinstance(ours, type) and hasattr(torch.nn, name)
}
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}


def convert(
    model: Any, policy: Policy | None = None, *, freeze: bool = False, algorithm: str | None = None
) -> Any:
    """Let layers of a model run here: convolutions, poolings and linear maps.

    A layer stays the object it is, with its parameters, hooks, name and mode; it only becomes of
    another class. Subclasses of PyTorch's layers are left alone, for nobody knows what they do.

    Args:
        model: A module; changed in place.
        policy: Limits within which algorithms are chosen; again to change it.
        freeze: Promise that weights do not change in ways that nobody can see: layers then
            prepare them once and not in every call, where no gradient is recorded. Ordinary
            changes (an optimiser's step, ``load_state_dict``, assignment, operators that write)
            are seen; after a write through ``.data`` or in inference mode, call :func:`refresh`.
        algorithm: A name or glob, for layers of one kind; the others find it does not run them.

    Returns:
        The model.

    Raises:
        TypeError, ValueError: Not a module, or not a policy.
    """
    word = word_of(policy, algorithm)
    for layer in _modules(model):
        ours = _OURS.get(type(layer))
        if ours is not None:
            layer.__class__ = ours
        if type(layer) in _TORCHS:
            layer.convforge_policy = word
            kept = freeze and hasattr(layer, "weight")
            layer.convforge_packed = PackedWeights() if kept else None
    return model


def converts(layer: Any) -> bool:
    """Whether :func:`convert` takes a layer."""
    return type(layer) in _OURS


def restore(model: Any) -> Any:
    """Undo :func:`convert`; returns the model."""
    for layer in _modules(model):
        torchs = _TORCHS.get(type(layer))
        if torchs is not None:
            layer.__class__ = torchs
            for name in ("convforge_policy", "convforge_packed"):
                vars(layer).pop(name, None)
    return model


def refresh(model: Any) -> Any:
    """Have frozen layers prepare their weights anew at their next call; returns the model."""
    for layer in _modules(model):
        packed = getattr(layer, "convforge_packed", None)
        if packed is not None:
            packed.clear()
    return model


def _modules(model: Any) -> Any:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is of type {type(model).__name__}; wanted a torch.nn.Module")
    return model.modules()
