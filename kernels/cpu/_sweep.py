"""A 3x3 filter swept over an image: nine weights and two unfinished sums stay in registers.

The sweep goes *along* one axis; three elements side by side *across* it are loaded once, end the
output that they are the last ones of, and go into the sums of the next ones. Channels first, along
is down the rows, and across are three loads that overlap. Lanes may be outside the image: ``edges``
are the lanes of each load that are not.
"""

from __future__ import annotations

from convforge.kernels.cpu._strip import strip_load, strip_put, strip_step
from convforge.kernels.cpu._vector import fma, load, vector_bytes, zeros
from convforge.runtime.jit import inlined


@inlined
def _load(strip, x, edges):
    """Three elements across."""
    return (
        strip_load(strip, x[0], edges[0], edges[1]),
        strip_load(strip, x[1], edges[2], edges[3]),
        strip_load(strip, x[2], edges[4], edges[5]),
    )


@inlined
def _load_near(strip, x, edges, at, extent):
    """As :func:`_load`; zeros where the place along is outside the image."""
    if 0 <= at < extent:
        return _load(strip, x, edges)
    return zeros(strip), zeros(strip), zeros(strip)


@inlined
def _three(strip, w):
    """Weights of one place along."""
    vector = vector_bytes(strip)
    return load(strip, w), load(strip, w + vector), load(strip, w + 2 * vector)


@inlined
def _dot(w, x):
    return fma(w[2], x[2], fma(w[1], x[1], w[0] * x[0]))


@inlined
def _add(w, x, total):
    return fma(w[2], x[2], fma(w[1], x[1], fma(w[0], x[0], total)))


@inlined
def _on(x, step):
    return x[0] + step, x[1] + step, x[2] + step


@inlined
def sweep(strip, w, x, step, edges, at, extent, y, y_step, count, width):
    """``count`` outputs along, the first of which begins with place ``at``.

    Args:
        w: Address of nine vectors, place by place.
        x: Addresses of place ``at``, even where it is outside. step: Bytes to the next place.
        edges: First lane and the one behind the last, for each of x.
        extent: Places of the image. y: Address of the first output. width: Lanes of it.
    """
    row = 3 * vector_bytes(strip)
    begin, middle, end = _three(strip, w), _three(strip, w + row), _three(strip, w + 2 * row)
    first = _dot(begin, _load_near(strip, x, edges, at, extent))
    x = _on(x, step)
    if strip_step(strip) == 1:
        u = _load_near(strip, x, edges, at + 1, extent)
        first, second = _add(middle, u, first), _dot(begin, u)
        x = _on(x, step)
        inside = max(min(count, extent - at - 2), 0)
        for _ in range(inside):
            u = _load(strip, x, edges)
            strip_put(strip, y, _add(end, u, first), width)
            first, second = _add(middle, u, second), _dot(begin, u)
            x = _on(x, step)
            y += y_step
        for _ in range(inside, count):
            strip_put(strip, y, first, width)
            first, second = second, zeros(strip)
            y += y_step
        return
    # With stride 2, neighbouring outputs share one place.
    inside = max(min(count, (extent - at - 1) >> 1), 0) if at + 1 >= 0 else 0
    for _ in range(inside):
        first = _add(middle, _load(strip, x, edges), first)
        x = _on(x, step)
        u = _load(strip, x, edges)
        strip_put(strip, y, _add(end, u, first), width)
        first = _dot(begin, u)
        x = _on(x, step)
        y += y_step
    for i in range(inside, count):
        first = _add(middle, _load_near(strip, x, edges, at + 2 * i + 1, extent), first)
        x = _on(x, step)
        u = _load_near(strip, x, edges, at + 2 * i + 2, extent)
        strip_put(strip, y, _add(end, u, first), width)
        first = _dot(begin, u)
        x = _on(x, step)
        y += y_step
