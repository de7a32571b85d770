"""Weights kept in the layout that kernels read, for as long as they do not change."""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array
from convforge.autograd import Tensor
from convforge.plan import Plan, PreparedWeights

# Elements sampled along each axis of a weight: enough to see a layer's weights exchanged, few
# enough to compare at every call.
_SAMPLES = 4


class PackedWeights:
    """The prepared forms of one weight Tensor, one for each format that plans ask for.

    Nobody can see every write to memory. What is seen: any write through the Tensor
    (assignment, ``copy_``, an optimiser's step), another array or shape, and most writes through
    an older view of its memory, by sampled elements. While a form is kept, the Tensor's ``data``
    is read-only, so that a new view cannot write unseen. With :attr:`frozen` the samples are
    trusted not to change; on a device forms are kept of frozen weights alone.
    """

    def __init__(self, frozen: bool = False) -> None:
        self.frozen = frozen
        self._kept: _Kept | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedWeights, (self.frozen,)

    def of(self, weight: Tensor) -> _Kept:
        """What is kept of a weight as it is now; call it with a plan and the weights."""
        kept = self._kept
        if kept is None or not kept.is_current(weight, trusted=self.frozen):
            self.release()
            kept = self._kept = _Kept(self, weight)
        return kept

    def release(self) -> None:
        """Forget the prepared forms; the Tensor's data can be written to again."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.weight._let_go(self)


class _Kept:
    """Prepared forms, and the stamp of what they were made from."""

    def __init__(self, owner: PackedWeights, weight: Tensor) -> None:
        self.owner = owner
        self.weight = weight
        self.array = weight._data
        self.layout = (self.array.shape, self.array.strides)
        self.version = weight._version
        self.sampled = self.sample = None
        if self.array.__class__ is np.ndarray:
            steps = (slice(None, None, max(1, -(-size // _SAMPLES))) for size in self.array.shape)
            self.sampled = self.array[tuple(steps)]
            self.sample = self.sampled.tobytes()
        self.forms: dict[str, PreparedWeights] = {}

    def is_current(self, weight: Tensor, *, trusted: bool) -> bool:
        """Whether the weight is, as far as can be seen, what the forms were made from."""
        return (
            self.array is weight._data
            and self.version == weight._version
            and self.layout == (self.array.shape, self.array.strides)
            and (trusted or self._is_unchanged())
        )

    def _is_unchanged(self) -> bool:
        return self.sampled is not None and self.sampled.tobytes() == self.sample

    def __call__(self, plan: Plan, w: Array) -> Array | PreparedWeights:
        """The weights as a plan reads them, made from ``w`` at the first time."""
        if plan.weight_format is None:
            return w
        form = self.forms.get(plan.weight_format.id)
        if form is None:
            self.weight._keep(self.owner)
            form = self.forms.setdefault(plan.weight_format.id, plan.prepare(w))
        return form
