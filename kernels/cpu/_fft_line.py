"""Fourier transforms of lines of complex vectors: every lane is a signal of its own.

An element of a line is two vectors, the real parts of as many signals as there are lanes and then
their imaginary parts, so a butterfly is plain vector arithmetic and no lane ever moves. Passes of
radix 2, 3, 4, 5 or 8 go back and forth between the line and a scratch line, and leave the result
in order (Stockham; Cochran et al. 1967, "What is the Fast Fourier Transform?").

Backwards is forwards with real and imaginary parts exchanged.
"""

from __future__ import annotations

import math
import struct
from functools import cache

from convforge.kernels.cpu._vector import (
    fma,
    itemsize,
    load,
    load_scalar,
    scalar,
    splat,
    store,
    vector_bytes,
)
from convforge.problem import DType
from convforge.runtime.args import Layout
from convforge.runtime.jit import device
from convforge.runtime.rawmem import load_word

_MOST_PASSES = 14
_LINE = Layout("Line", "length passes " + " ".join(f"radix{i}" for i in range(_MOST_PASSES)))
_line = _LINE.view
_LINE_BYTES = _LINE.nbytes
_HALF_ROOT = math.sqrt(0.5)
_SIN_60 = math.sqrt(0.75)
_COS_72, _SIN_72 = math.cos(0.4 * math.pi), math.sin(0.4 * math.pi)
_COS_144, _SIN_144 = math.cos(0.8 * math.pi), math.sin(0.8 * math.pi)


def radices(length: int) -> tuple[int, ...]:
    """The passes of a transform, in order.

    Raises:
        ValueError: A length with a prime factor above 5.
    """
    found = []
    for radix in (5, 3):
        while length % radix == 0:
            found.append(radix)
            length //= radix
    while length > 1:
        # 16 is 4 x 4: a pass of 8 and one of 2 move as much memory and compute more.
        fitting = (4,) if length in (4, 16) else (8, 4, 2)
        radix = next((r for r in fitting if length % r == 0), 0)
        if not radix:
            raise ValueError(f"{length} is left of a length: factors 2, 3 and 5 only")
        found.append(radix)
        length //= radix
    return tuple(found)


@cache
def pack_line(length: int, dtype: DType) -> bytes:
    """Length and passes of a line, and behind them its roots of unity."""
    passes = radices(length)
    fields = {f"radix{i}": passes[i] if i < len(passes) else 0 for i in range(_MOST_PASSES)}
    head = _LINE.pack(length=length, passes=len(passes), **fields)
    return head + pack_roots(length, length, dtype)


@cache
def pack_roots(length: int, count: int, dtype: DType) -> bytes:
    """The first ``count`` powers of ``exp(-2 pi i / length)``, real part first."""
    values = []
    for k in range(count):
        angle = 2 * math.pi * k / length
        values += [math.cos(angle), -math.sin(angle)]
    return struct.pack(f"={len(values)}{'f' if dtype is DType.F32 else 'd'}", *values)


@device
def root(kind, roots, k):
    """Power ``k`` from a table: its real part, its imaginary part, and that negated."""
    real = load_scalar(kind, roots + 2 * k * itemsize(kind))
    imaginary = load_scalar(kind, roots + (2 * k + 1) * itemsize(kind))
    return splat(kind, real), splat(kind, imaginary), splat(kind, -imaginary)


@device
def turn(real, imaginary, by):
    """A complex vector times a root."""
    cosine, sine, minus_sine = by
    turned = fma(imaginary, minus_sine, real * cosine)
    return turned, fma(imaginary, cosine, real * sine)


@device
def _turn_and_store(kind, place, parts, k, roots, power, real, imaginary):
    """Output ``k`` of a butterfly, turned unless its root is 1."""
    if power:
        real, imaginary = turn(real, imaginary, root(kind, roots, k * power))
    store(place + parts[0], real)
    store(place + parts[1], imaginary)


