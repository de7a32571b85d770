"""The algorithms F(m, 3) as descriptions: what a window reads, multiplies and gives.

A description is small and hashable, and its text is part of the type that kernels are compiled for.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from convforge.kernels._winograd import Matrix, Transforms, interleaved, strided

TAPS = 3


@dataclass(frozen=True, slots=True)
class Minimal:
    """F(m, 3) along both axes of an image: its points and stride.

    Attributes:
        points: For the phase with most taps; infinity is one more.
        stride: Pixels from an output to the next.
    """

    points: tuple[Fraction, ...]
    stride: int = 1

    @property
    def m(self) -> int:
        """Outputs of a window along an axis."""
        most_taps = -(-TAPS // self.stride)
        return len(self.points) + 2 - most_taps

    @property
    def side(self) -> int:
        """Products of a window along an axis."""
        return self.stride * (self.m - 1) + TAPS

    @property
    def window(self) -> int:
        """Pixels of a window along an axis: as many as products."""
        return self.side

    @property
    def reach(self) -> int:
        """Pixels from a window to the next."""
        return self.stride * self.m

    @property
    def terms(self) -> float:
        """Of a transformed pixel, about: phases do not meet in the matrices of a stride."""
        return self.side / self.stride

    @property
    def matrices(self) -> Transforms:
        """Exact."""
        return strided(self.m, TAPS, self.stride, self.points)

    @property
    def name(self) -> str:
        """As in names of algorithms and formats, ``4`` or ``4s2``."""
        return f"{self.m}" if self.stride == 1 else f"{self.m}s{self.stride}"

    def __str__(self) -> str:
        points = " ".join(map(str, self.points))
        return points if self.stride == 1 else f"{points} by {self.stride}"


@dataclass(frozen=True, slots=True)
class Interleaved:
    """The same convolution's gradient by its images, which has ``stride`` phases.

    Attributes:
        first: Phase of the first pixel, counted with its padding.
    """

    forward: Minimal
    first: int

    @property
    def stride(self) -> int:
        """Of what is read: windows of dy are ordinary ones."""
        return 1

    @property
    def m(self) -> int:
        """Pixels that a window gives along an axis."""
        return self.forward.reach

    @property
    def side(self) -> int:
        """Products of a window along an axis."""
        return len(self.matrices.input)

    @property
    def window(self) -> int:
        """Pixels of dy in a window, along an axis."""
        return len(self.matrices.input[0])

    @property
    def reach(self) -> int:
        """Pixels of dy from a window to the next."""
        return self.forward.m

    @property
    def terms(self) -> float:
        """Of a transformed pixel, about."""
        return self.forward.terms

    @property
    def matrices(self) -> Transforms:
        """Exact."""
        return self._made[0]

    def lead(self, pad: int) -> int:
        """Zeros before dy, for an image padded by ``pad``."""
        return -(self._made[1] + pad // self.forward.stride)

    @property
    def _made(self) -> tuple[Transforms, int]:
        forward = self.forward
        return interleaved(forward.m, TAPS, forward.stride, self.first, forward.points)

    @property
    def name(self) -> str:
        """As in names of formats."""
        return f"{self.forward.name}from{self.first}"

    def __str__(self) -> str:
        return f"{self.forward} from {self.first}"


@dataclass(frozen=True, slots=True)
class Gradient:
    """The transposed algorithm: taps from windows of dy, ``G^T [(A dy) * (B^T x)]``.

    ``A`` is for every window; ``G``, with its fractions, for the sum over all of them.
    """

    minimal: Minimal

    @property
    def m(self) -> int:
        """Taps along an axis."""
        return TAPS

    @property
    def side(self) -> int:
        """Products of a window along an axis."""
        return self.minimal.side

    @property
    def window(self) -> int:
        """Pixels of dy in a window, along an axis."""
        return self.minimal.m

    @property
    def reach(self) -> int:
        """Pixels from a window to the next: none is in two."""
        return self.minimal.m

    @property
    def matrices(self) -> Transforms:
        """Exact."""
        made = self.minimal.matrices
        return Transforms(_transposed(made.weights), made.weights, _transposed(made.output))

    def __str__(self) -> str:
        return f"gradient of {self.minimal}"


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))
