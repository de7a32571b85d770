"""Winograd's transforms on vectors of channels, emitted from their matrices."""

from __future__ import annotations

from numba.core import types
from numba.extending import intrinsic

from convforge.kernels.cpu._ir import constant, store_vector
from convforge.kernels.cpu._tile import Tile, TileType
from convforge.kernels.cpu._vector import KindType, Vector
from convforge.kernels.cpu._winograd_emit import both_sides, load_square, scale
from convforge.kernels.cpu._winograd_minimal import TAPS, Gradient, Interleaved, Minimal


class TransformType(KindType):
    """Numba type of vectors with transforms."""

    def __init__(self, element: str, minimal: Minimal | Interleaved | Gradient):
        super().__init__(element, f"Transform[{element},{minimal}]")
        self.minimal, self.matrices = minimal, minimal.matrices


class WinogradType(TileType):
    """Numba type of a register tile with transforms."""

    def __init__(self, element: str, rows: int, columns: int, minimal: Minimal | Interleaved):
        super().__init__(element, rows, columns)
        self.minimal, self.matrices = minimal, minimal.matrices
        self.name = f"Winograd[{element},{rows},{columns},{minimal}]"


class Transform(Vector):
    """Kind of vectors with transforms."""

    def __init__(self, element: str, minimal: Minimal | Interleaved | Gradient):
        self._numba_type_ = TransformType(element, minimal)
        self.minimal = minimal


class Winograd(Tile):
    """Configuration of a tile whose rows are windows."""

    def __init__(self, element: str, rows: int, columns: int, minimal: Minimal | Interleaved):
        super().__init__(element, rows, columns)
        self._numba_type_ = WinogradType(element, rows, columns, minimal)
        self.minimal = minimal


@intrinsic
def transform_of(context, tile):
    """The kind of a tile's transforms, whatever its rows and columns."""
    transform = TransformType(tile.element, tile.minimal)

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return transform(tile), codegen


@intrinsic
def outputs(context, kind):
    """Outputs of a window along one axis: m of F(m, 3)."""

    def codegen(context, builder, signature, args):
        return constant(kind.minimal.m)

    return types.int64(kind), codegen


@intrinsic
def side(context, kind):
    """Products of a window along one axis."""

    def codegen(context, builder, signature, args):
        return constant(kind.minimal.side)

    return types.int64(kind), codegen


@intrinsic
def window_side(context, kind):
    """Pixels of a window along one axis."""

    def codegen(context, builder, signature, args):
        return constant(kind.minimal.window)

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
        window = load_square(builder, kind, source, len(matrix[0]), row_bytes, pixel_bytes)
        done = both_sides(builder, kind, matrix, window)
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
        taps = load_square(builder, kind, source, TAPS, row_bytes, tap_bytes)
        for i, row in enumerate(both_sides(builder, kind, simple, taps)):
            for j, vector in enumerate(row):
                scaled = scale(builder, kind, scales[i] * scales[j], vector)
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
        planes = load_square(builder, kind, source, size, line_bytes, plane_bytes)
        for i, row in enumerate(both_sides(builder, kind, matrix, planes)):
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
