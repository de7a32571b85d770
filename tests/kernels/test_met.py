"""What meets on an axis, against a look at every product."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from convforge.kernels._met import met
from convforge.problem import Axis


def looked_at(axis: Axis) -> tuple[dict[str, set[int]], int]:
    seen: dict[str, set[int]] = {"pixels": set(), "taps": set(), "outputs": set()}
    sums = Counter[int]()
    for p, r in product(range(axis.out), range(axis.filter)):
        pixel = p * axis.stride + r * axis.dilation - axis.pad_lo
        if 0 <= pixel < axis.size:
            sums[r] += 1
            for name, element in (("pixels", pixel), ("taps", r), ("outputs", p)):
                seen[name].add(element)
    return seen, max(sums.values(), default=0)


@pytest.mark.parametrize("largest", [12, 200])
def test_ends_gaps_and_sums(largest):
    random = np.random.default_rng(largest)
    met_so_far = Counter[str]()
    for _ in range(2000):
        size, taps, stride, dilation = (
            int(random.integers(1, most + 1)) for most in (largest, 6, 6, 5)
        )
        low, high = map(int, random.integers(0, 10, 2))
        axis = Axis(
            size=size, filter=taps, stride=stride, dilation=dilation, pad_lo=low, pad_hi=high
        )
        if axis.padded < axis.extent:
            continue
        found, (seen, sums) = met(axis), looked_at(axis)
        assert found.sums == sums
        for name, elements in seen.items():
            between = getattr(found, name)
            if not elements:
                assert not between
                continue
            assert between == range(min(elements), max(elements) + 1), (axis, name)
            assert (name in found.gaps) == (len(elements) < len(between)), (axis, name)
            met_so_far[name] += name in found.gaps
    assert met_so_far["pixels"]


def test_an_axis_of_any_length_takes_no_time():
    found = met(Axis(size=1 << 40, filter=9, stride=2, pad_lo=4))
    assert found.pixels == range((1 << 40) - 1)
    assert not found.gaps
