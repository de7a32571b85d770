"""Functions of :mod:`scipy.signal`: two arrays, ``full``, ``same`` or ``valid``.

Source: https://docs.scipy.org/doc/scipy/reference/signal.html . ``fftconvolve`` and ``oaconvolve``
say what is computed, not how: the dispatcher chooses, as for every other name here. Convolution
turns its second array around, correlation takes its conjugate. Integers stay what they are and
wrap, as in SciPy, but are never transformed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convforge.arrays import Array, as_numpy, home_of
from convforge.integrations.scipy.common import Pair, flip
from convforge.integrations.scipy.common import correlate as correlate_padded

_MODES = ("full", "same", "valid")
_METHODS = {"auto": None, "direct": "cpu.conv_d*", "fft": "cpu.conv_fft"}
# SciPy's name of a border, and NumPy's.
_BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}


def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """:func:`scipy.signal.convolve`: the sum of ``in1[i - j] * in2[j]``.

    Args:
        in1: An array of one to three axes.
        in2: Another of as many axes.
        mode: ``"full"`` is as long as ``n1 + n2 - 1``; ``"same"`` is its middle, as long as
            ``in1``; ``"valid"`` has no element that reaches beyond an array.
        method: ``"auto"``, ``"direct"``, or ``"fft"`` where that algorithm can.

    Returns:
        An array of the kind of ``in1``, of the type that both have in common.

    Raises:
        TypeError, ValueError: Not such arrays, or an unknown word.
    """
    return _each(in1, in2, mode, None, method=method, turn=True)


def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """:func:`scipy.signal.correlate`: the sum of ``in1[i + j] * conj(in2[j])``."""
    return _each(in1, in2, mode, None, method=method, turn=False)


def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """:func:`scipy.signal.fftconvolve`: :func:`convolve` along some axes.

    Along the others the arrays are a batch: as long as each other, or 1. (With ``"same"`` SciPy
    cuts a batch that is 1 in ``in1`` to its middle one; here it stays.)
    """
    return _each(in1, in2, mode, axes, turn=True)


def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """:func:`scipy.signal.oaconvolve`; here the same as :func:`fftconvolve`."""
    return _each(in1, in2, mode, axes, turn=True)


def convolve2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """:func:`scipy.signal.convolve2d`: :func:`convolve` of images, with other borders too.

    Args:
        in1: An image, two axes.
        in2: Another.
        mode: As in :func:`convolve`.
        boundary: What stands outside ``in1``: ``"fill"`` a number, ``"wrap"`` the image again,
            ``"symm"`` its reflection that repeats the edge.
        fillvalue: The number.
    """
    return _images(in1, in2, mode, boundary, fillvalue, turn=True)


def correlate2d(
    in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> Any:
    """:func:`scipy.signal.correlate2d`; arguments as of :func:`convolve2d`.

    ``in2`` is conjugated, also where ``"valid"`` finds ``in1`` within it: there SciPy conjugates
    ``in1``, which is the conjugate of the correlation.
    """
    return _images(in1, in2, mode, boundary, fillvalue, turn=False)


def _each(in1: Any, in2: Any, mode: str, axes: Any, *, turn: bool, method: str = "auto") -> Any:
    x, w = _pair(in1, in2, mode)
    _choice("method", method, tuple(_METHODS))
    along, others = _axes(axes, x.ndim)
    if not along:  # nothing to go along: a product of each element
        return home_of(in1)(x * (w if turn else np.conj(w)))
    batch = np.broadcast_shapes(*(tuple(a.shape[i] for i in others) for a in (x, w)))
    x, w = (_batched(array, along, others, batch) for array in (x, w))
    sizes, taps = x.shape[1:], w.shape[1:]
    swapped = mode == "valid" and _is_inside(sizes, taps)
    if swapped:
        x, w, sizes, taps = w, x, taps, sizes
    # Correlation is the kernel's own; it has conjugated the smaller array.
    if turn:
        w = flip(w)
    elif not swapped:
        w = np.conj(w)
    else:
        x = np.conj(x)
    y = _correlate(x, w, [_pad(mode, k) for k in taps], _METHODS[method])
    if swapped and not turn:
        y = flip(y)
    y = y.reshape(*batch, *y.shape[1:])
    return home_of(in1)(np.moveaxis(y, range(-len(along), 0), along))


def _images(in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any, *, turn: bool) -> Any:
    x, w = _pair(in1, in2, mode)
    _choice("boundary", boundary, tuple(_BOUNDARIES))
    if x.ndim != 2:
        raise ValueError(f"in1 has shape {x.shape}; wanted two axes")
    if mode == "valid":
        return _each(in1, in2, mode, None, turn=turn)
    pads = [_pad(mode, k) for k in w.shape]
    if mode == "same" and not turn:
        # SciPy's other middle, one off that of correlate where an extent is even.
        pads = [(high, low) for low, high in pads]
    w = flip(w[None]) if turn else np.conj(w)[None]
    if boundary != "fill" or fillvalue != 0:
        around = {"constant_values": fillvalue} if boundary == "fill" else {}
        x = np.pad(x, pads, _BOUNDARIES[boundary], **around)  # type: ignore[call-overload]
        pads = [(0, 0)] * 2
    return home_of(in1)(_correlate(x[None], w, pads, None)[0])


def _correlate(x: Array, w: Array, pads: list[Pair], algorithm: str | None) -> Array:
    """In the type of both, which the kernels' own sums of integers are wider than."""
    dtype = x.dtype
    return correlate_padded(x, w, pads, algorithm=algorithm).astype(dtype, copy=False)


