"""Convolution: one description for its three directions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from convforge.problem.geometry import MOST_ELEMENTS, Axis, Operand
from convforge.problem.spell import spell_conv
from convforge.problem.words import SIZE_NAMES, Direction, DType, PostOp


@dataclass(frozen=True, kw_only=True)
class ConvProblem:
    """A convolution in one of its three directions, for one to three spatial axes.

    Attributes:
        direction: fprop writes y, dgrad writes x, wgrad writes w.
        N: Images. C: Input channels. K: Output channels.
        groups: Channel groups; divides C and K.
        axes: One :class:`Axis` per spatial dimension, outermost first (D, H, W).
        x: Images, logically ``(N, C, H, W)``. w: Filters, ``(K, C // groups, R, S)``.
            y: Results, ``(N, K, P, Q)``.
        acc: Type in which products are summed.
        accumulate: Add to what the output holds instead of overwriting it.
        post: Ops applied to the sum, in order; fprop and dgrad only.

    Raises:
        ValueError: A size, or a combination of sizes, that describes no convolution.
    """

    direction: Direction = Direction.FPROP
    N: int
    C: int
    K: int
    groups: int = 1
    axes: tuple[Axis, ...]
    x: Operand = Operand()
    w: Operand = Operand()
    y: Operand = Operand()
    acc: DType = DType.F32
    accumulate: bool = False
    post: tuple[PostOp, ...] = ()

    def __post_init__(self) -> None:
        if len(self.axes) not in SIZE_NAMES:
            raise ValueError(f"{len(self.axes)} spatial axes; wanted 1, 2 or 3")
        for name in "NCK":
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.groups < 1:
            raise ValueError(f"groups is {self.groups}; it must be at least 1")
        if self.C % self.groups or self.K % self.groups:
            raise ValueError(
                f"groups={self.groups} must divide both the input channels C={self.C} and the "
                f"output channels K={self.K}"
            )
        for name, axis in zip(SIZE_NAMES[self.rank], self.axes, strict=True):
            axis.check(name)
            if axis.windows is not None:
                raise ValueError(f"axis {name} is adaptive, which only pooling's are")
        if len(set(self.post)) != len(self.post):
            raise ValueError(f"post ops {'+'.join(self.post)} repeat an op")
        if self.post and self.direction is Direction.WGRAD:
            raise ValueError(f"wgrad takes no post ops, got {'+'.join(self.post)}")
        if max(prod(shape) for shape in (self.x_shape, self.w_shape, self.y_shape)) > MOST_ELEMENTS:
            raise ValueError(f"an operand has more than {MOST_ELEMENTS} elements: {self}")

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.axes)

    @cached_property
    def out(self) -> tuple[int, ...]:
        """Spatial extents of y: (P, Q) for images."""
        return tuple(axis.out for axis in self.axes)

    @cached_property
    def size(self) -> tuple[int, ...]:
        """Spatial extents of x: (H, W) for images."""
        return tuple(axis.size for axis in self.axes)

    @cached_property
    def filter(self) -> tuple[int, ...]:
        """Spatial extents of w: (R, S) for images."""
        return tuple(axis.filter for axis in self.axes)

    @property
    def taps(self) -> int:
        """Spatial filter positions, R * S."""
        return prod(self.filter)

    @property
    def group_C(self) -> int:
        """Input channels of one group."""
        return self.C // self.groups

    @property
    def group_K(self) -> int:
        """Output channels of one group."""
        return self.K // self.groups

    @cached_property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x in its memory order."""
        return self.x.order.arrange(self.N, self.C, self.size)

    @cached_property
    def w_shape(self) -> tuple[int, ...]:
        """Shape of w in its memory order."""
        return self.w.order.arrange(self.K, self.group_C, self.filter)

    @cached_property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of y in its memory order."""
        return self.y.order.arrange(self.N, self.K, self.out)

    @cached_property
    def flops(self) -> int:
        """Multiplications and additions of the direct form, two per product."""
        return 2 * self.N * self.K * prod(self.out) * self.group_C * self.taps

    @cached_property
    def bytes(self) -> int:
        """Bytes of x, w and y, each touched once."""
        return sum(
            prod(shape) * operand.dtype.itemsize
            for shape, operand in (
                (self.x_shape, self.x),
                (self.w_shape, self.w),
                (self.y_shape, self.y),
            )
        )

    def __str__(self) -> str:
        return spell_conv(self)
