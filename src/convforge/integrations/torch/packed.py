"""Weights of layers kept in the layout that kernels read, under a promise."""

from __future__ import annotations

from typing import Any

from convforge.arrays import Array
from convforge.integrations.torch.memory import array_of
from convforge.plan import Plan, PreparedWeights

# Elements sampled along each axis.
_SAMPLES = 4


class PackedWeights:
    """The prepared forms of one weight, one for each format that plans ask for.

    They are made anew when the weight shows that it has changed: another memory, shape, type or
    version (which every write of PyTorch's counts, but for those through ``.data`` and in
    inference mode), or another value at one of a few places. Nobody sees all other writes;
    :func:`~convforge.torch.refresh` is for these. Copies by pickling start empty; whatever shares
    one, in whichever thread, gets forms of its own weight.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedWeights, ()

    def clear(self) -> None:
        """Forget the prepared forms."""
        self._kept = None

    def of(self, weight: Any) -> _Kept:
        """What was prepared of the weight as it is now."""
        stamp = (
            weight.data_ptr(), weight.shape, weight.stride(), weight.dtype,
            None if weight.is_inference() else weight._version,
        )  # fmt: skip
        kept = self._kept
        if kept is None or not kept.is_current(stamp):
            kept = self._kept = _Kept(stamp, array_of(weight))
        return kept


class _Kept:
    """Forms of a weight as it was; calls the way that plans are given weights by."""

    def __init__(self, stamp: Any, array: Array) -> None:
        steps = tuple(slice(None, None, max(1, -(-n // _SAMPLES))) for n in array.shape)
        self._stamp, self._samples = stamp, array[steps]
        self._sampled = self._samples.tobytes()
        self._forms: dict[str, PreparedWeights] = {}

    def is_current(self, stamp: Any) -> bool:
        """Whether the weight with this stamp shows no change."""
        return bool(stamp == self._stamp and self._samples.tobytes() == self._sampled)

    def __call__(self, plan: Plan, w: Array) -> Array | PreparedWeights:
        """The weights as a plan reads them."""
        if plan.weight_format is None:
            return w
        form = self._forms.get(plan.weight_format.id)
        if form is None:
            form = self._forms[plan.weight_format.id] = plan.prepare(w)
        return form
