"""A layer's kernels as plans read them, for as long as they do not change."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from convforge.arrays import Array
from convforge.integrations.keras.backends import array_of, version_of
from convforge.plan import Plan, PreparedWeights

# Elements sampled along each axis, as in nn.packed: enough to see a kernel exchanged.
_SAMPLES = 4

_kept: WeakKeyDictionary[Any, dict[bool, KeptKernel]] = WeakKeyDictionary()


def keep(layer: Any, kernel: Any, *, depthwise: bool) -> KeptKernel:
    """What is kept of a layer's kernel as it is now, made if it has changed or is new.

    A separable layer has two kernels, one of them depthwise.
    """
    uses = _kept.setdefault(layer, {})
    kept = uses.get(depthwise)
    if kept is None or not kept.is_current(kernel):
        kept = uses[depthwise] = KeptKernel(kernel, depthwise=depthwise)
    return kept


def forget(layer: Any) -> None:
    """Keep nothing of a layer."""
    _kept.pop(layer, None)


class KeptKernel:
    """A kernel in the memory order of filters, and its prepared forms.

    Seen are another tensor, what PyTorch counts as a write, and most other writes, by sampled
    elements.

    Attributes:
        array: The kernel with Keras's axes, in memory in the order ``(K, C, R, S)``, or
            ``(C, m, R, S)`` of a depthwise one, to which the conventions transpose it.
    """

    def __init__(self, kernel: Any, *, depthwise: bool) -> None:
        self._kernel, self._version = kernel, version_of(kernel)
        array = array_of(kernel)
        steps = [slice(None, None, max(1, -(-size // _SAMPLES))) for size in array.shape]
        self._sampled = array[tuple(steps)]
        self._sample = self._sampled.tobytes()
        self._forms: dict[str, PreparedWeights] = {}
        rank = array.ndim - 2
        axes = (rank, rank + 1) if depthwise else (rank + 1, rank)
        filters = np.ascontiguousarray(array.transpose(*axes, *range(rank)))
        # Where the conventions find the axes.
        self.array = filters.transpose(*range(2, rank + 2), *((0, 1) if depthwise else (1, 0)))

    def is_current(self, kernel: Any) -> bool:
        """Whether the kernel is, as far as can be seen, what the forms were made from."""
        return (
            kernel is self._kernel
            and version_of(kernel) == self._version
            and self._sampled.tobytes() == self._sample
        )

    def __call__(self, plan: Plan, w: Array) -> Array | PreparedWeights:
        """The weights as a plan reads them, made from ``w`` at the first time."""
        if plan.weight_format is None:
            return w
        form = self._forms.get(plan.weight_format.id)
        if form is None:
            form = self._forms.setdefault(plan.weight_format.id, plan.prepare(w))
        return form
