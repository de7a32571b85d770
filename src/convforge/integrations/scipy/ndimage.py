"""Filters of :mod:`scipy.ndimage`: results as large as the image, and its choice of borders.

Source: https://docs.scipy.org/doc/scipy/reference/ndimage.html . Floating-point images are
computed in their own type, which SciPy widens to float64; integer images in float64, as there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array, as_numpy, home_of
from convforge.integrations.scipy.common import correlate as correlate_padded
from convforge.integrations.scipy.common import flip

# SciPy's name of a border: NumPy's, and the kernels' where they read it without a copy.
_MODES = {
    "reflect": ("symmetric", None),
    "grid-mirror": ("symmetric", None),
    "mirror": ("reflect", "reflect"),
    "nearest": ("edge", "replicate"),
    "wrap": ("wrap", "circular"),
    "grid-wrap": ("wrap", "circular"),
    "constant": ("constant", "zeros"),
    "grid-constant": ("constant", "zeros"),
}


def correlate(
    input: Any, weights: Any, output: Any = None, mode: str = "reflect", cval: Any = 0.0,
    origin: Any = 0,
) -> Any:  # fmt: skip
    """:func:`scipy.ndimage.correlate`: each element's neighbours times the weights.

    Args:
        input: An image of one to three axes.
        weights: An array of as many axes; its middle is element ``n // 2`` of each.
        output: A type, or an array to write to; the type of ``input`` by default.
        mode: The border: ``"reflect"`` repeats the edge (also ``"grid-mirror"``), ``"mirror"``
            does not, ``"nearest"`` is the edge, ``"wrap"`` the image again, ``"constant"`` a
            number.
        cval: The number.
        origin: How far the middle of the weights is off, one integer or one for each axis.

    Returns:
        ``output``, or an array of the kind and shape of ``input``.

    Raises:
        TypeError, ValueError: Not such arrays, an unknown mode, an origin beyond the weights.
    """
    return _filter(input, weights, output, mode, cval, origin, turn=False)


def convolve(
    input: Any, weights: Any, output: Any = None, mode: str = "reflect", cval: Any = 0.0,
    origin: Any = 0,
) -> Any:  # fmt: skip
    """:func:`scipy.ndimage.convolve`: :func:`correlate` with the weights turned around."""
    return _filter(input, weights, output, mode, cval, origin, turn=True)


def correlate1d(
    input: Any, weights: Any, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: Any = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """:func:`scipy.ndimage.correlate1d`: :func:`correlate` along one axis of many."""
    return _along(input, weights, axis, output, mode, cval, origin, turn=False)


def convolve1d(
    input: Any, weights: Any, axis: int = -1, output: Any = None, mode: str = "reflect",
    cval: Any = 0.0, origin: int = 0,
) -> Any:  # fmt: skip
    """:func:`scipy.ndimage.convolve1d`: :func:`convolve` along one axis of many."""
    return _along(input, weights, axis, output, mode, cval, origin, turn=True)


def _along(
    input: Any, weights: Any, axis: int, output: Any, mode: str, cval: Any, origin: int, *,
    turn: bool,
) -> Any:  # fmt: skip
    """Any number of axes as three, of which the middle one is filtered."""
    x, w = as_numpy(input, "input"), as_numpy(weights, "weights")
    if w.ndim != 1:
        raise ValueError(f"weights have shape {w.shape}; wanted one axis")
    place = range(x.ndim)[axis]
    shape = x.shape
    before, n, after = int(np.prod(shape[:place])), shape[place], int(np.prod(shape[place + 1 :]))
    y = _computed(
        x.reshape(before, n, after), w.reshape(1, -1, 1), mode, cval, (0, origin, 0), turn=turn
    )
    return _handed(y.reshape(shape), input, x, output)


def _filter(
    input: Any, weights: Any, output: Any, mode: str, cval: Any, origin: Any, *, turn: bool
) -> Any:
    x, w = as_numpy(input, "input"), as_numpy(weights, "weights")
    if x.ndim != w.ndim:
        raise ValueError(f"input has {x.ndim} axes and weights have {w.ndim}; wanted as many")
    origins = (origin,) * x.ndim if isinstance(origin, int) else tuple(origin)
    if len(origins) != x.ndim:
        raise ValueError(f"origin is {origin}; wanted one integer, or one for each axis")
    return _handed(_computed(x, w, mode, cval, origins, turn=turn), input, x, output)


def _computed(
    x: Array, w: Array, mode: str, cval: Any, origins: tuple[int, ...], *, turn: bool
) -> Array:
    """The filtered image, in the type that it is computed in."""
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}; wanted one of {', '.join(_MODES)}")
    for k, origin in zip(w.shape, origins, strict=True):
        if not -(k // 2) <= origin <= (k - 1) // 2:
            raise ValueError(f"origin is {origin}; wanted {-(k // 2)} to {(k - 1) // 2} of {k}")
    wide = np.float64 if x.dtype.kind in "iub" else x.dtype
    if w.dtype.kind == "c":
        wide = np.result_type(wide, np.complex64)
        w = w if turn else np.conj(w)
    x, w = x.astype(wide, copy=False)[None], w.astype(wide)[None]
    if turn:
        w = flip(w)
        # The middle of weights of even length, turned around, is one further on.
        origins = tuple(-o - (k % 2 == 0) for k, o in zip(w.shape[1:], origins, strict=True))
    lows = [k // 2 + o for k, o in zip(w.shape[1:], origins, strict=True)]
    pads = [(low, k - 1 - low) for k, low in zip(w.shape[1:], lows, strict=True)]
    of_numpy, own = _MODES[mode]
    # The kernels' borders have the image's elements once; NumPy's begin again.
    fits = all(max(pair) < n for pair, n in zip(pads, x.shape[1:], strict=True))
    if own is not None and (cval == 0 if own == "zeros" else fits):
        y: Array = correlate_padded(x, w, pads, padding_mode=own)[0]
        return y
    around = {"constant_values": cval} if of_numpy == "constant" else {}
    x = np.pad(x, [(0, 0), *pads], of_numpy, **around)  # type: ignore[call-overload]
    y = correlate_padded(x, w, [(0, 0)] * len(pads))[0]
    return y


def _handed(y: Array, input: Any, x: Array, output: Any) -> Any:
    """The result where, and in the type, that it is wanted."""
    if isinstance(output, np.ndarray):
        if output.shape != y.shape:
            raise ValueError(f"output has shape {output.shape}; wanted {y.shape}")
        if y.dtype.kind == "c" and output.dtype.kind != "c":
            raise ValueError(f"output has dtype {output.dtype}; the result is complex")
        output[...] = y
        return output
    kind = x.dtype if output is None else np.dtype(output)
    if y.dtype.kind == "c":
        kind = np.result_type(kind, np.complex64)
    return home_of(input)(y.astype(kind, copy=False))
