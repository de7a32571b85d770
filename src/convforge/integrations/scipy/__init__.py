"""Convolutions of :mod:`scipy.signal` and :mod:`scipy.ndimage` under their names.

SciPy itself is not needed. Arrays have one to three axes, of NumPy or of anybody who shares
memory: PyTorch, JAX, others by DLPack. Results are arrays of the first argument's kind.
"""

from convforge.integrations.scipy import ndimage, signal

__all__ = ["ndimage", "signal"]
