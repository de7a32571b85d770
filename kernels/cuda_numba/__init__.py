"""Kernels for any NVIDIA GPU, in Numba's CUDA dialect; each file with ``ALGORITHMS`` is one."""
