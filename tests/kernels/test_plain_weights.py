"""Weights packed in parts within a call, each worker's share by itself."""

from dataclasses import replace

import numpy as np
import pytest

from convforge import reference
from convforge.contract import Program
from convforge.executor import Executable
from convforge.kernels.cpu.conv_direct import ConvDirect, default_config
from convforge.problem import parse
from convforge.runtime import machine, memory, threads
from convforge.testing.data import operands


def program_and_machine(text, workers):
    """The program of a machine whose L2 holds the panel of a single block."""
    problem = parse(text)
    small = replace(machine.cpu(), threads=workers, l2_bytes=2 << 10)
    return ConvDirect().plain_program(problem, default_config(problem, small), small), small


def run(text, program, small):
    problem = parse(text)
    given = operands(problem, "integers")
    out = np.empty(problem.y_shape, np.float32)
    run = Executable(program, ["x", "w", "y"], small)
    with memory.poison():
        run.run([array.ctypes.data for array in (*given.arrays, out)])
    return out, reference.compute(problem, *given.arrays)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [160, 256, 391])
@pytest.mark.parametrize("order", ["", "nhwc:"])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_parts_and_shares_cover_every_output(channels, workers, order, one_by_one, monkeypatch):
    if one_by_one:
        # A worker that needs what another one packs finds poison there.
        monkeypatch.setattr(threads, "may_fan_out", lambda: False)
    text = f"fprop:f32:{order}n1c40h9w9_k{channels}r3s3_p1x1"
    program, small = program_and_machine(text, workers)
    got, wanted = run(text, program, small)
    np.testing.assert_array_equal(got, wanted)


def test_a_share_that_is_not_a_workers_own_is_seen(monkeypatch):
    monkeypatch.setattr(threads, "may_fan_out", lambda: False)
    text = "fprop:f32:n1c40h9w9_k160r3s3_p1x1"
    program, small = program_and_machine(text, 2)
    wrong = Program(
        steps=(program.steps[0], *(replace(step, joins=True) for step in program.steps[1:])),
        buffers=program.buffers,
    )
    got, wanted = run(text, wrong, small)
    assert not np.array_equal(got, wanted)
