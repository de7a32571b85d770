"""Benchmarks: suites of layers, peers, fair timing, tables.

A number is printed only for a kernel that has just agreed with the reference.
"""
