"""Winograd's convolution on the emulated device: chunks, prepared weights, when it is chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest

try:
    from convforge.testing.device import EmulatedDevice, emulated_device, missing
except ImportError as error:
    pytest.skip(f"no GPU leg: {error}", allow_module_level=True)
if missing():
    pytest.skip(f"no GPU leg: {missing()}", allow_module_level=True)

from convforge.contract import Rejected
from convforge.kernels.cpu import conv_winograd3x3 as cpu
from convforge.kernels.cuda_numba._winograd_squares import matrices
from convforge.kernels.cuda_numba._winograd_work import WinogradWork
from convforge.kernels.cuda_numba.conv_winograd3x3 import ALGORITHMS
from convforge.plan import Plan, Policy, plan
from convforge.problem import Direction, Order, parse
from convforge.testing import cases, oracle
from convforge.testing.data import operands

H200 = replace(EmulatedDevice.machine, threads=132, l2_bytes=50 << 20, l3_bytes=50 << 20)
BY_NAME = {algorithm.name.partition(".")[2]: algorithm for algorithm in ALGORITHMS}


@pytest.fixture(scope="module")
def device():
    with emulated_device() as found:
        yield found


def run(planned, data, weights=None):
    device = planned.device
    out = None if data.before is None else device.asarray(data.before)
    arrays = [device.asarray(array) for array in data.arrays]
    if weights is not None:
        arrays[1] = weights
    epilogue = {name: device.asarray(array) for name, array in data.epilogue.items()}
    return planned(*arrays, **epilogue, out=out).get()


@pytest.mark.parametrize("name", BY_NAME)
def test_the_matrices_are_those_of_the_cpu(name):
    (same,) = (each for each in cpu.ALGORITHMS if each.name == f"cpu.{name}")
    assert matrices(BY_NAME[name].m) == same.minimal.matrices


def in_chunks(planned, windows):
    """The same plan with fewer windows at a time."""
    config = replace(planned.config, chunk=windows)
    algorithm = BY_NAME[planned.algorithm.partition(".")[2]]
    return Plan(planned.problem, planned.policy, algorithm, config, planned.device)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("direction", ["fprop", "dgrad"])
def test_a_windows_outputs_have_the_same_bits_in_any_chunk(device, direction, order, name):
    geometry = "n3c8h9w13_k10r3s3_p1x1_g2+bias+relu"
    problem = parse(cases.spell(direction, "f32", order, geometry))
    planned = plan(problem, Policy(algorithm=name), device)
    chunked = in_chunks(planned, 7)
    assert len(chunked.program.steps) > 2 * len(planned.program.steps)
    data = operands(problem)
    assert run(chunked, data).tobytes() == run(planned, data).tobytes()


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("order", Order)
def test_wgrad_adds_slices_and_chunks_in_their_order(device, order, name):
    problem = parse(cases.spell("wgrad", "f32", order, "n4c5h46w45_k6r3s3_p1x1+accumulate"))
    planned = plan(problem, Policy(algorithm=name), device)
    chunked = in_chunks(planned, 200)
    assert WinogradWork(problem, BY_NAME[name].m).slices > 1
    data = operands(problem)
    for each in (planned, chunked):
        dw = run(each, data)
        oracle.assert_within(problem, dw, data, each.tolerance)
        try:
            device.order = 7
            assert run(each, data).tobytes() == dw.tobytes()
        finally:
            device.order = "forward"


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("direction", ["fprop", "dgrad"])
def test_prepared_weights_serve_images_of_every_size(device, direction, name):
    """And are the bytes that a call makes for itself."""
    policy = Policy(algorithm=name)
    first, second = (
        parse(f"{direction}:f32:n{n}c8h{h}w9_k12r3s3_p1x1_g2") for n, h in ((1, 7), (2, 12))
    )
    data = operands(first)
    weights = plan(first, policy, device).prepare(device.asarray(data.arrays[1]))
    for problem in (first, second):
        planned = plan(problem, policy, device)
        again = operands(problem)
        again.arrays[1][...] = data.arrays[1]
        assert run(planned, again, weights).tobytes() == run(planned, again).tobytes()


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("direction", Direction)
def test_workspace_limits_make_chunks_or_a_refusal(direction, name):
    problem = parse(f"{direction}:f32:n8c64h56w56_k64r3s3_p1x1")
    algorithm, found = BY_NAME[name], []
    for limit in (0, 1 << 16, 1 << 21, 1 << 24, 1 << 30):
        for config in algorithm.configs(problem, H200, limit):
            program = algorithm.program(problem, config, H200)
            assert program.workspace_bytes(1) <= limit
            found.append(len(program.steps))
    assert len(found) >= 2
    assert found == sorted(found, reverse=True)
    assert not list(algorithm.configs(problem, H200, 0))


CHOSEN = ["n32c64h56w56_k64", "n32c128h28w28_k128", "n32c256h14w14_k256", "n8c512h14w14_k512"]
LEFT_OUT = ["n32c16h56w56_k16", "n1c512h7w7_k512"]


@pytest.mark.parametrize("geometry", CHOSEN + LEFT_OUT)
def test_chosen_where_transforms_are_expected_to_pay(device, monkeypatch, geometry):
    """A prediction by multiplications and bytes; no device has been asked."""
    monkeypatch.setattr(type(device), "machine", H200)
    found = plan(parse(f"fprop:f32:{geometry}r3s3_p1x1"), Policy(), device)
    assert ("winograd" in found.algorithm) == (geometry in CHOSEN)


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        ("n1c8h8w8_k8r5s5", "filter 5x5"),
        ("n1c8h8w8_k8r3s3_st2x2", "stride 2x2"),
        ("n1c8h8w8_k8r3s3_p1x1_mreflectxreflect", "zeros only"),
        ("n1c3h8w8_k8r3s3", "3 channels to sum"),
        ("n1c0h8w8_k8r3s3", "nothing to multiply"),
    ],
)
def test_refusals_name_what_it_is(geometry, words):
    for algorithm in ALGORITHMS:
        refusal = algorithm.supports(parse(f"fprop:f32:{geometry}"), H200)
        assert isinstance(refusal, Rejected)
        assert words in str(refusal)