def _pair(in1: Any, in2: Any, mode: str) -> tuple[Array, Array]:
    """Both arrays in the type they have in common."""
    x, w = as_numpy(in1, "in1"), as_numpy(in2, "in2")
    _choice("mode", mode, _MODES)
    if x.ndim != w.ndim:
        raise ValueError(f"in1 has {x.ndim} axes and in2 has {w.ndim}; wanted as many")
    if x.size == 0 or w.size == 0:
        raise ValueError(f"in1 has shape {x.shape} and in2 {w.shape}; wanted elements")
    dtype = np.result_type(x, w)
    return x.astype(dtype, copy=False), w.astype(dtype, copy=False)


def _choice(name: str, word: Any, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"{name} is {word!r}; wanted one of {', '.join(words)}")


def _axes(axes: Any, ndim: int) -> tuple[list[int], list[int]]:
    """The axes to go along, and the others."""
    if axes is None:
        return list(range(ndim)), []
    given = [axes] if isinstance(axes, int) else list(axes)
    along = sorted({range(ndim)[axis] for axis in given})
    if len(along) != len(given):
        raise ValueError(f"axes are {axes}; wanted each once")
    return along, [axis for axis in range(ndim) if axis not in along]


def _batched(array: Array, along: list[int], others: list[int], batch: tuple[int, ...]) -> Array:
    """Shape ``(B, *size)``, or ``(1, *size)`` if the array is the same for all of a batch."""
    array = np.moveaxis(array, along, range(-len(along), 0))
    lead, size = array.shape[: len(others)], array.shape[len(others) :]
    if any(n > 1 for n in lead) and lead != batch:
        array = np.broadcast_to(array, (*batch, *size))
    return array.reshape(-1, *size)


def _is_inside(sizes: tuple[int, ...], taps: tuple[int, ...]) -> bool:
    """Whether the first array is the smaller one, and can go along the second.

    Raises:
        ValueError: Each is longer than the other somewhere.
    """
    if all(n >= k for n, k in zip(sizes, taps, strict=True)):
        return False
    if all(k >= n for n, k in zip(sizes, taps, strict=True)):
        return True
    raise ValueError(
        f"mode 'valid' of extents {sizes} and {taps}: one array must be at least as long as the "
        "other on every axis"
    )


def _pad(mode: str, taps: int) -> Pair:
    """Zeros around the first array."""
    if mode == "valid":
        return 0, 0
    low = (taps - 1) // 2 if mode == "same" else 0
    return taps - 1 - low, low if mode == "same" else taps - 1
