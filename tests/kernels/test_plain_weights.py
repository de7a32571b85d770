"""Weights packed in parts within a call, each worker's share by itself."""

import ctypes
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


def run(text, program, small, prepare=lambda executable: None):
    problem = parse(text)
    given = operands(problem, "integers")
    out = np.empty(problem.y_shape, np.float32)
    run = Executable(program, ["x", "w", "y"], small)
    prepare(run)
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


WORD = ctypes.c_int64
COUNT = ctypes.CFUNCTYPE(WORD)
SHARE = ctypes.CFUNCTYPE(None, *[WORD] * 4)
KERNEL = ctypes.CFUNCTYPE(None, *[WORD] * 5)
POOL = ctypes.CFUNCTYPE(None, *[WORD] * 8)


class Overtaking:
    """A pool of two, one of whom does all it may before the other's step ``at``."""

    def __init__(self, slow, at, monkeypatch):
        self.slow, self.at = slow, at
        self.keep = POOL(self.parallel_for), COUNT(lambda: 2)
        addresses = tuple(ctypes.cast(f, ctypes.c_void_p).value for f in self.keep)
        monkeypatch.setattr(threads, "pool", lambda: addresses)
        monkeypatch.setattr(threads, "pool_is_reentrant", lambda: True)

    def parallel_for(self, share, first, sizes, steps, room, *_):
        assert WORD.from_address(sizes).value == 2
        self.waiting = [1 - self.slow]
        self.share, self.room = SHARE(share), room
        self.work(self.slow)
        self.overtake()

    def work(self, worker):
        first, size = WORD(worker), WORD(1)
        self.share(ctypes.addressof(first), ctypes.addressof(size), 0, self.room)

    def overtake(self):
        while self.waiting:
            self.work(self.waiting.pop())

    def prepare(self, executable):
        entry = executable._table[self.at, :1]
        original = KERNEL(int(entry[0]))

        def step(config, constants, pointers, worker, work):
            if worker == self.slow:
                self.overtake()
            original(config, constants, pointers, worker, work)

        self.step = KERNEL(step)
        entry[0] = ctypes.cast(self.step, ctypes.c_void_p).value


def program_of_two(blocks):
    """Panels of two blocks fit into the L2 of each worker."""
    problem = parse("fprop:f32:nhwc:n1c40h9w9_k320r3s3_p1x1")
    host = machine.cpu()
    config = default_config(problem, host)
    width = config.columns * host.vector_bytes // 4
    small = replace(host, threads=2, l2_bytes=4 * width * 40 * 9 * 4)
    text = f"fprop:f32:nhwc:n1c40h9w9_k{blocks * width}r3s3_p1x1"
    return text, ConvDirect().plain_program(parse(text), config, small), small


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize("blocks", [8, 9, 10, 11])
def test_a_worker_may_be_ahead_of_another(blocks, slow, monkeypatch):
    text, program, small = program_of_two(blocks)
    assert [step.tasks for step in program.steps if step.name == "pack"][:2] == [4, 4]
    for at in range(len(program.steps)):
        overtaking = Overtaking(slow, at, monkeypatch)
        got, wanted = run(text, program, small, overtaking.prepare)
        np.testing.assert_array_equal(got, wanted)


def test_shares_that_move_are_seen(monkeypatch):
    text, program, small = program_of_two(10)
    steps = (program.steps[0], *(replace(step, joins=True) for step in program.steps[1:]))
    wrong = Program(steps=steps, buffers=program.buffers)
    overtaking = Overtaking(0, 3, monkeypatch)
    got, wanted = run(text, wrong, small, overtaking.prepare)
    assert not np.array_equal(got, wanted)
