"""Code for a small constant matrix times vectors, with what zeros, ones and symmetries save.

Of two points p and -p, the even and the odd part are computed once, and added and subtracted.
"""

from __future__ import annotations

from fractions import Fraction

from llvmlite import ir

from convforge.kernels._winograd import Matrix
from convforge.kernels.cpu._ir import constant, load_vector, multiply_add


def load_square(builder, kind, source, size, row_bytes, column_bytes):
    """A square of vectors."""
    square = []
    for i in range(size):
        start = builder.add(source, builder.mul(row_bytes, constant(i)))
        places = [builder.add(start, builder.mul(column_bytes, constant(j))) for j in range(size)]
        square.append([load_vector(builder, place, kind) for place in places])
    return square


def both_sides(builder, kind, matrix: Matrix, square):
    """``matrix @ square @ matrix.T``: columns first, then rows."""
    columns = [_apply(builder, kind, matrix, column) for column in zip(*square, strict=True)]
    return [_apply(builder, kind, matrix, row) for row in zip(*columns, strict=True)]


def _apply(builder, kind, matrix: Matrix, vectors):
    """``matrix @ vectors``."""
    matrix, vectors = _pair_columns(builder, matrix, list(vectors))
    done = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if done[i] is not None:
            continue
        j, even, odd = _mirrored(matrix, i)
        if j is None:
            done[i] = _combine(builder, kind, row, vectors)
            continue
        # The odd part, divided by a coefficient of its own, is multiplied while it is added.
        factor = next(entry for entry in reversed(odd) if entry)
        part = _combine(builder, kind, tuple(entry / factor for entry in odd), vectors)
        base = _combine(builder, kind, even, vectors)
        done[i] = _add_multiple(builder, kind, base, factor, part)
        done[j] = _add_multiple(builder, kind, base, -factor, part)
    return done


def _pair_columns(builder, matrix: Matrix, vectors):
    """Replace two vectors by sum and difference where every row takes them alike or opposite."""
    columns = list(zip(*matrix, strict=True))
    for u in range(len(columns)):
        for v in range(u + 1, len(columns)):
            pairs = list(zip(columns[u], columns[v], strict=True))
            if sum(a != 0 for a, _ in pairs) < 2 or not all(abs(a) == abs(b) for a, b in pairs):
                continue
            if all(a == b for a, b in pairs):
                continue
            a, b = vectors[u], vectors[v]
            vectors[u], vectors[v] = builder.fadd(a, b), builder.fsub(a, b)
            columns[u] = tuple(a if a == b else Fraction(0) for a, b in pairs)
            columns[v] = tuple(a if a != b else Fraction(0) for a, b in pairs)
            break
    return tuple(zip(*columns, strict=True)), vectors


def _mirrored(matrix: Matrix, i: int):
    """A later row that is this one with the signs of some entries turned: which, and the parts."""
    for j in range(i + 1, len(matrix)):
        pairs = list(zip(matrix[i], matrix[j], strict=True))
        even = tuple((a + b) / 2 for a, b in pairs)
        odd = tuple((a - b) / 2 for a, b in pairs)
        if any(even) and any(odd) and not any(a and b for a, b in zip(even, odd, strict=True)):
            return j, even, odd
    return None, None, None


def _combine(builder, kind, row, vectors):
    """Sum of multiples; vectors that are added as they are come first."""
    terms = [(entry, vector) for entry, vector in zip(row, vectors, strict=True) if entry]
    terms.sort(key=lambda term: (abs(term[0]) != 1, term[0] < 0))
    (entry, total), *others = terms
    total = scale(builder, kind, entry, total)
    for entry, vector in others:
        total = _add_multiple(builder, kind, total, entry, vector)
    return total


def _add_multiple(builder, kind, base, factor, vector):
    """``base + factor * vector``."""
    if factor == 1:
        return builder.fadd(base, vector)
    if factor == -1:
        return builder.fsub(base, vector)
    return multiply_add(builder, _repeat(kind, factor), vector, base)


def scale(builder, kind, factor, vector):
    """``factor * vector``."""
    return vector if factor == 1 else builder.fmul(_repeat(kind, factor), vector)


def _repeat(kind, factor):
    """A vector constant."""
    return ir.Constant(kind.vector.llvm, [float(factor)] * kind.lanes)
