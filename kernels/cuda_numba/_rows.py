"""What the kernels of depthwise layers have in common: columns of pixels, unrolled filter rows."""

from __future__ import annotations

from dataclasses import dataclass

from convforge.kernels.cuda_numba._element import Types

THREADS = 128
STRIP = 4
"""Outputs of a thread, one below the other: 6 rows of a 3x3 filter's input serve 4 rows of it."""
MOST_ROWS = 11
"""Of a filter: the loops over them are unrolled, and the weights of a column are in registers."""
MOST_STRIDE = 4
"""Of rows: more of them leave little that two outputs of a thread have in common."""


@dataclass(frozen=True, slots=True)
class RowsConfig(Types):
    """Rows of the filter and their stride besides the types: what the loops are unrolled for."""

    R: int
    stride_h: int
