"""What a launch may ask for, and names and addresses that must not be mistaken for others."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.testing.emulator import Kind
from convforge.testing.emulator.ptx import UnsupportedPTX
from convforge.testing.emulator.translate import translate

HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n"


def many(name, count):
    """A kernel of so many parameters of 8 bytes."""
    listed = ", ".join(f".param .u64 x{i}" for i in range(count))
    return f".visible .entry {name}({listed})\n{{\n    ret;\n}}\n"


@pytest.fixture(scope="module")
def kernels(entry, build):
    load = "ld.param.u64 %d1, [x];"
    high = "mov.u64 %d2, tile; add.s64 %d2, %d2, 4294967296;"
    few = entry("few", ()).replace(")\n{", ")\n.maxntid 8, 4, 2\n{")
    return build(
        entry("free", ()),
        few,
        many("full", 512),
        many("overfull", 513),
        entry("high", ("u64 x",), high, "mov.u32 %r1, 5; st.shared.u32 [%d2], %r1;"),
        entry("high_generic", ("u64 x",), high, "cvta.shared.u64 %d2, %d2; st.u32 [%d2], %r1;"),
        entry("below", ("u64 x",), "mov.u32 %r1, tile; st.shared.u32 [%r1+-8], %r1;"),
        entry("wraps", ("u64 x",), load, "mov.u32 %r1, tile; sub.u32 %r1, %r1, 4096;",
              "st.shared.u32 [%r1+4100], 7; ld.shared.u32 %r2, [tile+4]; st.global.u32 [%d1], %r2;"),
        entry("names", ("u64 x",), load, "mov.u32 %a_Sb, 1; mov.u32 %a$b, 2; mov.u32 %r1, 3;",
              "mov.u32 r1, 4; st.global.v4.u32 [%d1], {%a_Sb, %a$b, %r1, r1};",
              registers=".reg .b32 %a_Sb; .reg .b32 %a$b; .reg .b32 r1;"),
        entry("who", ("u64 x",), load, "mov.u32 %r1, %ctaid.x; st.global.u32 [%d1], %r1;"),
        globals=".shared .align 4 .b8 tile[16];",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "block", "words"),
    [
        ((0,), (1,), "0 blocks along x"),
        ((2**31,), (1,), "blocks along x; a grid has 1 to 2147483647"),
        ((2**32 + 1,), (1,), "blocks along x"),
        ((1, 65536), (1,), "65536 blocks along y"),
        ((1, 1, 65536), (1,), "65536 blocks along z"),
        ((1,), (0,), "0 threads along x"),
        ((1,), (-1,), "-1 threads along x"),
        ((1,), (1025,), "1025 threads along x"),
        ((1,), (1, 1, 65), "65 threads along z; a block has 1 to 64"),
        ((1,), (1024, 2), "2048 threads in a block"),
        ((1,), (1024, 1024, 64), "threads in a block; a block has at most 1024"),
    ],
)
def test_limits(kernels, finding, grid, block, words):
    with finding(Kind.LAUNCH, words):
        kernels["free"](grid=grid, block=block, arguments=[])


def test_limits_of_the_kernel(kernels, finding):
    kernels["few"](grid=(1, 2, 3), block=(64,), arguments=[])
    with finding(Kind.LAUNCH, "65 threads in a block; .maxntid allows 64"):
        kernels["few"](grid=(1,), block=(65,), arguments=[])
    kernels["full"](grid=(1,), block=(1,), arguments=[0] * 512)
    with finding(Kind.LAUNCH, "4104 bytes of parameters; there are 4096"):
        kernels["overfull"](grid=(1,), block=(1,), arguments=[0] * 513)
    for much in (227 * 1024 + 1, 2**32, -1):
        with finding(Kind.LAUNCH, "bytes of shared memory"):
            kernels["free"](grid=(1,), block=(1,), arguments=[], dynamic_shared_bytes=much)


def test_every_seed_is_a_random_order(kernels):
    last = np.zeros(1, "u4")
    seen = set()
    for seed in range(2**31 - 4, 2**31 + 12):
        kernels["who"](
            grid=(64,), block=(1,), arguments=[last.ctypes.data], memory=[last], order=seed
        )
        seen.add(int(last[0]))
    assert len(seen) > 4


def test_shared_addresses_keep_their_bits(kernels, launch, finding):
    x = np.zeros(4, "u4")
    with finding(Kind.SHARED_ACCESS, "out of range", "4294967296"):
        launch(kernels["high"], x)
    with finding(Kind.GLOBAL_ACCESS, "outside every array"):
        launch(kernels["high_generic"], x)
    with finding(Kind.SHARED_ACCESS, "at byte -8"):
        launch(kernels["below"], x)
    launch(kernels["wraps"], x)
    assert x[0] == 7


def test_names_stay_different(kernels, launch):
    x = np.zeros(8, "u4")
    start = -x.ctypes.data % 16 // 4
    launch(kernels["names"], x[start : start + 4])
    assert x[start : start + 4].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "line",
    [
        "mov.u64 %d1, tile+sizeof(int);",
        "mov.u64 %d1, tile+lane;",
        "ld.shared.u32 %r1, [tile+lane];",
        "ld.shared.u32 %r1, [%r2+SHARED_BASE];",
        "cp.async.wait_group lane();",
    ],
)
def test_what_is_no_integer_is_refused(entry, line):
    shared = ".shared .align 4 .b8 tile[16];"
    with pytest.raises(UnsupportedPTX):
        translate(f"{HEAD}{shared}\n{entry('e', (), line)}")
