"""The machinery of the GPU room: kernels compiled without a driver, devices, launches.

Nothing here imports Numba's CUDA target, CuPy or a driver before somebody asks for a kernel.
"""
