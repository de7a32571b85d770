from __future__ import annotations

import numpy as np
import pytest

from convforge import reference
from convforge.bench import check
from convforge.bench.check import Judge, part
from convforge.problem import parse
from convforge.runtime.dtypes import numpy_dtype
from convforge.testing import oracle
from convforge.testing.data import operands, result

LAYERS = (
    "fprop:f32:n5c6h9w8_k8r3s3_p1x1",
    "fprop:f32:nhwc-krsc:n5c6h9w8_k8r3s3_p1x1",
    "fprop:f32:nhwc-krsc:n3c12h9w8_k12r3s3_p1x1_g12",
    "fprop:f32:n3c12h9w8_k24r3s3_p1x1_g4",
    "dgrad:f32:nhwc-krsc:n5c8h9w8_k6r3s3_p1x1",
    "dgrad:f32:n3c12h9w8_k24r3s3_p1x1_g4",
    "wgrad:f32:nhwc-krsc:n3c6h9w8_k8r3s3_p1x1",
    "wgrad:f32:n3c12h9w8_k24r3s3_p1x1_g4",
    "fprop:max:f32:nhwc:n5c6h8w8_r2s2_st2x2",
    "dgrad:max:f32:n5c6h8w8_r2s2_st2x2",
    "dgrad:avg:f32:nhwc:n5c6h8w8_r2s2_st2x2",
)


def computed(problem, data):
    return reference.compute(problem, *data.arrays).astype(numpy_dtype(result(problem)[1].dtype))


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setattr(check, "_OTHERWISE", 1.0)


@pytest.mark.parametrize("spelling", LAYERS)
def test_a_part_computes_what_the_whole_has_there(little, spelling):
    problem = parse(spelling)
    data = operands(problem)
    some = part(problem, data)
    assert some.problem.flops < problem.flops
    whole = computed(problem, data)
    assert np.array_equal(some.take(whole), computed(some.problem, some.data))


@pytest.mark.parametrize("spelling", LAYERS)
def test_an_error_in_the_last_element_is_found(little, spelling):
    problem = parse(spelling)
    data = operands(problem)
    judge, whole = Judge(problem, data), computed(problem, data)
    assert judge.worst(whole, planewise=False).units <= 1
    whole.reshape(-1)[-1] += 1
    assert judge.worst(whole, planewise=False).units > 1000


def test_what_is_not_finite_is_found_where_the_reference_did_not_look(little):
    problem = parse("fprop:f32:n5c6h9w8_k8r3s3_p1x1")
    data = operands(problem)
    whole = computed(problem, data)
    whole[2, 3, 4, 5] = np.nan
    worst = Judge(problem, data).worst(whole, planewise=False)
    assert worst.units == np.inf and worst.at == (2, 3, 4, 5)


def test_small_layers_are_compared_whole():
    problem = parse("fprop:f32:n5c6h9w8_k8r3s3_p1x1")
    data = operands(problem)
    whole = computed(problem, data)
    whole[2, 3, 4, 5] += 1
    judged = Judge(problem, data).worst(whole, planewise=True)
    assert judged == oracle.worst(problem, whole, data, planewise=True)
    assert judged.at == (2, 3, 4, 5)
