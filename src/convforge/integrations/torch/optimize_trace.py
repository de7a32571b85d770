"""Modules of an optimised model: traced as a whole for each shape that comes, or in parts."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_flatten, tree_leaves

from convforge.integrations.torch.conversion import convert, converts
from convforge.integrations.torch.optimize_graph import Summary, fuse
from convforge.integrations.torch.optimize_layers import Weights
from convforge.runtime.threads import get_num_threads

if TYPE_CHECKING:
    from convforge.policy import Policy

TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 3e-2,
    torch.bfloat16: 1e-1,
}
"""Largest error of a result, as a share of its largest element."""


class Traced:
    """A module's forward method, by graphs of one shape each.

    ``torch.export`` traces it, so that values decide about nothing that is kept. A module that it
    cannot trace runs as it is written, and its children are traced one by one.

    Attributes:
        weights: Of all graphs. summaries: One for each.
    """

    def __init__(self, module: Any, name: str, policy: Policy | None) -> None:
        self.module = module
        self.name = name
        self.policy = policy
        self.forward = module.forward
        self.weights: dict[tuple[Any, ...], Weights] = {}
        self.summaries: list[Summary] = []
        self.children: list[Traced] = []
        self._graphs: dict[Any, Any] = {}
        self._split = False
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Run the graph for arguments like these, which is made where there is none."""
        if self._split:
            return self.forward(*args, **keywords)
        key = _key(args, keywords)
        graph = self._graphs.get(key)
        if graph is None:
            with self._lock:
                graph = self._graphs.get(key) or self._add(key, args, keywords)
            if graph is None:
                return self.forward(*args, **keywords)
        return graph(*args, **keywords)

    def everything(self) -> list[Traced]:
        """This one and all below it."""
        return [self, *(each for child in self.children for each in child.everything())]

    def _add(self, key: Any, args: Any, keywords: Any) -> Any:
        """Trace for arguments like these, and compare results; None if the module splits."""
        if self._split:
            return None
        graph, why = _exported(self.module, args, keywords)
        if graph is None:
            self._split_up(why)
            return None
        summary = fuse(graph, self.weights, self.policy, self.name)
        _require_equal(self.name, graph.forward(*args, **keywords), self.forward(*args, **keywords))
        self.summaries.append(summary)
        # Not the module around it, whose hooks take longer than a small layer.
        self._graphs[key] = graph.forward
        return graph.forward

    def _split_up(self, why: str) -> None:
        self.summaries.append(Summary(split=[(self.name, why)]))
        self._split = True
        self._take_children(self.module, self.name)

    def _take_children(self, module: Any, name: str) -> None:
        for label, child in module.named_children():
            where = f"{name}.{label}".strip(".")
            if converts(child):
                convert(child, self.policy, freeze=True)
            elif isinstance(child, torch.nn.ModuleList | torch.nn.ModuleDict):
                self._take_children(child, where)
            elif "forward" not in vars(child):
                traced = Traced(child, where, self.policy)
                child.forward = traced
                self.children.append(traced)


def _key(args: Any, keywords: Any) -> Any:
    """All that a graph is made for."""
    leaves, structure = tree_flatten((args, keywords))
    return (
        get_num_threads(),
        structure,
        *[
            (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, torch.Tensor) else _word(leaf)
            for leaf in leaves
        ],
    )


def _word(value: Any) -> Any:
    """A value as part of a key; 1, 1.0 and True are not the same."""
    return type(value), value if value.__hash__ is not None else id(value)


def _exported(module: Any, args: Any, keywords: Any) -> tuple[Any, str]:
    """The graph of a module for arguments like these, or None and why not."""
    patched = vars(module).pop("forward", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, args, keywords, strict=False)
            writes = program.graph_signature.buffers_to_mutate
            inputs = program.graph_signature.user_inputs_to_mutate
            if writes or inputs:
                names = ", ".join([*writes.values(), *inputs.values()])
                return None, f"it writes to {names}"
            return program.run_decompositions({}).module(check_guards=False), ""
    except Exception as error:  # whatever a compiler says, the model can still be run
        return None, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    finally:
        if patched is not None:
            module.forward = patched


def _require_equal(name: str, ours: Any, theirs: Any) -> None:
    """Raise unless results are the same, within :data:`TOLERANCE`."""
    who = name or "the model"
    found, wanted = tree_leaves(ours), tree_leaves(theirs)
    if len(found) != len(wanted):
        raise RuntimeError(f"{who}, optimised, returns {len(found)} results, not {len(wanted)}")
    for y, reference in zip(found, wanted, strict=True):
        if not isinstance(reference, torch.Tensor):
            if type(y) is not type(reference) or y != reference:
                raise RuntimeError(f"{who}, optimised, returns {y!r}, not {reference!r}")
            continue
        if y.shape != reference.shape or y.dtype is not reference.dtype:
            raise RuntimeError(
                f"{who}, optimised, returns {tuple(y.shape)} of {y.dtype}, not "
                f"{tuple(reference.shape)} of {reference.dtype}"
            )
        if reference.numel() == 0:
            continue
        if not (reference.is_floating_point() or reference.is_complex()):
            if not torch.equal(y, reference):
                raise RuntimeError(f"{who}, optimised, returns other {reference.dtype}")
            continue
        limit = TOLERANCE.get(reference.dtype, 1e-4)
        scale = float(reference.abs().max())
        error = float((y - reference).abs().max())
        if not error <= limit * scale:  # a NaN is an error too
            raise RuntimeError(
                f"{who}, optimised, errs by {error:.3g} where the largest element is {scale:.3g}; "
                f"at most {limit:g} of it is allowed"
            )
