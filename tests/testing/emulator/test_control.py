"""Branches, loops, calls, parameters, and what is no PTX that the emulator knows."""

from __future__ import annotations

import numpy as np
import pytest

from convforge.testing.emulator import Emulated, Kind, UnsupportedPTX

HELPER = """
.func (.param .b32 returned) halve_until_odd(.param .b32 given, .param .b64 counter)
{
    .reg .pred %p<2>;
    .reg .b32 %r<4>;
    .reg .b64 %d<2>;
    ld.param.b32 %r1, [given];
    ld.param.b64 %d1, [counter];
$again:
    and.b32 %r2, %r1, 1;
    setp.ne.u32 %p1, %r2, 0;
    @%p1 bra $done;
    shr.u32 %r1, %r1, 1;
    ld.u32 %r3, [%d1];
    add.u32 %r3, %r3, 1;
    st.u32 [%d1], %r3;
    bra.uni $again;
$done:
    st.param.b32 [returned], %r1;
    ret;
}
.const .align 4 .u32 squares[5] = {0, 1, 4, 9, 0x10};
.global .align 4 .f32 scale = {0f40400000};
"""


@pytest.fixture(scope="module")
def kernels(entry, build):
    numbered = (
        "ld.param.u64 %d1, [x];",
        "ld.param.u64 %d2, [y];",
        "mov.u32 %r1, %tid.x;",
        "mad.wide.u32 %d1, %r1, 4, %d1;",
        "mad.wide.u32 %d2, %r1, 4, %d2;",
    )
    pointers = ("u64 x", "u64 y")
    return build(
        # A device function that counts in the caller's local memory, through a generic pointer.
        entry(
            "calls",
            pointers,
            *numbered,
            "cvta.local.u64 %d4, depot;",
            "st.local.u32 [depot+4], 0;",
            "ld.global.u32 %r2, [%d1];",
            "{",
            ".param .b32 given;",
            ".param .b64 counter;",
            ".param .b32 got;",
            "st.param.b32 [given], %r2;",
            "add.u64 %d5, %d4, 4;",
            "st.param.b64 [counter], %d5;",
            "call.uni (got), halve_until_odd, (given, counter);",
            "ld.param.b32 %r3, [got];",
            "}",
            "ld.local.u32 %r4, [depot+4];",
            "mad.lo.u32 %r3, %r4, 1000, %r3;",
            "st.global.u32 [%d2], %r3;",
            registers=".local .align 8 .b8 depot[8]; .reg .b64 %unused;",
        ),
        # A table of branches, and labels of a scope that have the name of others.
        entry(
            "switch",
            pointers,
            *numbered,
            "ld.global.u32 %r2, [%d1];",
            "mov.u32 %r3, 7;",
            "table: .branchtargets zero, one, done;",
            "brx.idx %r2, table;",
            "bra.uni done;",
            "zero: mov.u32 %r3, 100; bra done;",
            "one:",
            "{ .reg .pred %p1; setp.eq.u32 %p1, %r1, 3; @%p1 bra done; mov.u32 %r3, 200; done: }",
            "done:",
            "st.global.u32 [%d2], %r3;",
        ),
        entry(
            "variables",
            pointers,
            *numbered,
            "rem.u32 %r2, %r1, 5;",
            "mov.u64 %d3, squares;",
            "mad.wide.u32 %d3, %r2, 4, %d3;",
            "ld.const.u32 %r3, [%d3];",
            "cvt.rn.f32.u32 %f1, %r3;",
            "ld.global.f32 %f2, [scale];",
            "mul.f32 %f1, %f1, %f2;",
            "st.global.f32 [%d2], %f1;",
        ),
        # A structure by value: 12 bytes of which the PTX reads the fields.
        entry(
            "structure",
            ("u64 x", "u64 y"),
            *numbered,
            "ld.param.s16 %r2, [point+2];",
            "ld.param.f32 %f1, [point+8];",
            "cvt.rn.f32.s32 %f2, %r2;",
            "add.f32 %f1, %f1, %f2;",
            "st.global.f32 [%d2], %f1;",
        ).replace(".param .u64 y)", ".param .u64 y, .param .align 4 .b8 point[12])"),
        entry("endless", pointers, *numbered, "again: bra again;"),
        entry(
            "local",
            pointers,
            *numbered,
            "mov.u64 %d3, depot;",
            "mad.wide.u32 %d3, %r1, 4, %d3;",
            "st.local.u32 [%d3], %r1;",
            registers=".local .align 8 .b8 depot[64];",
        ),
        entry("asserts", pointers, *numbered, "setp.eq.u32 %p1, %r1, 5;", "@%p1 trap;"),
        entry(
            "special",
            pointers,
            "ld.param.u64 %d2, [y];",
            "mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %ctaid.z; mov.u32 %r4, %ntid.x;",
            "mov.u32 %r5, %laneid; mov.u32 %r6, %nctaid.z;",
            "mad.lo.u32 %r7, %r2, %r4, %r1; mov.u32 %r8, %ntid.y; mul.lo.u32 %r8, %r8, %r4;",
            "mad.lo.u32 %r7, %r3, %r8, %r7;",
            "mad.wide.u32 %d2, %r7, 4, %d2;",
            "mad.lo.u32 %r5, %r6, 100, %r5;",
            "st.global.u32 [%d2], %r5;",
        ),
        globals=HELPER,
    )


