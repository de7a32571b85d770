"""Pooling, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from convforge.problem.geometry import MOST_ELEMENTS, Axis, Operand
from convforge.problem.spell import spell_pool
from convforge.problem.words import SIZE_NAMES, Direction, PadMode, PoolKind


@dataclass(frozen=True, kw_only=True)
class PoolProblem:
    """A pooling, forward (fprop) or backward (dgrad).

    Attributes:
        kind: Maximum or average. N: Images. C: Channels.
        axes: Windows; ``filter`` is the window's extent. All of them adaptive, or none.
        x: Images, logically ``(N, C, H, W)``; y has the same type and order.
        ceil_mode: Round the output extent up, then drop windows that start in the padding
            after the image (the rule of PyTorch).
        count_include_pad: Average over the padding too, but not over what hangs beyond it.
        divisor: Divide sums by this instead of the window's count.
        indices: Max fprop also returns int64 positions, flat over one plane of x.

    Raises:
        ValueError: A size, or a combination of sizes, that describes no pooling.
    """

    direction: Direction = Direction.FPROP
    kind: PoolKind
    N: int
    C: int
    axes: tuple[Axis, ...]
    x: Operand = Operand()
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int | None = None
    indices: bool = False

    def __post_init__(self) -> None:
        if self.direction is Direction.WGRAD:
            raise ValueError("pooling has no weights, so no wgrad")
        if len(self.axes) not in SIZE_NAMES:
            raise ValueError(f"{len(self.axes)} spatial axes; wanted 1, 2 or 3")
        if len({axis.windows is None for axis in self.axes}) > 1:
            raise ValueError("some axes are adaptive and some are not; wanted all or none")
        if self.adaptive and (self.ceil_mode or not self.count_include_pad or self.divisor):
            raise ValueError("adaptive windows have no padding, no ceil_mode and no divisor")
        for name in "NC":
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name, axis in zip(SIZE_NAMES[self.rank], self.axes, strict=True):
            axis.check(name)
            if axis.size < 1:
                raise ValueError(f"size of axis {name} is {axis.size}; pooling needs at least 1")
            if max(axis.pad_lo, axis.pad_hi) > axis.extent // 2:
                raise ValueError(
                    f"padding ({axis.pad_lo}, {axis.pad_hi}) of axis {name} must not exceed half "
                    f"the window's extent {axis.extent}, or a window could hold padding alone"
                )
            starts = range(-axis.pad_lo, self._out(axis) * axis.stride - axis.pad_lo, axis.stride)
            if any(start < 0 and start % axis.dilation >= axis.size for start in starts):
                raise ValueError(
                    f"dilation {axis.dilation} of axis {name} lets a window step over the whole "
                    f"input (size {axis.size}) and hold padding alone"
                )
            if axis.pad_mode is not PadMode.ZEROS:
                raise ValueError(f"pooling has no pad mode {axis.pad_mode}")
        if self.divisor is not None and self.divisor < 1:
            raise ValueError(f"divisor_override is {self.divisor}; it must be at least 1")
        if self.indices and self.kind is not PoolKind.MAX:
            raise ValueError("indices are defined for max pooling only")
        if max(prod(shape) for shape in (self.x_shape, self.y_shape)) > MOST_ELEMENTS:
            raise ValueError(f"an operand has more than {MOST_ELEMENTS} elements: {self}")

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.axes)

    @property
    def adaptive(self) -> bool:
        """Whether the number of windows is given, and their extents follow from it."""
        return self.axes[0].windows is not None

    @cached_property
    def out(self) -> tuple[int, ...]:
        """Spatial extents of y."""
        return tuple(self._out(axis) for axis in self.axes)

    def _out(self, axis: Axis) -> int:
        if not self.ceil_mode or self.adaptive:
            return axis.out
        rounded_up = -(-(axis.padded - axis.extent) // axis.stride) + 1
        starts_beyond = (rounded_up - 1) * axis.stride >= axis.size + axis.pad_lo
        return rounded_up - 1 if starts_beyond else rounded_up

    @cached_property
    def size(self) -> tuple[int, ...]:
        """Spatial extents of x."""
        return tuple(axis.size for axis in self.axes)

    @cached_property
    def filter(self) -> tuple[int, ...]:
        """Spatial extents of the window."""
        return tuple(axis.filter for axis in self.axes)

    @property
    def taps(self) -> int:
        """Elements of one window."""
        return prod(self.filter)

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x in its memory order."""
        return self.x.order.arrange(self.N, self.C, self.size)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of y (and of the indices) in memory order."""
        return self.x.order.arrange(self.N, self.C, self.out)

    @cached_property
    def flops(self) -> int:
        """One comparison or addition per element of the largest window."""
        return self.N * self.C * prod(self.out) * self.taps

    @cached_property
    def bytes(self) -> int:
        """Bytes of x, y and the indices, each touched once."""
        per_y = self.x.dtype.itemsize + 8 * self.indices
        return prod(self.x_shape) * self.x.dtype.itemsize + prod(self.y_shape) * per_y

    def __str__(self) -> str:
        return spell_pool(self)
