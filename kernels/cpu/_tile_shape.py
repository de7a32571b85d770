"""Which register tile a problem gets: rows of pixels by vectors of channels."""

from __future__ import annotations

from convforge.contract import Machine

SHAPES = {
    # isa: (rows, columns): as many accumulators as leave registers for a row of B and a splat.
    # The first is preferred: each other one that a program meets is compiled as well.
    "avx512": ((14, 2), (13, 2), (10, 2), (8, 3), (24, 1)),
    "avx2": ((6, 2), (4, 3), (12, 1)),
    "neon": ((8, 3), (12, 2), (24, 1)),
    "plain": ((6, 2), (4, 3), (12, 1)),
}
FEW_ROWS = {"avx512": (2, 8), "avx2": (2, 5), "neon": (2, 8), "plain": (2, 5)}
"""For a pixel or two, as a linear layer has of one image: weights stream through it, and with more
rows it would rather multiply by pixels that there are not than wait for them."""
_MOST_FEW = 2
_WORTH_COMPILING, _WORTH_FLOPS = 0.95, 5e5
"""Share of the preferred tile's work, and work, that another one must save: a layer of some
microseconds is not worth a second of compilation."""
_SET_BYTES = 4096
"""Memory this far apart shares one set of the L1, which has a way for each so many bytes."""
_WAYS_FOR_WEIGHTS = 2
"""Of a set, for what streams past the rows' lines until all of these have been read. Where no tile
has so few rows, in an L1 of 8 ways on AVX-512, the one with the fewest serves."""
_ONE_COLUMN_RATE = 0.87
"""A one-column tile loads a splat per FMA; the share of the peak that the choice assumes."""


def choose_shape(
    machine: Machine, itemsize: int, gemm_m: int, gemm_n: int, gemm_k: int, apart: int = 0
) -> tuple[int, int]:
    """Rows and columns that waste the least of the tile.

    Args:
        gemm_m, gemm_n: Pixels and channels, rounded up to the tile.
        gemm_k: Products summed for each of them, over all groups.
        apart: Bytes from a row of the tile to the next, in memory that it reads in place.
    """
    lanes = machine.vector_bytes // itemsize

    def cost(shape: tuple[int, int]) -> float:
        rows, columns = shape
        width = columns * lanes
        work = -(-gemm_m // rows) * rows * -(-gemm_n // width) * width
        return work / (_ONE_COLUMN_RATE if columns == 1 else 1.0)

    shapes = SHAPES[machine.isa]
    if apart and apart % _SET_BYTES == 0:
        most = machine.l1_bytes // _SET_BYTES - _WAYS_FOR_WEIGHTS
        shapes = tuple(shape for shape in shapes if shape[0] <= most) or (min(shapes),)
    preferred, *others = shapes
    if gemm_m <= _MOST_FEW:
        others.append(FEW_ROWS[machine.isa])
    best = min(others, key=cost, default=preferred)
    saved = cost(preferred) - cost(best)
    worth = max((1 - _WORTH_COMPILING) * cost(preferred), _WORTH_FLOPS / (2 * max(gemm_k, 1)))
    return best if saved > worth else preferred
