"""CPU kernels: Numba, one file an algorithm; files with an underscore are shared parts."""
