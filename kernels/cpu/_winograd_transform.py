"""Winograd's three transforms on vectors of channels, emitted from their matrices.

A matrix is multiplied by a column of vectors with what its zeros, ones and symmetries save: of two
points p and -p, the even and the odd part are computed once, and added and subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from convforge.kernels._winograd import Matrix, Transforms, strided
from convforge.kernels.cpu._ir import constant, load_vector, multiply_add, store_vector
from convforge.kernels.cpu._tile import Tile, TileType
from convforge.kernels.cpu._vector import KindType, Vector

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
        """Products of a window along an axis, which are as many as its pixels."""
        return self.stride * (self.m - 1) + TAPS

    @property
    def reach(self) -> int:
        """Pixels from a window to the next."""
        return self.stride * self.m

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


class TransformType(KindType):
    """Numba type of vectors with transforms."""

    def __init__(self, element: str, minimal: Minimal):
        super().__init__(element, f"Transform[{element},{minimal}]")
        self.minimal, self.matrices = minimal, minimal.matrices


class WinogradType(TileType):
    """Numba type of a register tile with transforms."""

    def __init__(self, element: str, rows: int, columns: int, minimal: Minimal):
        super().__init__(element, rows, columns)
        self.minimal, self.matrices = minimal, minimal.matrices
        self.name = f"Winograd[{element},{rows},{columns},{minimal}]"


register_model(TransformType)(models.OpaqueModel)
register_model(WinogradType)(models.OpaqueModel)


class Transform(Vector):
    """Kind of vectors with transforms."""

    def __init__(self, element: str, minimal: Minimal):
        self._numba_type_ = TransformType(element, minimal)
        self.minimal = minimal


class Winograd(Tile):
    """Configuration of a tile whose rows are windows."""

    def __init__(self, element: str, rows: int, columns: int, minimal: Minimal):
        super().__init__(element, rows, columns)
        self._numba_type_ = WinogradType(element, rows, columns, minimal)
        self.minimal = minimal


@intrinsic
def outputs(context, kind):
    """Outputs of a window along one axis: m of F(m, 3)."""

    def codegen(context, builder, signature, args):
        return constant(kind.minimal.m)

    return types.int64(kind), codegen


@intrinsic
def side(context, kind):
    """Products, and pixels, of a window along one axis."""

    def codegen(context, builder, signature, args):
        return constant(kind.minimal.side)

    return types.int64(kind), codegen


@intrinsic
def reach(context, kind):
    """Pixels from a window to the next."""

    def codegen(context, builder, signature, args):
        return constant(kind.minimal.reach)

    return types.int64(kind), codegen


@intrinsic
def transform_input(context, kind, source, row_bytes, pixel_bytes, target, plane_bytes):
    """``B^T d B`` of a window of pixels; its elements go to planes."""

    def codegen(context, builder, signature, args):
        _, source, row_bytes, pixel_bytes, target, plane_bytes = args
        matrix = kind.matrices.input
        window = _load(builder, kind, source, len(matrix), row_bytes, pixel_bytes)
        done = _both_sides(builder, kind, matrix, window)
        for i, row in enumerate(done):
            for j, vector in enumerate(row):
                plane = builder.mul(plane_bytes, constant(i * len(matrix) + j))
                store_vector(builder, vector, builder.add(target, plane), kind.vector.itemsize)
        return context.get_dummy_value()

    return types.void(kind, *[types.int64] * 5), codegen


@intrinsic
def transform_weights(context, kind, source, tap_bytes, target, plane_bytes):
    """``G g G^T`` of a filter whose taps lie apart; its elements go to planes.

    Each row of G is a simple one times a fraction, which multiplies once, at the end.
    """

    def codegen(context, builder, signature, args):
        _, source, tap_bytes, target, plane_bytes = args
        scales = [next(entry for entry in row if entry) for row in kind.matrices.weights]
        simple = tuple(
            tuple(entry / scale for entry in row)
            for row, scale in zip(kind.matrices.weights, scales, strict=True)
        )
        row_bytes = builder.mul(tap_bytes, constant(TAPS))
        taps = _load(builder, kind, source, TAPS, row_bytes, tap_bytes)
        for i, row in enumerate(_both_sides(builder, kind, simple, taps)):
            for j, vector in enumerate(row):
                scaled = _scale(builder, kind, scales[i] * scales[j], vector)
                plane = builder.mul(plane_bytes, constant(i * len(scales) + j))
                store_vector(builder, scaled, builder.add(target, plane), kind.vector.itemsize)
        return context.get_dummy_value()

    return types.void(kind, *[types.int64] * 4), codegen


@intrinsic
def transform_output(
    context, kind, source, plane_bytes, bias, low, high, target, row_bytes, pixel_bytes
):
    """``A^T M A`` plus a bias, clamped: sums from their planes to a window of outputs.

    Clamping keeps a NaN.
    """

    def codegen(context, builder, signature, args):
        _, source, plane_bytes, bias, low, high, target, row_bytes, pixel_bytes = args
        matrix = kind.matrices.output
        size = len(matrix[0])
        line_bytes = builder.mul(plane_bytes, constant(size))
        planes = _load(builder, kind, source, size, line_bytes, plane_bytes)
        for i, row in enumerate(_both_sides(builder, kind, matrix, planes)):
            for j, vector in enumerate(row):
                value = builder.fadd(vector, bias)
                value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
                value = builder.select(builder.fcmp_ordered("<", high, value), high, value)
                place = builder.add(target, builder.mul(row_bytes, constant(i)))
                place = builder.add(place, builder.mul(pixel_bytes, constant(j)))
                store_vector(builder, value, place, kind.vector.itemsize)
        return context.get_dummy_value()

    vectors = [kind.vector] * 3
    places = [types.int64] * 3
    return types.void(kind, types.int64, types.int64, *vectors, *places), codegen


def _load(builder, kind, source, size, row_bytes, column_bytes):
    """A square of vectors."""
    square = []
    for i in range(size):
        start = builder.add(source, builder.mul(row_bytes, constant(i)))
        places = [builder.add(start, builder.mul(column_bytes, constant(j))) for j in range(size)]
        square.append([load_vector(builder, place, kind) for place in places])
    return square


def _both_sides(builder, kind, matrix: Matrix, square):
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
    total = _scale(builder, kind, entry, total)
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


def _scale(builder, kind, factor, vector):
    """``factor * vector``."""
    return vector if factor == 1 else builder.fmul(_repeat(kind, factor), vector)


def _repeat(kind, factor):
    """A vector constant."""
    return ir.Constant(kind.vector.llvm, [float(factor)] * kind.lanes)
