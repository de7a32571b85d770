"""Judging kernels: cases, data, oracles, poisoned memory, and wrong kernels that must be caught.

Used by the tests, the benches and the command line; never by what they judge.
"""
