"""Kernels of a GPU beside those of others on the same GPU, in one run.

Time on a device is told by its own clock (:mod:`.timing`), against the ceilings that probes of ours
measure there (:mod:`.probes`).
"""
