"""Layers of Keras that exist, computed by this package's kernels and by Keras's again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

from convforge.integrations.keras import calls, layers
from convforge.integrations.keras.weights import forget

# Keras's layers share a function where they compute the same.
_CLASSES: list[Any] = [ours for ours in vars(layers).values() if isinstance(ours, type)]
_OURS: dict[Callable[..., Any], Callable[..., Any]] = {
    ours.__mro__[1].call: ours.call for ours in _CLASSES
}


def convert(model: Any) -> list[str]:
    """Compute the convolutions and poolings of a model by our kernels, in place.

    Layers stay what they are: objects, classes, weights, names, configurations. So a file that
    :meth:`keras.Model.save` writes is Keras's own, and loads where this package is not installed;
    what is loaded, or cloned, computes as Keras does until it is converted.

    Args:
        model: A model or a layer of Keras, built or not.

    Returns:
        The paths of the layers that now compute by our kernels, their names before they are built.
        Layers whose class has a
        ``call`` or a ``convolution_op`` of its own are left alone.
    """
    changed = []
    for layer in _layers(model):
        ours = _OURS.get(type(layer).call)
        own_op = getattr(type(layer), "convolution_op", None) not in (None, *calls.OPS)
        if ours is not None and not own_op and "call" not in vars(layer):
            vars(layer)["call"] = MethodType(ours, layer)
            changed.append(layer.path or layer.name)
    return changed


def restore(model: Any) -> list[str]:
    """Let a model that :func:`convert` has changed compute as Keras does.

    Returns:
        The paths of the layers that were changed back.
    """
    changed = []
    for layer in _layers(model):
        call = vars(layer).get("call")
        if getattr(call, "__func__", None) in _OURS.values():
            del vars(layer)["call"]
            forget(layer)
            changed.append(layer.path or layer.name)
    return changed


def _layers(model: Any) -> Iterator[Any]:
    """The model and every layer in it, however deep."""
    return model._flatten_layers()  # type: ignore[no-any-return]
