"""Hand-written convolution and pooling kernels behind one dispatcher.

Functions on arrays are in :mod:`convforge.functional` (the convolutions and poolings are here
too), layers in :mod:`convforge.nn`, optimisers in :mod:`convforge.optim`. Everything is imported
when it is first asked for: ``import convforge`` itself needs the standard library only.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = ("autograd", "functional", "nn", "ops", "optim", "reference")
# Found where they are asked for, not listed: what they are for may not be installed.
_INTEGRATIONS = ("keras", "torch")
_NAMES = {
    "autograd": ("Tensor", "enable_grad", "is_grad_enabled", "no_grad"),
    "contract": ("UnsupportedProblem",),
    "functional": (
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "linear",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
    ),
    "plan": ("plan",),
    "policy": ("Policy",),
    "problem": ("parse",),
    "random": ("manual_seed",),
    "registry": ("algorithms",),
    "runtime.threads": ("get_num_threads", "set_num_threads"),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from convforge import autograd as autograd
    from convforge import functional as functional
    from convforge import nn as nn
    from convforge import ops as ops
    from convforge import optim as optim
    from convforge import reference as reference
    from convforge.autograd import Tensor as Tensor
    from convforge.autograd import enable_grad as enable_grad
    from convforge.autograd import is_grad_enabled as is_grad_enabled
    from convforge.autograd import no_grad as no_grad
    from convforge.contract import UnsupportedProblem as UnsupportedProblem
    from convforge.functional import avg_pool1d as avg_pool1d
    from convforge.functional import avg_pool2d as avg_pool2d
    from convforge.functional import avg_pool3d as avg_pool3d
    from convforge.functional import conv1d as conv1d
    from convforge.functional import conv2d as conv2d
    from convforge.functional import conv3d as conv3d
    from convforge.functional import conv_transpose1d as conv_transpose1d
    from convforge.functional import conv_transpose2d as conv_transpose2d
    from convforge.functional import conv_transpose3d as conv_transpose3d
    from convforge.functional import linear as linear
    from convforge.functional import max_pool1d as max_pool1d
    from convforge.functional import max_pool2d as max_pool2d
    from convforge.functional import max_pool3d as max_pool3d
    from convforge.integrations import torch as torch
    from convforge.plan import plan as plan
    from convforge.policy import Policy as Policy
    from convforge.problem import parse as parse
    from convforge.random import manual_seed as manual_seed
    from convforge.registry import algorithms as algorithms
    from convforge.runtime.threads import get_num_threads as get_num_threads
    from convforge.runtime.threads import set_num_threads as set_num_threads


class _Package(ModuleType):
    """``convforge.plan`` is a function, though a module of that name is loaded as well."""

    @property
    def plan(self) -> Any:
        return importlib.import_module("convforge.plan").plan

    @plan.setter
    def plan(self, module: ModuleType) -> None:
        """The import system offers every loaded submodule as an attribute: not this one."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _INTEGRATIONS:
        return importlib.import_module(f"convforge.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'convforge' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"convforge.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_HOMES])
