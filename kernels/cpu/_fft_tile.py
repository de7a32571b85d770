"""Tiles of real vectors and their spectra: transforms over one to three axes, in place.

A tile is ``[D][H][W/2 + 1][2][lanes]``. As an image, element w of a row is vector w, and the last
two vectors are unused; as a spectrum, element k is two vectors, a real and an imaginary part. A
row of W reals is transformed as W/2 complex numbers, even elements and odd ones, which
:func:`_split` turns into the W/2 + 1 that are not each other's conjugates (Cooley, Lewis, Welch
1970). Nothing is scaled: forwards and back multiplies by ``4 D H W`` once a product of two spectra
was taken in between.
"""

from __future__ import annotations

from convforge.kernels.cpu._fft_line import pack_line, pack_roots, root, transform_line, turn
from convforge.kernels.cpu._vector import load, store, vector_bytes
from convforge.problem import DType
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

_TILE = Layout("SpectralTile", "D H W line_d line_h line_w roots")
tile_view = _TILE.view
_TILE_BYTES = _TILE.nbytes


def pack_tile(shape: tuple[int, int, int], dtype: DType) -> bytes:
    """What the transforms read: the sizes, and a line of each axis; W is even."""
    D, H, W = shape
    line_d, line_h, line_w = (pack_line(n, dtype) for n in (D, H, W // 2))
    at_d = _TILE_BYTES
    at_h = at_d + len(line_d)
    at_w = at_h + len(line_h)
    at_roots = at_w + len(line_w)
    head = _TILE.pack(D=D, H=H, W=W, line_d=at_d, line_h=at_h, line_w=at_w, roots=at_roots)
    return head + line_d + line_h + line_w + pack_roots(W, W // 4 + 1, dtype)


def frequencies(shape: tuple[int, int, int]) -> int:
    """Elements of the spectrum."""
    D, H, W = shape
    return D * H * (W // 2 + 1)


def tile_bytes(shape: tuple[int, int, int], vector: int) -> int:
    """Memory of a tile."""
    return frequencies(shape) * 2 * vector


def line_bytes(shape: tuple[int, int, int], vector: int) -> int:
    """Scratch that transforms need besides: two lines of the longest axis."""
    D, H, W = shape
    return 4 * max(D, H, W // 2) * vector


@device
def row_bytes(kind, t):
    """Distance of rows."""
    return (t.W // 2 + 1) * 2 * vector_bytes(kind)


@device
def _split(kind, t, roots, row, backwards):
    """Between the transform of W/2 complex numbers and that of the W reals they stand for.

    With E and O the transforms of the even and the odd elements, the one is ``E + i O`` and the
    other ``E + root O``; elements k and W/2 - k of both have the same ones, but for conjugation.
    """
    size, element = vector_bytes(kind), 2 * vector_bytes(kind)
    half = t.W // 2
    end = row + half * element
    if backwards:
        ar, br = load(kind, row), load(kind, end)
        store(row, ar + br)
        store(row + size, ar - br)
    else:
        ar, ai = load(kind, row), load(kind, row + size)
        sums, less = ar + ai, ar - ai
        store(row, sums + sums)
        store(row + size, ar - ar)
        store(end, less + less)
        store(end + size, ar - ar)
    for k in range(1, half // 2 + 1):
        low, high = row + k * element, end - k * element
        ar, ai = load(kind, low), load(kind, low + size)
        br, bi = load(kind, high), load(kind, high + size)
        er, ei = ar + br, ai - bi
        cosine, sine, minus_sine = root(kind, roots, k)
        if backwards:
            # O is the difference times the conjugate root; i O is what is wanted.
            pr, pi = turn(ar - br, ai + bi, (cosine, minus_sine, sine))
            store(low, er - pi)
            store(low + size, ei + pr)
            store(high, er + pi)
            store(high + size, pr - ei)
        else:
            pr, pi = turn(ai + bi, br - ar, (cosine, sine, minus_sine))
            store(low, er + pr)
            store(low + size, ei + pi)
            store(high, er - pr)
            store(high + size, pi - ei)


@device
def forwards(kind, tile, address, first_d, last_d, first_h, last_h, scratch):
    """Image to spectrum; rows outside ``first`` to ``last`` (exclusive) hold zeros."""
    t = tile_view(tile)
    row = row_bytes(kind, t)
    for d in range(first_d, last_d):
        plane = address + d * t.H * row
        for h in range(first_h, last_h):
            line = plane + h * row
            transform_line(kind, tile + t.line_w, line, 2 * vector_bytes(kind), 0, scratch)
            _split(kind, t, tile + t.roots, line, 0)
        if t.H > 1:
            for k in range(t.W // 2 + 1):
                line = plane + k * 2 * vector_bytes(kind)
                transform_line(kind, tile + t.line_h, line, row, 0, scratch)
    if t.D > 1:
        for k in range(t.H * (t.W // 2 + 1)):
            line = address + k * 2 * vector_bytes(kind)
            transform_line(kind, tile + t.line_d, line, t.H * row, 0, scratch)


@device
def backwards_columns(kind, tile, address, last_d, scratch):
    """All axes of a spectrum but the rows; planes from ``last_d`` on are left unfinished."""
    t = tile_view(tile)
    row = row_bytes(kind, t)
    if t.D > 1:
        for k in range(t.H * (t.W // 2 + 1)):
            line = address + k * 2 * vector_bytes(kind)
            transform_line(kind, tile + t.line_d, line, t.H * row, 1, scratch)
    if t.H > 1:
        for d in range(last_d):
            for k in range(t.W // 2 + 1):
                line = address + d * t.H * row + k * 2 * vector_bytes(kind)
                transform_line(kind, tile + t.line_h, line, row, 1, scratch)


@device
def backwards_row(kind, tile, line, scratch):
    """The last axis of one row."""
    t = tile_view(tile)
    _split(kind, t, tile + t.roots, line, 1)
    transform_line(kind, tile + t.line_w, line, 2 * vector_bytes(kind), 1, scratch)
