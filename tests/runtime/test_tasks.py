"""Every task is done once, by whoever has time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convforge.contract import Cost, KernelRef, Program, Step
from convforge.executor import Executable
from convforge.runtime import machine, threads
from convforge.runtime.jit import kernel
from convforge.runtime.rawmem import load_word, replace_word, store_word
from convforge.runtime.tasks import claimed, claimed_runs

MUCH = Cost(flops=10**9)
"""Enough work that every worker is woken."""
PATIENCE = 2_000_000


@kernel
def note_worker(config, constants, pointers, worker, work):
    """Add to a task's entry a thousand, and who did it."""
    entries = load_word(pointers)
    for task in claimed(work, worker):
        store_word(entries + 8 * task, load_word(entries + 8 * task) + 1000 + worker)


@kernel
def note_runs(config, constants, pointers, worker, work):
    """The same, by runs of at most seven; a longer one is noted wrong."""
    entries = load_word(pointers)
    for first, beyond in claimed_runs(work, worker, 7):
        for task in range(first, beyond):
            noted = 1000 + worker if beyond - first <= 7 else -1
            store_word(entries + 8 * task, load_word(entries + 8 * task) + noted)


@kernel
def wait_for_others(config, constants, pointers, worker, work):
    """Worker 0 holds its first task until nearly all others are done, or its patience ends."""
    entries, done = load_word(pointers), load_word(pointers + 8)
    for task in claimed(work, worker):
        store_word(entries + 8 * task, load_word(entries + 8 * task) + 1000 + worker)
        patience = PATIENCE
        # Reading by replacing: the compiler must not take the word for unchanged.
        while worker == 0 and patience > 0 and replace_word(done, 0, 0) < 100 - 10:
            patience -= 1
        counted = False
        while not counted:
            seen = replace_word(done, 0, 0)
            counted = replace_word(done, seen, seen + 1) == seen


def run(function, tasks, workers, *, steps=1, joins=False):
    """Who did the tasks, times a thousand how often, added up over the steps."""
    entries, done = np.zeros(max(tasks, 1), np.int64), np.zeros(1, np.int64)
    step = Step(
        name="step",
        kernel=KernelRef(function),
        operands=("entries", "done"),
        tasks=tasks,
        cost=MUCH,
    )
    program = Program(steps=(step, *[replace(step, joins=joins)] * (steps - 1)))
    facts = replace(machine.cpu(), threads=workers)
    Executable(program, ["entries", "done"], facts).run([entries.ctypes.data, done.ctypes.data])
    return entries[:tasks]


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("tasks", [0, 1, 2, 5, 64, 1023, 5000, 100_003])
@pytest.mark.parametrize("function", [note_worker, note_runs])
def test_every_task_is_done_once(function, tasks, workers):
    assert np.array_equal(run(function, tasks, workers) // 1000, np.ones(tasks))


@pytest.mark.parametrize("function", [note_worker, note_runs])
def test_one_thread_does_what_its_workers_would(function, monkeypatch):
    monkeypatch.setattr(threads, "may_fan_out", lambda: False)
    assert np.array_equal(run(function, 1000, 4), np.full(1000, 1000))


@pytest.mark.skipif(threads.get_num_threads() < 2, reason="one thread has nobody to wait for")
def test_others_do_what_a_slow_worker_has_not_begun():
    who = run(wait_for_others, 100, 2)
    assert np.array_equal(who // 1000, np.ones(100))
    assert np.count_nonzero(who % 1000 == 0) <= 10


@pytest.mark.parametrize("one_by_one", [False, True])
def test_joined_steps_stay_with_their_workers(one_by_one, monkeypatch):
    if one_by_one:
        monkeypatch.setattr(threads, "may_fan_out", lambda: False)
    who = run(note_worker, 90, 3, steps=2, joins=True)
    assert np.array_equal(who, np.repeat([2000, 2002, 2004], 30))
