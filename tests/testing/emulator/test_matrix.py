"""Products of matrices and their fragments, by the layouts that the PTX manual draws."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from convforge.testing.emulator import Kind, tensor_maps

E4M3, E5M2, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16
# By name: shape and types of the instruction, and what A and B hold in NumPy.
PRODUCTS = {
    "bf16_k16": ("m16n8k16", "f32", "bf16", "bf16", BF16, BF16),
    "bf16_k8": ("m16n8k8", "f32", "bf16", "bf16", BF16, BF16),
    "f16_k16": ("m16n8k16", "f32", "f16", "f16", np.float16, np.float16),
    "f16_all": ("m16n8k16", "f16", "f16", "f16", np.float16, np.float16),
    "tf32_k8": ("m16n8k8", "f32", "tf32", "tf32", np.float32, np.float32),
    "tf32_k4": ("m16n8k4", "f32", "tf32", "tf32", np.float32, np.float32),
    "s8_k32": ("m16n8k32", "s32", "s8", "s8", np.int8, np.int8),
    "u8_k16": ("m16n8k16", "s32", "u8", "s8", np.uint8, np.int8),
    "e4m3_k32": ("m16n8k32", "f32", "e4m3", "e5m2", E4M3, E5M2),
}
SUMS = {"f32": np.float32, "f16": np.float16, "s32": np.int32}
SHARED = ".shared .align 1024 .b8 tile[8192];\n"


def counts(name):
    """Registers of a lane for A, B, and the sum."""
    shape, total, *_, a, _ = PRODUCTS[name]
    k = int(shape.partition("k")[2])
    groups = k * np.dtype(a).itemsize // 16
    return 2 * groups, groups, 2 if total == "f16" else 4


def product_text(entry, name):
    shape, total, a, b, *_ = PRODUCTS[name]
    lines, given = ["mov.u32 %r1, %tid.x;"], []
    for parameter, count in zip("abc", counts(name), strict=True):
        names = [f"%{parameter}{i}" for i in range(count)]
        given.append("{" + ", ".join(names) + "}")
        lines += [f"ld.param.u64 %d1, [{parameter}]; mad.wide.u32 %d1, %r1, {4 * count}, %d1;"]
        lines += [f"ld.global.b32 {v}, [%d1+{4 * i}];" for i, v in enumerate(names)]
    lines.append(
        f"mma.sync.aligned.{shape}.row.col.{total}.{a}.{b}.{total} {given[2]}, {', '.join(given)};"
    )
    lines += [f"st.global.b32 [%d1+{4 * i}], %c{i};" for i in range(counts(name)[2])]
    registers = ".reg .b32 %a<8>; .reg .b32 %b<8>; .reg .b32 %c<8>;"
    return entry(name, ("u64 a", "u64 b", "u64 c"), *lines, registers=registers)


@pytest.fixture(scope="module")
def kernels(entry, build):
    place = "ld.param.u64 %d1, [x]; mov.u32 %r1, %tid.x; mov.u32 %r2, tile; mad.wide.u32 %d2, %r1, 16, %d1;"
    return build(
        *(product_text(entry, name) for name in PRODUCTS),
        # A row of 16 bytes a lane through shared memory: in as matrices, out transposed.
        entry(
            "transposes",
            ("u64 x",),
            place,
            "mad.lo.u32 %r3, %r1, 16, %r2;",
            "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%d2]; st.shared.v4.b32 [%r3], {%r4, %r5, %r6, %r7};",
            "bar.warp.sync 0xFFFFFFFF;",
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r8, %r9, %r10, %r11}, [%r3];",
            "bar.warp.sync 0xFFFFFFFF;",
            "stmatrix.sync.aligned.m8n8.x2.shared.b16 [%r3], {%r8, %r9};",
            "add.u32 %r12, %r3, 256;",
            "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r12], {%r10};",
            "add.u32 %r12, %r3, 384;",
            "stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r12], {%r11};",
            "bar.warp.sync 0xFFFFFFFF;",
            "ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [%r3]; st.global.v4.b32 [%d2], {%r4, %r5, %r6, %r7};",
        ),
        entry("outside", ("u64 x",), place, "mad.lo.u32 %r3, %r1, 1024, %r2;",
              "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r8}, [%r3+3072];"),
        entry("doubles", ("u64 a", "u64 b", "u64 c"), "mov.u32 %r1, %tid.x;",
              "ld.param.u64 %d1, [a]; mad.wide.u32 %d1, %r1, 8, %d1; ld.global.f64 %e1, [%d1];",
              "ld.param.u64 %d1, [b]; mad.wide.u32 %d1, %r1, 8, %d1; ld.global.f64 %e2, [%d1];",
              "ld.param.u64 %d1, [c]; mad.wide.u32 %d1, %r1, 16, %d1; ld.global.v2.f64 {%e3, %e4}, [%d1];",
              "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%e3, %e4}, {%e1}, {%e2}, {%e3, %e4};",
              "st.global.v2.f64 [%d1], {%e3, %e4};"),
        # A in registers, B along N, without a swizzle: 16 rows of 8 as they lie.
        entry("wgmma", ("u64 a", "u64 b", "u64 d"), "mov.u32 %r1, %tid.x; mov.u32 %r2, tile;",
              "ld.param.u64 %d1, [b]; mad.wide.u32 %d1, %r1, 2, %d1; ld.global.b16 %h1, [%d1];",
              "mad.lo.u32 %r3, %r1, 2, %r2; st.shared.b16 [%r3], %h1; fence.proxy.async; bar.sync 0;",
              "ld.param.u64 %d1, [a]; mad.wide.u32 %d1, %r1, 16, %d1; ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%d1];",
              "shr.u32 %r8, %r2, 4; cvt.u64.u32 %d2, %r8; or.b64 %d2, %d2, 0x80000;",
              "mov.f32 %f1, 0f00000000; mov.f32 %f2, %f1; mov.f32 %f3, %f1; mov.f32 %f4, %f1;",
              "wgmma.fence.sync.aligned;",
              "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f4}, {%r4, %r5, %r6, %r7}, %d2, 0, -1, 1, 1;",
              "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
              "ld.param.u64 %d1, [d]; mad.wide.u32 %d1, %r1, 16, %d1; st.global.v4.f32 [%d1], {%f1, %f2, %f3, %f4};"),
        # 8 x 32 floats at (3, 4) of a larger array; those outside are dropped.
        entry("stores", ("u64 x",), place, "mad.lo.u32 %r3, %r1, 32, %r2; cvt.rn.f32.u32 %f1, %r1;",
              *(f"st.shared.f32 [%r3+{4 * i}], %f1;" for i in range(8)),
              "fence.proxy.async; bar.sync 0; setp.ne.u32 %p1, %r1, 0; @%p1 ret;",
              "mov.u64 %d3, map; mov.u32 %r4, 4; mov.u32 %r5, 3;",
              "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%d3, {%r4, %r5}], [tile];",
              "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
              ).replace("(.param .u64 x)", "(.param .u64 x, .param .align 64 .b8 map[128])"),
        globals=SHARED,
    )  # fmt: skip


def fragments(matrix, of_a):
    """What each lane holds of A (16 x k) or of B (k x 8), as the manual's figures say."""
    matrix = matrix if of_a else matrix.T  # along k
    each = 4 // matrix.dtype.itemsize
    k = matrix.shape[1]
    lanes = []
    for lane in range(32):
        group, member = divmod(lane, 4)
        registers = []
        for block in range(k // (4 * each)):
            columns = slice(
                4 * each * block + member * each, 4 * each * block + (member + 1) * each
            )
            for row in (group, group + 8) if of_a else (group,):
                registers.append(matrix[row, columns].tobytes())
        lanes.append(b"".join(registers))
    return np.frombuffer(b"".join(lanes), "u4").copy()


def of_sums(matrix):
    """Of C and D (16 x 8): two neighbours in row l / 4, two in the row eight below."""
    lane = np.arange(32)
    rows = np.stack([lane // 4, lane // 4, lane // 4 + 8, lane // 4 + 8], 1)
    columns = np.stack([lane % 4 * 2, lane % 4 * 2 + 1] * 2, 1)
    return np.ascontiguousarray(matrix[rows, columns])


def small(rng, shape, dtype):
    low = 0 if np.dtype(dtype).kind == "u" else -2
    return rng.integers(low, 3, shape).astype(dtype)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(kernels, launch, name):
    shape, total, _, _, a_type, b_type = PRODUCTS[name]
    k, rng = int(shape.partition("k")[2]), np.random.default_rng(0)
    a, b = small(rng, (16, k), a_type), small(rng, (k, 8), b_type)
    c = small(rng, (16, 8), SUMS[total])
    held = of_sums(c)
    report = launch(kernels[name], fragments(a, True), fragments(b, False), held)
    wanted = a.astype("f8") @ b.astype("f8") + c.astype("f8")
    np.testing.assert_array_equal(held, of_sums(wanted))
    assert report.matrix_multiplications == 1


def test_products_of_doubles(kernels, launch):
    rng = np.random.default_rng(1)
    a, b, c = rng.standard_normal((8, 4)), rng.standard_normal((4, 8)), rng.standard_normal((8, 8))
    lane = np.arange(32)
    pairs = (lane // 4)[:, None], lane[:, None] % 4 * 2 + [0, 1]
    held = np.ascontiguousarray(c[pairs])
    launch(kernels["doubles"], a.reshape(-1), np.ascontiguousarray(b.T).reshape(-1), held)
    np.testing.assert_allclose(held, (a @ b + c)[pairs], rtol=1e-14)


def test_matrices_through_shared_memory(kernels, launch):
    x = np.arange(256, dtype="u2").reshape(4, 8, 8)
    given = x.copy()
    launch(kernels["transposes"], x)
    np.testing.assert_array_equal(x[:3], given[:3].transpose(0, 2, 1))
    np.testing.assert_array_equal(x[3], given[3])


def test_rows_outside_shared_memory(kernels, launch, finding):
    with finding(Kind.SHARED_ACCESS, "thread (5, 0, 0)", "ldmatrix"):
        launch(kernels["outside"], np.zeros(256, "u2"))


@pytest.mark.parametrize("mode", ["late", "early"])
def test_wgmma_with_fragments(kernels, launch, mode):
    rng = np.random.default_rng(2)
    a, b = small(rng, (64, 16), BF16), small(rng, (16, 8), BF16)
    held = np.concatenate([fragments(a[16 * w : 16 * w + 16], True) for w in range(4)])
    d = np.full((4, 32, 4), np.nan, "f4")
    launch(kernels["wgmma"], held, b.reshape(-1), d, block=(128,), asynchronous=mode)
    wanted = -(a.astype("f4") @ b.astype("f4"))
    np.testing.assert_array_equal(
        d, np.stack([of_sums(wanted[16 * w : 16 * w + 16]) for w in range(4)])
    )


@pytest.mark.parametrize("mode", ["late", "early"])
def test_stores_by_a_tensor_map(kernels, launch, mode):
    raw = np.full(10 * 32 + 4, -1, "f4")
    x = raw[-raw.ctypes.data % 16 // 4 :][: 10 * 32].reshape(10, 32)
    launch(kernels["stores"], x, scalars=[tensor_maps.tiled(x, (8, 32))], asynchronous=mode)
    wanted = np.full((10, 32), -1.0)
    wanted[3:, 4:] = np.repeat(np.arange(32), 8).reshape(8, 32)[:7, :28]
    np.testing.assert_array_equal(x, wanted)
