"""What both kernels of planes share: their argument structs, and the weights of a plane."""

from __future__ import annotations

from convforge.kernels.cpu._vector import itemsize, load_scalar, splat, store, vector_bytes
from convforge.runtime.args import Layout
from convforge.runtime.jit import device

PLANES = Layout(
    "DepthwisePlanes",
    "images channels inputs fan_in fan_out tile tiles flip taps plain scratch_bytes "
    "from_d from_h from_w to_d to_h to_w",
)
planes_view = PLANES.view
PLANES_BYTES = PLANES.nbytes
_POINTERS = Layout("DepthwisePlanePointers", "source weights output bias residual scratch")
planes_pointers = _POINTERS.view


@device
def splat_taps(strip, w, target, taps, flip):
    """The weights of a plane, a vector of equal lanes for each tap."""
    for tap in range(taps):
        value = splat(strip, load_scalar(strip, w + tap * itemsize(strip)))
        place = taps - 1 - tap if flip else tap
        store(target + place * vector_bytes(strip), value)