def test_device_functions_and_local_memory(kernels, launch):
    x = np.arange(1, 33, dtype="u4")
    y = np.zeros(32, "u4")
    launch(kernels["calls"], x, y)
    twos = np.array([(int(v) & -int(v)).bit_length() - 1 for v in x])
    np.testing.assert_array_equal(y, twos * 1000 + (x >> twos))


def test_switch(kernels, launch):
    x, y = np.array([0, 1, 2, 1], "u4"), np.zeros(4, "u4")
    launch(kernels["switch"], x, y, block=(4,))
    np.testing.assert_array_equal(y, [100, 200, 7, 7])


def test_variables_of_the_module(kernels, launch):
    x, y = np.zeros(32, "f4"), np.zeros(32, "f4")
    launch(kernels["variables"], x, y)
    np.testing.assert_array_equal(y, 3.0 * (np.arange(32) % 5) ** 2)


def test_structures_by_value(kernels, launch):
    x, y = np.zeros(32, "f4"), np.zeros(32, "f4")
    point = np.array(
        (1, -5, 7, 0.25), np.dtype([("a", "i2"), ("b", "i2"), ("c", "i4"), ("d", "f4")])
    )
    launch(kernels["structure"], x, y, scalars=[point])
    np.testing.assert_array_equal(y, -4.75)


def test_special_registers(kernels, launch):
    x, y = np.zeros(1, "u4"), np.zeros(2 * 12 * 4, "u4")
    launch(kernels["special"], x, y, grid=(1, 1, 2), block=(12, 4))
    np.testing.assert_array_equal(y, 200 + np.tile(np.arange(48) % 32, 2))


def test_an_endless_loop(kernels, launch, finding):
    x = np.zeros(32, "u4")
    with finding(Kind.ENDLESS, "endless", "bra again"):
        launch(kernels["endless"], x, x, block=(1,))


def test_local_memory_has_an_end(kernels, launch, finding):
    x = np.zeros(32, "u4")
    with finding(Kind.LOCAL_ACCESS, "thread (16, 0, 0)", "st.local.u32"):
        launch(kernels["local"], x, x)


def test_assertions(kernels, launch, finding):
    x = np.zeros(32, "u4")
    with finding(Kind.ASSERTION, "thread (5, 0, 0)"):
        launch(kernels["asserts"], x, x)


def test_arguments_are_checked(kernels):
    with pytest.raises(TypeError, match="2 parameters, not 1"):
        kernels["local"](grid=(1,), block=(1,), arguments=[0])
    with pytest.raises(TypeError, match="8 bytes; got 4 bytes"):
        kernels["local"](grid=(1,), block=(1,), arguments=[0, np.float32(1)])
    with pytest.raises(KeyError, match="no entry 'nowhere'; there are calls, switch"):
        kernels["nowhere"]


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("frobnicate.b32 %r1, %r2;", "unknown opcode frobnicate"),
        ("add.rn.sideways.f32 %f1, %f2, %f3;", "unknown modifier .sideways of add"),
        (
            "mma.sync.aligned.m16n8k7.row.col.f32.bf16.bf16.f32 {%f1}, {%r1}, {%r2}, {%f1};",
            "of mma",
        ),
        ("mov.u32 %r1, %nowhere;", "operand %nowhere"),
        ("call.uni nobody, ();", "a call of nobody, which the PTX does not define"),
    ],
)
def test_the_unknown_is_named(entry, build, instruction, words):
    with pytest.raises(UnsupportedPTX, match=r"PTX line \d+") as error:
        build(entry("k", (), instruction))
    assert words in str(error.value)


def test_text_without_kernels():
    with pytest.raises(UnsupportedPTX, match="without an entry"):
        Emulated(".version 8.0\n.target sm_80\n.address_size 64\n")
