"""NumPy's objects for the element types of problems."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from convforge.problem import DType

_DTYPES = {
    dtype: np.dtype(ml_dtypes.bfloat16 if dtype is DType.BF16 else dtype.numpy_name)
    for dtype in DType
}


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """NumPy's type for one of ours; bfloat16 is that of ml_dtypes. Always the same object."""
    return _DTYPES[dtype]
