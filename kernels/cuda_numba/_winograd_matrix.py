"""Code for a small constant matrix on both sides of a square that a thread holds in registers.

To look up entries of a matrix takes memory, and Numba unrolls no loop over constants. So the
products are written out: as Python, which Numba compiles like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from convforge.kernels._winograd import Matrix
from convforge.kernels.cuda_numba._element import inlined

_NUMPY = {"f32": np.float32, "f64": np.float64}


def both_sides(matrix: Matrix, acc: str) -> Callable[[Any, Any], None]:
    """``transform(source, target)``: ``target = matrix @ source @ matrix.T``.

    Both are arrays in registers, row by row: source has as many rows and columns as the matrix has
    columns, target as many as it has rows. Sums are taken in the order of the columns.
    """
    rows, columns = len(matrix), len(matrix[0])
    constants: dict[str, Any] = {}

    def times(coefficient: Fraction, factor: str) -> str:
        if abs(coefficient) == 1:
            return factor if coefficient > 0 else f"-{factor}"
        name = f"c{coefficient.numerator}_{coefficient.denominator}".replace("-", "n")
        constants[name] = _NUMPY[acc](float(coefficient))
        return f"{name} * {factor}"

    def combination(row: int, factors: list[str]) -> str:
        entries = zip(matrix[row], factors, strict=True)
        return " + ".join(times(entry, factor) for entry, factor in entries if entry)

    lines = ["def transform(source, target):"]
    for j in range(columns):
        column = [f"s{i}" for i in range(columns)]
        lines += [f"{name} = source[{i * columns + j}]" for i, name in enumerate(column)]
        lines += [f"m{i}_{j} = {combination(i, column)}" for i in range(rows)]
    for i in range(rows):
        row = [f"m{i}_{j}" for j in range(columns)]
        lines += [f"target[{i * rows + j}] = {combination(j, row)}" for j in range(rows)]
    exec("\n    ".join(lines), constants)
    return inlined(constants["transform"])