@device
def _fetch(kind, place, parts):
    return load(kind, place + parts[0]), load(kind, place + parts[1])


@device
def _two(kind, at, step, to, to_step, parts, roots, power):
    ar, ai = _fetch(kind, at, parts)
    br, bi = _fetch(kind, at + step, parts)
    _turn_and_store(kind, to, parts, 0, roots, 0, ar + br, ai + bi)
    _turn_and_store(kind, to + to_step, parts, 1, roots, power, ar - br, ai - bi)


@device
def _three(kind, at, step, to, to_step, parts, roots, power):
    ar, ai = _fetch(kind, at, parts)
    br, bi = _fetch(kind, at + step, parts)
    cr, ci = _fetch(kind, at + 2 * step, parts)
    sr, si = br + cr, bi + ci
    sine = splat(kind, scalar(kind, _SIN_60))
    dr, di = (br - cr) * sine, (bi - ci) * sine
    minus_half = splat(kind, scalar(kind, -0.5))
    mr, mi = fma(sr, minus_half, ar), fma(si, minus_half, ai)
    _turn_and_store(kind, to, parts, 0, roots, 0, ar + sr, ai + si)
    _turn_and_store(kind, to + to_step, parts, 1, roots, power, mr + di, mi - dr)
    _turn_and_store(kind, to + 2 * to_step, parts, 2, roots, power, mr - di, mi + dr)


@device
def _four(kind, at, step, to, to_step, parts, roots, power):
    ar, ai = _fetch(kind, at, parts)
    br, bi = _fetch(kind, at + step, parts)
    cr, ci = _fetch(kind, at + 2 * step, parts)
    dr, di = _fetch(kind, at + 3 * step, parts)
    er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
    gr, gi, hr, hi = br + dr, bi + di, br - dr, bi - di
    _turn_and_store(kind, to, parts, 0, roots, 0, er + gr, ei + gi)
    _turn_and_store(kind, to + to_step, parts, 1, roots, power, fr + hi, fi - hr)
    _turn_and_store(kind, to + 2 * to_step, parts, 2, roots, power, er - gr, ei - gi)
    _turn_and_store(kind, to + 3 * to_step, parts, 3, roots, power, fr - hi, fi + hr)


@device
def _five(kind, at, step, to, to_step, parts, roots, power):
    ar, ai = _fetch(kind, at, parts)
    br, bi = _fetch(kind, at + step, parts)
    cr, ci = _fetch(kind, at + 2 * step, parts)
    dr, di = _fetch(kind, at + 3 * step, parts)
    er, ei = _fetch(kind, at + 4 * step, parts)
    cos1, cos2 = splat(kind, scalar(kind, _COS_72)), splat(kind, scalar(kind, _COS_144))
    sin1, sin2 = splat(kind, scalar(kind, _SIN_72)), splat(kind, scalar(kind, _SIN_144))
    pr, pi, qr, qi = br + er, bi + ei, cr + dr, ci + di
    ur, ui, vr, vi = br - er, bi - ei, cr - dr, ci - di
    _turn_and_store(kind, to, parts, 0, roots, 0, ar + pr + qr, ai + pi + qi)
    mr, mi = fma(qr, cos2, fma(pr, cos1, ar)), fma(qi, cos2, fma(pi, cos1, ai))
    nr, ni = fma(vr, sin2, ur * sin1), fma(vi, sin2, ui * sin1)
    _turn_and_store(kind, to + to_step, parts, 1, roots, power, mr + ni, mi - nr)
    _turn_and_store(kind, to + 4 * to_step, parts, 4, roots, power, mr - ni, mi + nr)
    mr, mi = fma(qr, cos1, fma(pr, cos2, ar)), fma(qi, cos1, fma(pi, cos2, ai))
    nr, ni = ur * sin2 - vr * sin1, ui * sin2 - vi * sin1
    _turn_and_store(kind, to + 2 * to_step, parts, 2, roots, power, mr + ni, mi - nr)
    _turn_and_store(kind, to + 3 * to_step, parts, 3, roots, power, mr - ni, mi + nr)


