"""cp.async and mbarriers: what comes too late, too early, or never."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.testing.emulator import Kind

HEAD = (
    "ld.param.u64 %d1, [x];",
    "ld.param.u64 %d2, [y];",
    "mov.u32 %r1, %tid.x;",
    "mad.wide.u32 %d3, %r1, 16, %d1;",
    "mad.wide.u32 %d4, %r1, 4, %d2;",
    "mov.u32 %r2, tile; mad.lo.u32 %r3, %r1, 16, %r2;",
)
COPY = "cp.async.cg.shared.global [%r3], [%d3], 16;"
COMMIT = "cp.async.commit_group;"
READ = ("ld.shared.f32 %f1, [%r3+4];", "st.global.f32 [%d4], %f1;")
SHARED = ".shared .align 16 .b8 tile[4096];\n.shared .align 8 .b64 gate;\n"
INIT = "setp.eq.u32 %p1, %r1, 0; @%p1 mbarrier.init.shared::cta.b64 [gate], {}; bar.sync 0;"


@pytest.fixture(scope="module")
def kernels(entry, build):
    def one(name, *lines):
        return entry(name, ("u64 x", "u64 y"), *HEAD, *lines)

    return build(
        one("right", COPY, COMMIT, "cp.async.wait_group 0;", *READ),
        one("all", COPY, "cp.async.wait_all;", *READ),
        one("lax", COPY, COMMIT, "cp.async.wait_group 1;", *READ),
        one("unwaited", COPY, COMMIT, *READ),
        one("uncommitted", COPY, "cp.async.wait_group 0;", *READ),
        one("partly", "cp.async.ca.shared.global [%r3], [%d3], 16, %r9;".replace("%r9", "4"), COMMIT,
            "cp.async.wait_group 0;", *READ),
        one("nothing", "mov.u64 %d3, 16; mov.u32 %r9, 0;",
            "cp.async.cg.shared.global.L2::128B [%r3], [%d3], 16, %r9;", COMMIT,
            "cp.async.wait_group 0;", *READ),
        one("bent", "add.u32 %r3, %r3, 8;", COPY, COMMIT, "cp.async.wait_group 0;"),
        one("outside", "add.u64 %d3, %d3, 16;", COPY, COMMIT, "cp.async.wait_group 0;"),
        # The second copy into the same place overwrites what has not been read.
        one("reused", COPY, COMMIT, "cp.async.wait_group 0;", "add.u64 %d3, %d3, 512;", COPY, COMMIT,
            *READ, "cp.async.wait_group 0;"),
        # mbarriers: the first thread waits for all others, then tells.
        one("gate", INIT.format(32), "st.shared.f32 [%r3+4], 0f40A00000;",
            "mbarrier.arrive.shared::cta.b64 %d9, [gate];",
            "again: mbarrier.try_wait.parity.shared::cta.b64 %p2, [gate], 0; @!%p2 bra again;",
            "xor.b32 %r3, %r3, 16;", *READ),
        one("spins", INIT.format(32), "st.shared.f32 [%r3+4], 0f40A00000;",
            "mbarrier.arrive.shared::cta.b64 %d9, [gate];",
            "again: mbarrier.test_wait.shared::cta.b64 %p2, [gate], %d9; @!%p2 bra again;",
            "xor.b32 %r3, %r3, 16;", *READ),
        one("too_few", INIT.format(33), "mbarrier.arrive.shared::cta.b64 %d9, [gate];",
            "again: mbarrier.try_wait.parity.shared::cta.b64 %p2, [gate], 0; @!%p2 bra again;"),
        one("too_many", INIT.format(33), "mbarrier.arrive.shared::cta.b64 %d9, [gate], 2;"),
        one("uninitialised", "mbarrier.arrive.shared::cta.b64 %d9, [gate];"),
        # Bytes that a bulk copy brings, and a phase that expects more than come.
        one("bulk", INIT.format(1), "@!%p1 bra wait;",
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [gate], 512;",
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%d1], 512, [gate];",
            "wait: mbarrier.try_wait.parity.shared::cta.b64 %p2, [gate], 0; @!%p2 bra wait;", *READ),
        one("bulk_early", INIT.format(1), "@!%p1 bra end;",
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [gate], 512;",
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%d1], 512, [gate];",
            "end: bar.sync 0;", *READ),
        one("bulk_short", INIT.format(1), "@!%p1 bra wait;",
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [gate], 1024;",
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [tile], [%d1], 512, [gate];",
            "wait: mbarrier.try_wait.parity.shared::cta.b64 %p2, [gate], 0; @!%p2 bra wait;", *READ),
        one("arrives", INIT.format(32), COPY, "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [gate];",
            "wait: mbarrier.try_wait.parity.shared::cta.b64 %p2, [gate], 0; @!%p2 bra wait;",
            "xor.b32 %r3, %r3, 16;", *READ),
        # One try, which may fail: what follows must not count on it.
        one("tries_once", INIT.format(32), "mbarrier.arrive.shared::cta.b64 %d9, [gate];",
            "mbarrier.try_wait.parity.shared::cta.b64 %p2, [gate], 0;",
            "selp.f32 %f1, 0f3F800000, 0f00000000, %p2; st.global.f32 [%d4], %f1;"),
        one("tests_once", INIT.format(32), "mbarrier.arrive.shared::cta.b64 %d9, [gate];",
            "mbarrier.test_wait.shared::cta.b64 %p2, [gate], %d9;",
            "selp.f32 %f1, 0f3F800000, 0f00000000, %p2; st.global.f32 [%d4], %f1;"),
        # A bulk store out of a buffer that is overwritten before it is read.
        one("stores", "st.shared.u32 [%r3], %r1; bar.sync 0; setp.ne.u32 %p1, %r1, 0; @%p1 bra end;",
            "cp.async.bulk.global.shared::cta.bulk_group [%d1], [tile], 512;",
            "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;", "end: bar.sync 0;",
            "st.shared.u32 [%r3], 99;"),
        one("stores_late", "st.shared.u32 [%r3], %r1; bar.sync 0; setp.ne.u32 %p1, %r1, 0;",
            "@!%p1 cp.async.bulk.global.shared::cta.bulk_group [%d1], [tile], 512;",
            "@!%p1 cp.async.bulk.commit_group;", "bar.sync 0;", "st.shared.u32 [%r3], 99;",
            "cp.async.bulk.wait_group 0;"),
        globals=SHARED,
    )  # fmt: skip


def arrays():
    x = np.zeros((64, 4), "f4")
    x[:] = np.arange(256).reshape(64, 4)
    raw = np.zeros(260, "f4")
    start = -raw.ctypes.data % 16 // 4
    aligned = raw[start : start + 256].reshape(64, 4)
    aligned[:] = x
    return aligned, np.zeros(32, "f4")


MODES = ("late", "early")


def run(launch, kernel, mode, order="forward"):
    x, y = arrays()
    report = launch(kernel, x, y, asynchronous=mode, order=order)
    return x, y, report


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["right", "all"])
def test_copies(kernels, launch, name, mode):
    x, y, report = run(launch, kernels[name], mode)
    np.testing.assert_array_equal(y, x[:32, 1])
    assert report.asynchronous_copies == 32


@pytest.mark.parametrize("name", ["lax", "unwaited"])
def test_reading_before_the_wait_shows_late(kernels, launch, name):
    x, y, _ = run(launch, kernels[name], "late")
    assert np.isnan(y).all()
    x, y, _ = run(launch, kernels[name], "early")
    np.testing.assert_array_equal(y, x[:32, 1])


def test_reusing_a_stage_shows_in_both(kernels, launch):
    assert np.isnan(run(launch, kernels["reused"], "late")[1]).all()
    x, y, _ = run(launch, kernels["reused"], "early")
    np.testing.assert_array_equal(y, x[32:, 1])


@pytest.mark.parametrize("mode", MODES)
def test_copies_of_fewer_bytes_fill_with_zeros(kernels, launch, mode):
    assert not run(launch, kernels["partly"], mode)[1].any()
    assert not run(launch, kernels["nothing"], mode)[1].any()


@pytest.mark.parametrize("mode", MODES)
def test_copies_that_are_wrong(kernels, launch, finding, mode):
    with finding(Kind.COPY, "never committed"):
        run(launch, kernels["uncommitted"], mode)
    with finding(Kind.SHARED_ACCESS, "misaligned", "cp.async.cg"):
        run(launch, kernels["bent"], mode)
    x, y = arrays()
    with finding(Kind.GLOBAL_ACCESS, "thread (31, 0, 0)", "cp.async.cg"):
        launch(kernels["outside"], x[:32], y, asynchronous=mode)


@pytest.mark.parametrize("order", ["forward", "backward", 5])
@pytest.mark.parametrize("mode", MODES)
def test_mbarriers(kernels, launch, mode, order):
    for name in ("gate", "spins"):
        np.testing.assert_array_equal(run(launch, kernels[name], mode, order)[1], 5)
    x, y, _ = run(launch, kernels["bulk"], mode, order)
    np.testing.assert_array_equal(y, x[:32, 1])
    x, y, _ = run(launch, kernels["arrives"], mode, order)
    np.testing.assert_array_equal(y, x[np.arange(32) ^ 1, 1])


@pytest.mark.parametrize("name", ["tries_once", "tests_once"])
def test_a_wait_may_give_up(kernels, launch, name):
    """Only the last to arrive finds the phase over at its first try."""
    assert run(launch, kernels[name], "late")[1].sum() == 1
    assert run(launch, kernels[name], "early")[1].all()


def test_bytes_that_have_not_come(kernels, launch):
    assert np.isnan(run(launch, kernels["bulk_early"], "late")[1]).all()


def test_a_store_whose_source_is_overwritten(kernels, launch):
    for mode in MODES:
        x, _, _ = run(launch, kernels["stores"], mode)
        np.testing.assert_array_equal(x.view("u4")[:32, 0], np.arange(32))
    x, _, _ = run(launch, kernels["stores_late"], "late")
    assert 99 in x.view("u4")[:32, 0]


def test_mbarriers_that_are_wrong(kernels, launch, finding):
    with finding(Kind.DEADLOCK, "threads 0-31 wait at an mbarrier"):
        run(launch, kernels["too_few"], "late")
    with finding(Kind.DEADLOCK, "an mbarrier"):
        run(launch, kernels["bulk_short"], "late")
    with finding(Kind.MBARRIER, "2 arrivals at an mbarrier whose phase awaits 1"):
        run(launch, kernels["too_many"], "late")
    with finding(Kind.MBARRIER, "not initialised"):
        run(launch, kernels["uninitialised"], "late")
