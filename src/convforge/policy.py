"""What a caller allows: which algorithms, how much error, how much memory, how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from convforge.contract import Algorithm, Rejected

_GROWTHS = {None: 16.0, "strict": 4.0, "fast": float("inf")}


def _require_count(name: str, value: object, least: int) -> None:
    """Raise unless ``value`` is a whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}; wanted a whole number")
    if int(value) < least:
        raise ValueError(f"{name} is {value}; wanted at least {least}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Limits within which the dispatcher chooses. Immutable and hashable.

    Attributes:
        algorithm: A name or glob of :func:`convforge.algorithms`; never silently replaced.
        accuracy: None allows every algorithm within its stated tolerance up to 16 units of
            ``eps * conv(|x|, |w|)``; ``"strict"`` only those that err by at most 4 units at each
            element; ``"fast"`` all; a number is the largest error in units.
        deterministic: Only algorithms that repeat their bits from run to run.
        batch_invariant: Only algorithms whose bits for an image do not depend on the batch, and for
            every batch the one that is best for one image, if ``workspace_limit`` allows it there.
        strict_nan: A NaN or infinity reaches just the outputs it is a factor of, as the reference
            computes them; excludes algorithms that multiply or skip zeros outside the image.
        workspace_limit: Bytes of scratch memory a call may use, prepared weights apart.
        threads: Threads of a call; None follows :func:`convforge.set_num_threads`.
        prepared: Whether calls get prepared weights: with False, preparing them counts in every
            call, with True in none. None does not know, and counts a part of it.
        tune: ``"never"`` trusts the cost model.

    Raises:
        ValueError, TypeError: An unknown word, a number out of range, the wrong type.
    """

    algorithm: str | None = None
    accuracy: str | float | None = None
    deterministic: bool = True
    batch_invariant: bool = False
    strict_nan: bool = False
    workspace_limit: int = 1 << 30
    threads: int | None = None
    prepared: bool | None = None
    tune: str = "never"

    def __post_init__(self) -> None:
        if self.algorithm is not None and not (isinstance(self.algorithm, str) and self.algorithm):
            raise ValueError(f"algorithm is {self.algorithm!r}; wanted None, a name or a glob")
        if not self._accuracy_is_known():
            raise ValueError(
                f"accuracy is {self.accuracy!r}; wanted None, 'strict', 'fast' or a number of "
                "units, 0 or more"
            )
        for name in ("deterministic", "batch_invariant", "strict_nan"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is {getattr(self, name)!r}; wanted True or False")
        if self.prepared is not None and not isinstance(self.prepared, bool):
            raise TypeError(f"prepared is {self.prepared!r}; wanted None, True or False")
        _require_count("workspace_limit", self.workspace_limit, 0)
        if self.threads is not None:
            _require_count("threads", self.threads, 1)
        if self.tune != "never":
            raise ValueError(f"tune is {self.tune!r}; wanted 'never'")

    def _accuracy_is_known(self) -> bool:
        if self.accuracy is None or isinstance(self.accuracy, str):
            return self.accuracy in _GROWTHS
        is_number = isinstance(self.accuracy, int | float) and not isinstance(self.accuracy, bool)
        return is_number and self.accuracy >= 0  # False for a NaN

    @property
    def largest_growth(self) -> float:
        """Largest error allowed, in units."""
        if isinstance(self.accuracy, int | float):
            return float(self.accuracy)
        return _GROWTHS[self.accuracy]

    def allows(self, algorithm: Algorithm) -> Rejected | None:
        """None if the algorithm's promises satisfy this policy, else which one does not."""
        tolerance, traits = algorithm.tolerance, algorithm.traits
        if tolerance.growth > self.largest_growth:
            return Rejected(
                f"accuracy={self.accuracy!r}: errs by up to {tolerance.growth:g} units, "
                f"{self.largest_growth:g} allowed"
            )
        if tolerance.planewise and self.accuracy == "strict":
            return Rejected("accuracy='strict': mixes pixels, so errs by the largest of a plane")
        if self.strict_nan and not traits.strict_nan:
            return Rejected("strict_nan=True: multiplies or skips zeros outside the image")
        if self.deterministic and not traits.deterministic:
            return Rejected("deterministic=True: its bits change from run to run")
        if self.batch_invariant and not traits.batch_invariant:
            return Rejected("batch_invariant=True: its bits depend on the batch")
        return None
