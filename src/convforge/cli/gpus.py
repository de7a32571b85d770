"""Which NVIDIA GPUs the driver sees, asked of the driver itself."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

_SUCCESS = 0


def describe() -> Iterator[str]:
    """One line a GPU, or one that says why there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        yield "none: no NVIDIA driver (libcuda.so.1) on this machine"
        return
    status = driver.cuInit(0)
    count = ctypes.c_int()
    if status != _SUCCESS or driver.cuDeviceGetCount(ctypes.byref(count)) != _SUCCESS:
        yield f"none: the NVIDIA driver does not start (cuInit returned {status})"
    elif count.value == 0:
        yield "none: the NVIDIA driver sees no device"
    for index in range(count.value):
        name = ctypes.create_string_buffer(256)
        memory = ctypes.c_size_t()
        driver.cuDeviceGetName(name, len(name), index)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
        yield f"{index}: {name.value.decode()}, {memory.value / 2**30:.0f} GiB"
