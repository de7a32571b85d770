"""Warps and blocks together: values, divergence, and waits that never end."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.testing.emulator import Kind

ALL = "0xFFFFFFFF"
HEAD = (
    "ld.param.u64 %d1, [x];",
    "mov.u32 %r1, %tid.x;",
    "mad.wide.u32 %d1, %r1, 4, %d1;",
    "ld.global.u32 %r2, [%d1];",
)
TAIL = ("st.global.u32 [%d1], %r3;",)
ORDERS = ("forward", "backward", 1, 2)


@pytest.fixture(scope="module")
def kernels(entry, build):
    def one(name, *lines, tail=TAIL, **more):
        return entry(name, ("u64 x",), *HEAD, *lines, *tail, **more)

    low_half = ("setp.lt.u32 %p1, %r1, 16;",)
    return build(
        one("up", f"shfl.sync.up.b32 %r3|%p1, %r2, 3, 0, {ALL}; @!%p1 mov.u32 %r3, 0;"),
        one("down", f"shfl.sync.down.b32 %r3, %r2, 5, 31, {ALL};"),
        one("bfly", f"shfl.sync.bfly.b32 %r3, %r2, 9, 31, {ALL};"),
        one("idx", f"add.u32 %r4, %r1, 2; shfl.sync.idx.b32 %r3, %r2, %r4, 0x181F, {ALL};"),
        one("ballot", "setp.gt.u32 %p1, %r2, 50;", f"vote.sync.ballot.b32 %r3, %p1, {ALL};"),
        one("vote", "setp.gt.u32 %p1, %r2, 50;", f"vote.sync.any.pred %p2, %p1, {ALL};",
            f"vote.sync.all.pred %p3, %p1, {ALL}; vote.sync.uni.pred %p4, %p1, {ALL};",
            "selp.u32 %r3, 1, 0, %p2; @%p3 add.u32 %r3, %r3, 2; @%p4 add.u32 %r3, %r3, 4;"),
        one("match", "rem.u32 %r4, %r2, 3;", f"match.any.sync.b32 %r3, %r4, {ALL};"),
        one("match_all", "mov.u32 %r4, 8;", f"match.all.sync.b32 %r3|%p1, %r4, {ALL};"),
        one("redux", f"redux.sync.add.s32 %r3, %r2, {ALL};"),
        one("elect", f"elect.sync %r4|%p1, {ALL}; selp.u32 %r3, 1, 0, %p1;"),
        # Halves of a warp in branches of their own, each with its own mask.
        one("masks", *low_half, "@%p1 bra low;",
            "shfl.sync.bfly.b32 %r3, %r2, 1, 31, 0xFFFF0000; bra.uni end;",
            "low: shfl.sync.bfly.b32 %r3, %r2, 2, 31, 0x0000FFFF;", "end:"),
        one("count", "setp.gt.u32 %p1, %r2, 50;", "bar.red.popc.u32 %r3, 0, %p1;"),
        one("named", "setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 1, 32; @!%p1 bar.sync 2, 32;",
            "mov.u32 %r3, 9;"),
        one("produces", "setp.lt.u32 %p1, %r1, 32; @%p1 bra first;",
            "mov.u32 %r4, tile; ld.shared.u32 %r3, [%r4]; bra.uni end;",
            "first: mov.u32 %r4, tile; st.shared.u32 [%r4], 7; mov.u32 %r3, 7; bar.arrive 3, 64;",
            "end:").replace("ld.shared.u32 %r3", "bar.sync 3, 64; ld.shared.u32 %r3"),
        # Wrong ones.
        one("divergent", *low_half, "@%p1 bra low;", "bar.sync 0; bra.uni end;",
            "low: bar.sync 0;", "end: mov.u32 %r3, 1;"),
        one("skipped", "setp.eq.u32 %p1, %r1, 3; @%p1 bra end;", "bar.sync 0;", "end:"),
        one("absent", "shfl.sync.bfly.b32 %r3, %r2, 1, 31, 0x00000001;"),
        one("mixed", *low_half, f"@%p1 shfl.sync.bfly.b32 %r3, %r2, 1, 31, {ALL};",
            f"@!%p1 shfl.sync.up.b32 %r3, %r2, 1, 0, {ALL};"),
        one("lonely", *low_half, f"@%p1 shfl.sync.bfly.b32 %r3, %r2, 1, 31, {ALL};"),
        one("numbers", "setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 1; @!%p1 bar.sync 2;"),
        one("counts", "setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 1, 32;"),
        # Through shared memory to the neighbour: right with the barrier, and without it.
        one("neighbour", "mov.u32 %r4, tile; mad.lo.u32 %r5, %r1, 4, %r4; st.shared.u32 [%r5], %r2;",
            "bar.sync 0;", "xor.b32 %r6, %r1, 33; mad.lo.u32 %r5, %r6, 4, %r4; ld.shared.u32 %r3, [%r5];"),
        one("race", "mov.u32 %r4, tile; mad.lo.u32 %r5, %r1, 4, %r4; st.shared.u32 [%r5], %r2;",
            "xor.b32 %r6, %r1, 33; mad.lo.u32 %r5, %r6, 4, %r4; ld.shared.u32 %r3, [%r5];"),
        globals=".shared .align 16 .b8 tile[4096];",
    )  # fmt: skip


def values(n=32):
    return (np.arange(n, dtype="u4") * 37 + 11) % 101


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("up", lambda x: np.concatenate([np.zeros(3), x[:-3]])),
        ("down", lambda x: np.concatenate([x[5:], x[-5:]])),
        ("bfly", lambda x: x[np.arange(32) ^ 9]),
        ("idx", lambda x: x[np.arange(32) // 8 * 8 + (np.arange(32) + 2) % 8]),
        ("ballot", lambda x: [sum(1 << i for i in range(32) if x[i] > 50)] * 32),
        ("vote", lambda x: [1] * 32),
        ("match", lambda x: [sum(1 << j for j in range(32) if x[j] % 3 == v % 3) for v in x]),
        ("match_all", lambda x: [0xFFFFFFFF] * 32),
        ("redux", lambda x: [x.sum()] * 32),
        ("elect", lambda x: [1] + [0] * 31),
        (
            "masks",
            lambda x: np.where(np.arange(32) < 16, x[np.arange(32) ^ 2], x[np.arange(32) ^ 1]),
        ),
    ],
)
def test_lanes_of_a_warp(kernels, launch, name, wanted, order):
    x = values()
    given = x.copy()
    launch(kernels[name], x, order=order)
    np.testing.assert_array_equal(x, wanted(given))


@pytest.mark.parametrize("order", ORDERS)
def test_barriers_of_the_block(kernels, launch, order):
    x = values(64)
    given = x.copy()
    launch(kernels["count"], x, block=(64,), order=order)
    np.testing.assert_array_equal(x, (given > 50).sum())
    launch(kernels["named"], x, block=(64,), order=order)
    np.testing.assert_array_equal(x, 9)
    launch(kernels["produces"], x, block=(64,), order=order)
    np.testing.assert_array_equal(x, 7)


def test_divergent_barriers(kernels, launch, finding):
    with finding(Kind.DIVERGENCE, "divergent barrier", "bar.sync 0"):
        launch(kernels["divergent"], values())
    with finding(Kind.DIVERGENCE, "barrier 1 for 32 threads here, for 64 at line"):
        launch(kernels["counts"], values(64), block=(64,))


def test_a_barrier_that_one_thread_skips(kernels, launch, finding):
    with finding(Kind.DEADLOCK, "threads 3 have finished", "threads 0-2, 4-31 wait at the barrier"):
        launch(kernels["skipped"], values())


def test_warps_at_different_barriers(kernels, launch, finding):
    with finding(Kind.DEADLOCK, "threads 0-31 wait at", "threads 32-63 wait at"):
        launch(kernels["numbers"], values(64), block=(64,))


def test_shuffles_with_wrong_company(kernels, launch, finding):
    with finding(Kind.DIVERGENCE, "lane 1 executes shfl.bfly with mask 00000001"):
        launch(kernels["absent"], values())
    with finding(Kind.DIVERGENCE, "shfl.bfly", "shfl.up", "they wait for each other"):
        launch(kernels["mixed"], values())


def test_lanes_that_have_finished_are_not_waited_for(kernels, launch):
    """As the manual says of shuffles; what a lane that is gone would give is undefined."""
    launch(kernels["lonely"], x := values())
    np.testing.assert_array_equal(x[:16], values()[np.arange(16) ^ 1])


def test_a_race_shows_in_some_order(kernels, launch):
    wanted = values(64)[np.arange(64) ^ 33]

    def right(name, order):
        launch(kernels[name], x := values(64), block=(64,), order=order)
        return (x == wanted).all()

    assert all(right("neighbour", order) for order in ORDERS)
    assert not any(right("race", order) for order in ORDERS)