@device
def _four_sums(kind, at, step, parts):
    """A butterfly of radix 4 whose outputs stay in registers."""
    ar, ai = _fetch(kind, at, parts)
    br, bi = _fetch(kind, at + step, parts)
    cr, ci = _fetch(kind, at + 2 * step, parts)
    dr, di = _fetch(kind, at + 3 * step, parts)
    er, ei, fr, fi = ar + cr, ai + ci, ar - cr, ai - ci
    gr, gi, hr, hi = br + dr, bi + di, br - dr, bi - di
    return er + gr, ei + gi, fr + hi, fi - hr, er - gr, ei - gi, fr - hi, fi + hr


@device
def _eight(kind, at, step, to, to_step, parts, roots, power):
    """Two of radix 4, of the even and of the odd elements, and four of radix 2."""
    odd = _four_sums(kind, at + step, 2 * step, parts)
    half = splat(kind, scalar(kind, _HALF_ROOT))
    # Times the eighth roots of unity: 1, (1 - i) / sqrt 2, -i, -(1 + i) / sqrt 2.
    br, bi = (odd[2] + odd[3]) * half, (odd[3] - odd[2]) * half
    dr, di = (odd[7] - odd[6]) * half, (odd[6] + odd[7]) * half
    even = _four_sums(kind, at, 2 * step, parts)
    _turn_and_store(kind, to, parts, 0, roots, 0, even[0] + odd[0], even[1] + odd[1])
    place = to + 4 * to_step
    _turn_and_store(kind, place, parts, 4, roots, power, even[0] - odd[0], even[1] - odd[1])
    place = to + to_step
    _turn_and_store(kind, place, parts, 1, roots, power, even[2] + br, even[3] + bi)
    place = to + 5 * to_step
    _turn_and_store(kind, place, parts, 5, roots, power, even[2] - br, even[3] - bi)
    place = to + 2 * to_step
    _turn_and_store(kind, place, parts, 2, roots, power, even[4] + odd[5], even[5] - odd[4])
    place = to + 6 * to_step
    _turn_and_store(kind, place, parts, 6, roots, power, even[4] - odd[5], even[5] + odd[4])
    place = to + 3 * to_step
    _turn_and_store(kind, place, parts, 3, roots, power, even[6] + dr, even[7] - di)
    place = to + 7 * to_step
    _turn_and_store(kind, place, parts, 7, roots, power, even[6] - dr, even[7] + di)


@device
def transform_line(kind, plan, line, step, backwards, scratch):
    """Transform a line in place, unscaled.

    Args:
        plan: Address of what :func:`pack_line` made.
        line: Address of element 0. step: Bytes from one element to the next.
        scratch: Room for two lines.
    """
    head = _line(plan)
    roots = plan + _LINE_BYTES
    element = 2 * vector_bytes(kind)
    parts = (vector_bytes(kind), 0) if backwards else (0, vector_bytes(kind))
    source, source_step = line, step
    left, done = head.length, 1
    for i in range(head.passes):
        radix = load_word(plan + 16 + 8 * i)
        last = i == head.passes - 1
        target = line if last else scratch + (i & 1) * head.length * element
        target_step = step if last else element
        left = left // radix
        far = done * left * source_step
        to_far = done * target_step
        for p in range(left):
            power = p * done
            for q in range(done):
                at = source + (q + done * p) * source_step
                to = target + (q + done * radix * p) * target_step
                if radix == 8:
                    _eight(kind, at, far, to, to_far, parts, roots, power)
                elif radix == 4:
                    _four(kind, at, far, to, to_far, parts, roots, power)
                elif radix == 2:
                    _two(kind, at, far, to, to_far, parts, roots, power)
                elif radix == 3:
                    _three(kind, at, far, to, to_far, parts, roots, power)
                else:
                    _five(kind, at, far, to, to_far, parts, roots, power)
        source, source_step = target, target_step
        done = done * radix
