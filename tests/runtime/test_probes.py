"""The ceilings that shares of the peak are taken of."""

import re

import numba
import pytest
from numba.core import types

from convforge.runtime import machine, probes


@pytest.mark.skipif(machine.cpu().isa not in ("avx512", "avx2"), reason="reads x86 assembly")
@pytest.mark.parametrize("suffix", ["ps", "pd"])
def test_the_compiler_keeps_every_chain_that_the_probe_counts(suffix):
    # A chain that its constants leave unchanged was once folded away, and the peak 9 % too high.
    probe = numba.njit(probes._fma_probe.py_func)
    probe.compile((types.none, *[types.int64] * 4))
    (assembly,) = probe.inspect_asm().values()
    found = len(re.findall(rf"vfmadd\d+{suffix}", assembly))
    assert found > 0
    assert found % probes._CHAINS == 0


def test_doubles_run_at_half_the_rate():
    rates = [probes.measure_fma(dtype, 1) for dtype in ("f64", "f32")]
    assert 0 < rates[0] < rates[1]
