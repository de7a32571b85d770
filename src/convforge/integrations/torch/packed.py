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
    :func:`~convforge.torch.refresh` is for these. Copies and pickles start empty.
    """

    def __init__(self) -> None:
        self._stamp: Any = None
        self._samples: Array | None = None
        self._sampled = b""
        self._forms: dict[str, PreparedWeights] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedWeights, ()

    def clear(self) -> None:
        """Forget the prepared forms."""
        self._stamp, self._samples, self._forms = None, None, {}

    def of(self, weight: Any) -> PackedWeights:
        """The same, with nothing in it that the weight as it is now did not give."""
        stamp = (
            weight.data_ptr(), weight.shape, weight.stride(), weight.dtype,
            None if weight.is_inference() else weight._version,
        )  # fmt: skip
        if (
            stamp != self._stamp
            or self._samples is None
            or self._samples.tobytes() != self._sampled
        ):
            array = array_of(weight)
            steps = tuple(slice(None, None, max(1, -(-n // _SAMPLES))) for n in array.shape)
            self._samples = array[steps]
            self._sampled = self._samples.tobytes()
            self._stamp, self._forms = stamp, {}
        return self

    def __call__(self, plan: Plan, w: Array) -> Array | PreparedWeights:
        """The weights as a plan reads them."""
        if plan.weight_format is None:
            return w
        form = self._forms.get(plan.weight_format.id)
        if form is None:
            form = self._forms[plan.weight_format.id] = plan.prepare(w)
        return form
