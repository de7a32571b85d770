"""Loads, stores and atomics, and every address that is none."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.testing.emulator import Kind
from convforge.testing.poison import Guarded

POINTERS = ("u64 x", "u64 y")
PLACES = (
    "ld.param.u64 %d1, [x];",
    "ld.param.u64 %d2, [y];",
    "mov.u32 %r1, %tid.x;",
    "mad.wide.u32 %d3, %r1, 4, %d1;",
    "mad.wide.u32 %d4, %r1, 4, %d2;",
)
SHARED = ".shared .align 16 .b8 tile[4096];\n.extern .shared .align 16 .b8 dynamic[];\n"


@pytest.fixture(scope="module")
def kernels(entry, build):
    def atomic(name, instruction):
        return entry(name, POINTERS, *PLACES, "ld.global.u32 %r2, [%d3];", instruction)

    return build(
        entry(
            "vectors",
            POINTERS,
            "ld.param.u64 %d1, [x]; ld.param.u64 %d2, [y]; mov.u32 %r1, %tid.x;",
            "mad.wide.u32 %d1, %r1, 16, %d1; mad.wide.u32 %d2, %r1, 16, %d2;",
            "ld.global.nc.L1::no_allocate.v4.f32 {%f1, %f2, %f3, %f4}, [%d1];",
            "st.global.v2.f32 [%d2], {%f4, %f3};",
            "st.global.v2.f32 [%d2+8], {%f2, %f1};",
        ),
        entry("signed", POINTERS, *PLACES, "add.u64 %d5, %d1, %d0;", "ld.global.s8 %r2, [%d5];",
              "st.global.u32 [%d4], %r2;", registers="").replace("add.u64 %d5, %d1, %d0;", "cvt.u64.u32 %d5, %r1; add.u64 %d5, %d5, %d1;"),
        entry("copies", POINTERS, *PLACES, "ld.global.u32 %r2, [%d3];", "st.global.u32 [%d4], %r2;"),
        entry("odd", POINTERS, *PLACES, "add.u64 %d3, %d3, 2;", "ld.global.u32 %r2, [%d3];"),
        entry(
            "transposes",
            (*POINTERS, "u32 pitch"),
            *PLACES,
            "ld.param.u32 %r9, [pitch];",
            "ld.global.u32 %r2, [%d3];",
            "mov.u32 %r3, tile;",
            "mad.lo.u32 %r4, %r1, %r9, %r3;",
            "st.shared.u32 [%r4], %r2;",
            "bar.sync 0;",
            "sub.u32 %r5, 31, %r1;",
            "mad.lo.u32 %r4, %r5, %r9, %r3;",
            "ld.shared.u32 %r6, [%r4];",
            "st.global.u32 [%d4], %r6;",
        ),
        entry(
            "generic",
            POINTERS,
            *PLACES,
            "mov.u64 %d5, dynamic; cvta.shared.u64 %d5, %d5; mad.wide.u32 %d5, %r1, 4, %d5;",
            "ld.u32 %r2, [%d3]; st.u32 [%d5], %r2; ld.u32 %r3, [%d5]; add.u32 %r3, %r3, 1;",
            "isspacep.shared %p1, %d5; @!%p1 mov.u32 %r3, 0;",
            "cvta.to.shared.u64 %d6, %d5; cvt.u32.u64 %r4, %d6; ld.shared.u32 %r5, [%r4];",
            "add.u32 %r3, %r3, %r5; st.u32 [%d4], %r3;",
        ),
        entry("unwritten", POINTERS, *PLACES, "mov.u32 %r3, tile; ld.shared.f32 %f1, [%r3+64];",
              "st.global.f32 [%d4], %f1;"),
        entry("bent", POINTERS, *PLACES, "mov.u32 %r3, tile; add.u32 %r3, %r3, %r1;",
              "ld.shared.u32 %r4, [%r3];"),
        entry("far", POINTERS, *PLACES, "mov.u32 %r3, tile; mad.lo.u32 %r3, %r1, 256, %r3;",
              "st.shared.u32 [%r3], %r1;"),
        # Words 0 to 31 in the first iteration, 33 to 64 in the second, and so on.
        entry(
            "skips",
            POINTERS,
            "mov.u32 %r1, %tid.x; mov.u32 %r2, tile; mad.lo.u32 %r2, %r1, 4, %r2; mov.u32 %r3, 0;",
            "again:",
            "or.b32 %r4, %r1, 0; and.b32 %r4, %r4, %r3; and.b32 %r4, %r4, 1;",
            "setp.eq.u32 %p1, %r4, 0;",
            "@!%p1 bra next;",
            "st.shared.u32 [%r2], %r1;",
            "next:",
            "add.u32 %r2, %r2, 132; add.u32 %r3, %r3, 1;",
            "setp.lt.u32 %p1, %r3, 6;",
            "@%p1 bra again;",
        ),
        atomic("adds", "atom.global.add.u32 %r3, [%d2], %r2; st.global.u32 [%d3], %r3;"),
        atomic("reduces", "red.global.max.s32 [%d2], %r2; red.relaxed.gpu.global.add.s32 [%d2+4], 2;"),
        atomic("floats", "cvt.rn.f32.u32 %f1, %r2; red.global.add.f32 [%d2], %f1;"),
        atomic("wraps", "atom.global.inc.u32 %r3, [%d2], 4; atom.global.dec.u32 %r3, [%d2+4], 4;"),
        atomic("swaps", "atom.global.cas.b32 %r3, [%d2], %r1, %r2; atom.global.exch.b32 %r3, [%d2+4], %r1;"),
        atomic("halves", "mov.u32 %r4, 0x3C004000; red.global.add.noftz.f16x2 [%d2], %r4;"),
        globals=SHARED,
    )  # fmt: skip


def arrays():
    """Both begin with a sector."""
    x, y = Guarded((32,), "u4").array, Guarded((32,), "u4").array
    x[:], y[:] = np.arange(32) * 3 + 1, 0
    return x, y


def test_vectors(kernels, launch):
    x, y = np.arange(128, dtype="f4"), np.zeros(128, "f4")
    launch(kernels["vectors"], x, y)
    np.testing.assert_array_equal(y.reshape(32, 4), x.reshape(32, 4)[:, ::-1])


def test_narrow_loads_are_extended(kernels, launch):
    x, y = np.arange(-16, 16, dtype="i1"), np.zeros(32, "i4")
    launch(kernels["signed"], x, y)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(("pitch", "extra"), [(4, 0), (8, 1), (64, 15), (128, 31), (132, 0)])
def test_shared_memory_and_its_banks(kernels, launch, pitch, extra):
    """The stride in words and the 32 banks: the greatest common divisor is the number of passes."""
    x, y = arrays()
    report = launch(kernels["transposes"], x, y, scalars=[pitch])
    np.testing.assert_array_equal(y, x[::-1])
    assert (report.shared_requests, report.shared_extra_passes) == (2, 2 * extra)
    assert sum(report.conflicts.values()) == 2 * extra
    assert report.block_barriers == 1
    assert (report.global_requests, report.global_sectors) == (2, 8)


def test_generic_addresses(kernels, launch):
    x, y = arrays()
    launch(kernels["generic"], x, y, dynamic_shared_bytes=128)
    np.testing.assert_array_equal(y, 2 * x + 1)


def test_shared_memory_starts_as_nan(kernels, launch):
    x, y = np.zeros(32, "f4"), np.zeros(32, "f4")
    launch(kernels["unwritten"], x, y)
    assert np.isnan(y).all()


def test_shared_memory_has_an_end(kernels, launch, finding):
    with finding(Kind.SHARED_ACCESS, "far", "thread (16, 0, 0)", "st.shared.u32 [%r3], %r1"):
        launch(kernels["far"], *arrays())
    with finding(Kind.SHARED_ACCESS, "byte 0 of shared memory, which has 0", "thread (0, 0, 0)"):
        launch(kernels["generic"], *arrays(), dynamic_shared_bytes=0)


def test_misaligned_accesses(kernels, launch, finding):
    with finding(Kind.SHARED_ACCESS, "misaligned", "thread (1, 0, 0)", "ld.shared.u32"):
        launch(kernels["bent"], *arrays())
    with finding(Kind.GLOBAL_ACCESS, "misaligned", "ld.global.u32"):
        launch(kernels["odd"], *arrays())


def test_global_accesses_outside_every_array(kernels, launch, finding):
    x, y = arrays()
    with finding(
        Kind.GLOBAL_ACCESS,
        "thread (31, 0, 0)",
        "ld.global",
        "memory[0] of 124 bytes, and this is its byte 124",
    ):
        launch(kernels["copies"], x[:31], y)
    with finding(Kind.GLOBAL_ACCESS, "block (1, 0, 0), thread (31, 0, 0)"):
        launch(kernels["copies"], np.zeros(0, "u4"), y, grid=(2,), order="backward")
    with finding(Kind.GLOBAL_ACCESS, "thread (31, 0, 0)"):
        launch(kernels["copies"], x, y[:31], order="backward")


def test_read_only_arrays(kernels, launch, finding):
    x, y = arrays()
    x.flags.writeable = False
    launch(kernels["copies"], x, y)
    y.flags.writeable = False
    with finding(Kind.READ_ONLY, "st.global.u32"):
        launch(kernels["copies"], x, y)


def test_null_pointers(kernels, finding):
    with finding(Kind.GLOBAL_ACCESS, "a null pointer"):
        kernels["copies"](grid=(1,), block=(1,), arguments=[0, 0], memory=arrays())


@pytest.mark.parametrize("order", ["forward", "backward", 7])
def test_atomics(kernels, launch, order):
    x, y = arrays()
    launch(kernels["adds"], x, y, order=order)
    assert y[0] == sum(range(1, 97, 3))
    if order == "forward":
        np.testing.assert_array_equal(x, np.cumsum([0, *range(1, 94, 3)]))
    x, y = arrays()
    launch(kernels["reduces"], x, y, order=order)
    assert (y[0], y[1]) == (x.max(), 64)
    launch(kernels["wraps"], x, y := np.array([0, 0], "u4"), order=order)
    assert (y[0], y[1]) == (32 % 5, -32 % 5)
    z = np.zeros(32, "f4")
    launch(kernels["floats"], x, z, order=order)
    assert z[0] == x.sum()
    halves = np.zeros(2, "f2")
    launch(kernels["halves"], x, halves, order=order)
    np.testing.assert_array_equal(halves, [64, 32])


def test_compare_and_swap(kernels, launch):
    x, y = arrays()
    launch(kernels["swaps"], x, y)
    assert (y[0], y[1]) == (40, 31)  # lanes 0, 1, 4 and 13 find their own number


def test_requests_of_lanes_that_take_different_paths(kernels, launch):
    """Odd lanes skip every other iteration: requests are of lanes in the same iteration."""
    x, y = arrays()
    report = launch(kernels["skips"], x, y)
    # Three times all lanes, three times the even ones, each of them without a conflict.
    assert (report.shared_requests, report.shared_extra_passes) == (6, 0)
