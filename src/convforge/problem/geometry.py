"""One spatial axis, and the class of memory of one operand."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from convforge.problem.words import DType, Order, PadMode

LARGEST = 1 << 40
"""Largest extent of an axis: products of two still fit an int64."""
MOST_ELEMENTS = 1 << 58
"""Most elements of an operand: its bytes still fit an int64."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One spatial axis. ``size`` is the extent of the fprop input in every direction.

    Keeping the input's extent (and not the output's) means that dgrad, and with it transposed
    convolution, needs no ``output_padding``.

    Attributes:
        pad_mode: What lies around the image; zeros, whatever was said, where nothing does.
        windows: Of an axis that adaptive pooling cuts up, how many windows; see :meth:`adaptive`.
    """

    size: int
    filter: int
    stride: int = 1
    dilation: int = 1
    pad_lo: int = 0
    pad_hi: int = 0
    pad_mode: PadMode = PadMode.ZEROS
    windows: int | None = None

    def __post_init__(self) -> None:
        # A gradient pads what it reads although the image has no border: no mode may reach it.
        if self.pad_mode is not PadMode.ZEROS and not (self.pad_lo or self.pad_hi):
            object.__setattr__(self, "pad_mode", PadMode.ZEROS)

    @classmethod
    def adaptive(cls, size: int, windows: int) -> Axis:
        """An axis cut into windows of nearly equal extent, for pooling.

        Window ``i`` holds the positions from ``floor(i * size / windows)`` to
        ``ceil((i + 1) * size / windows)``; ``filter`` is the extent of the largest.
        """
        if size < 1 or windows < 1:
            return cls(size=size, filter=1, windows=windows)  # check says what is wrong
        rest = size % windows // gcd(size, windows)
        return cls(size=size, filter=size // windows + min(rest, 2), windows=windows)

    @property
    def extent(self) -> int:
        """Input elements that one dilated filter spans."""
        return self.dilation * (self.filter - 1) + 1

    @property
    def padded(self) -> int:
        """Input extent with its padding."""
        return self.size + self.pad_lo + self.pad_hi

    @property
    def out(self) -> int:
        """Output extent: ``floor((padded - extent) / stride) + 1``, or the given windows."""
        if self.windows is not None:
            return self.windows
        return (self.padded - self.extent) // self.stride + 1

    def check(self, name: str) -> None:
        """Raise ``ValueError`` unless this axis describes at least one output element."""
        if self.windows is not None and self.windows < 1:
            raise ValueError(f"windows of axis {name} is {self.windows}; it must be at least 1")
        if self.windows is not None and self.size < 1:
            raise ValueError(f"size of axis {name} is {self.size}; pooling needs at least 1")
        for field in ("size", "filter", "stride", "dilation", "pad_lo", "pad_hi", "windows"):
            if (getattr(self, field) or 0) > LARGEST:
                raise ValueError(
                    f"{field} of axis {name} is {getattr(self, field)}; nothing beyond {LARGEST} "
                    "fits into a memory"
                )
        for field, least in (("filter", 1), ("stride", 1), ("dilation", 1), ("size", 0)):
            value = getattr(self, field)
            if value < least:
                raise ValueError(f"{field} of axis {name} is {value}; it must be at least {least}")
        if self.pad_lo < 0 or self.pad_hi < 0:
            raise ValueError(
                f"padding of axis {name} is ({self.pad_lo}, {self.pad_hi}); it must not be "
                "negative: slice the input instead"
            )
        if self.padded < self.extent:
            raise ValueError(
                f"the filter is larger than the padded input on axis {name}: it spans "
                f"{self.extent} (filter {self.filter}, dilation {self.dilation}), the input has "
                f"{self.padded} ({self.size} + padding {self.pad_lo} + {self.pad_hi})"
            )
        if self.windows is not None and self != Axis.adaptive(self.size, self.windows):
            raise ValueError(
                f"axis {name} is cut into {self.windows} adaptive windows, which leaves no choice "
                f"of filter, stride, dilation and padding; wanted Axis.adaptive({self.size}, "
                f"{self.windows})"
            )
        widest = max(self.pad_lo, self.pad_hi)
        if self.pad_mode is PadMode.REFLECT and widest >= max(self.size, 1):
            raise ValueError(
                f"reflect padding {widest} on axis {name} must be smaller than its size {self.size}"
            )
        if self.pad_mode is PadMode.REPLICATE and widest and not self.size:
            raise ValueError(
                f"replicate padding {widest} on axis {name} has no element to repeat: its size is 0"
            )
        if self.pad_mode is PadMode.CIRCULAR and widest > self.size:
            raise ValueError(
                f"circular padding {widest} on axis {name} must not exceed its size {self.size}"
            )


@dataclass(frozen=True, kw_only=True)
class Operand:
    """Class of memory of one array; pointers arrive at launch.

    Arrays are dense in ``order``. A kernel may assume ``align`` bytes of alignment; 0 promises
    no more than the element's own.
    """

    dtype: DType = DType.F32
    order: Order = Order.CHANNELS_FIRST
    align: int = 0
