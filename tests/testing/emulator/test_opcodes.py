"""Each opcode against NumPy, on numbers that are awkward for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from convforge.testing.emulator import opcodes
from convforge.testing.emulator.ptx import UnsupportedPTX
from convforge.testing.emulator.translate import translate

COUNT = 96
INTEGERS = (0, 1, 2, 3, 5, 7, 31, 32, 33, 63, 64, 127, 128, 255, 256, 32767, 32768, 65535, 65536)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.49999, 1e-3, 65504.0, 65520.0, 1e5, -7.0)
SPECIAL = (np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Case:
    """``instruction`` computes %out from %in0, %in1, ...; ``expected`` is the same in NumPy."""

    instruction: str
    inputs: tuple[str, ...]
    output: str
    expected: Callable
    special: bool = True
    exact: bool = True

    def __str__(self) -> str:
        return self.instruction.split(";")[0].split("%")[0].strip()


def widen(x):
    return x.astype(object)


def wrap(values, ptype):
    """Python integers as what so many bits hold."""
    bits = 8 * NUMPY[ptype]().itemsize
    return np.array([int(v) & ((1 << bits) - 1) for v in values], f"u{bits // 8}").view(
        NUMPY[ptype]
    )


NUMPY = {
    "u8": np.uint8, "s8": np.int8, "u16": np.uint16, "s16": np.int16, "u32": np.uint32,
    "s32": np.int32, "u64": np.uint64, "s64": np.int64, "f16": np.float16, "f32": np.float32,
    "f64": np.float64, "bf16": ml_dtypes.bfloat16, "b16": np.uint16, "b32": np.uint32,
    "b64": np.uint64,
}  # fmt: skip


def integers(instruction, ptype, function, out=None, inputs=2):
    """A case of integers, wrapped to the output's width."""
    out = out or ptype

    def expected(*arrays):
        return wrap([function(*map(int, row)) for row in zip(*arrays, strict=True)], out)

    return Case(instruction, (ptype,) * inputs, out, expected)


def floats(instruction, ptype, function, inputs=2, special=True, exact=True):
    """A case of floats: computed in double precision (exact for the narrow types), rounded once."""
    wide = np.float64 if ptype != "f64" else np.longdouble

    def expected(*arrays):
        with np.errstate(all="ignore"):
            return function(*(a.astype(wide) for a in arrays)).astype(NUMPY[ptype])

    return Case(instruction, (ptype,) * inputs, ptype, expected, special, exact)


def quotient(a, b):
    return (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1) if b else -1


def fused(a, b, c):
    """Exact products and sums of floats, rounded once."""

    def one(x, y, z):
        if not all(map(math.isfinite, (x, y, z))):
            return float(np.float64(x) * np.float64(y) + np.float64(z))
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        return float(exact) if exact else float(np.float64(x) * np.float64(y) + np.float64(z))

    return np.array([one(*map(float, row)) for row in zip(a, b, c, strict=True)])


def rounded_integer(x, ptype, function):
    """Float to integer: rounded by ``function``, clamped; NaN is zero or the highest bit."""
    limits = np.iinfo(NUMPY[ptype])
    invalid = 0
    if 64 in (limits.bits, 8 * x.itemsize):
        invalid = limits.min or 1 << (limits.bits - 1)
    clamped = [
        invalid if math.isnan(v) else limits.max if v == math.inf else limits.min if v == -math.inf
        else min(max(int(function(v)), limits.min), limits.max)
        for v in x.astype(np.float64).tolist()
    ]  # fmt: skip
    return np.array(clamped, NUMPY[ptype])


def bits_of(x, bits):
    return x & ((1 << bits) - 1)


def byte_permute(a, b, selector):
    whole, result = (bits_of(b, 32) << 32) | bits_of(a, 32), 0
    for i in range(4):
        pick = selector >> (4 * i) & 15
        byte = whole >> (8 * (pick & 7)) & 255
        result |= (255 * (byte >> 7) if pick & 8 else byte) << (8 * i)
    return result


def bit_field(a, start, length):
    return (bits_of(a, 32) >> start) & ((1 << length) - 1)


def signed_field(a, start, length):
    value = (a >> start) & ((1 << length) - 1)
    return value - (1 << length) if value >> (length - 1) else value


def table(a, b, c):
    """lop3 0xE8: the majority."""
    return (a & b) | (a & c) | (b & c)


CASES = [
    *(integers(f"add.{t} %out, %in0, %in1;", t, lambda a, b: a + b) for t in ("u16", "s32", "u64")),
    *(integers(f"sub.{t} %out, %in0, %in1;", t, lambda a, b: a - b) for t in ("s16", "u32", "s64")),
    *(integers(f"mul.lo.{t} %out, %in0, %in1;", t, lambda a, b: a * b) for t in ("s16", "u32", "s64")),
    integers("mul.hi.u16 %out, %in0, %in1;", "u16", lambda a, b: a * b >> 16),
    integers("mul.hi.s32 %out, %in0, %in1;", "s32", lambda a, b: a * b >> 32),
    integers("mul.hi.u32 %out, %in0, %in1;", "u32", lambda a, b: a * b >> 32),
    integers("mul.hi.s64 %out, %in0, %in1;", "s64", lambda a, b: a * b >> 64),
    integers("mul.hi.u64 %out, %in0, %in1;", "u64", lambda a, b: a * b >> 64),
    integers("mul.wide.u16 %out, %in0, %in1;", "u16", lambda a, b: a * b, "u32"),
    integers("mul.wide.s32 %out, %in0, %in1;", "s32", lambda a, b: a * b, "s64"),
    integers("mul.wide.u32 %out, %in0, %in1;", "u32", lambda a, b: a * b, "u64"),
    integers("mad.lo.s32 %out, %in0, %in1, %in2;", "s32", lambda a, b, c: a * b + c, inputs=3),
    integers("mad.hi.u32 %out, %in0, %in1, %in2;", "u32", lambda a, b, c: (a * b >> 32) + c, inputs=3),
    Case(
        "mad.wide.s32 %out, %in0, %in1, %in2;", ("s32", "s32", "s64"), "s64",
        lambda a, b, c: wrap(widen(a) * widen(b) + widen(c), "s64"),
    ),
    *(integers(f"div.{t} %out, %in0, %in1;", t, quotient) for t in ("u16", "s32", "u32", "s64")),
    *(
        integers(f"rem.{t} %out, %in0, %in1;", t, lambda a, b: a - quotient(a, b) * b if b else a)
        for t in ("s32", "u64")
    ),
    integers("add.sat.s32 %out, %in0, %in1;", "s32", lambda a, b: min(max(a + b, -(2**31)), 2**31 - 1)),
    integers("sub.sat.s32 %out, %in0, %in1;", "s32", lambda a, b: min(max(a - b, -(2**31)), 2**31 - 1)),
    integers("abs.s32 %out, %in0;", "s32", abs, inputs=1),
    integers("neg.s64 %out, %in0;", "s64", lambda a: -a, inputs=1),
    *(integers(f"min.{t} %out, %in0, %in1;", t, min) for t in ("s32", "u32", "s16")),
    *(integers(f"max.{t} %out, %in0, %in1;", t, max) for t in ("s32", "u64")),
    integers("sad.u32 %out, %in0, %in1, %in2;", "u32", lambda a, b, c: abs(a - b) + c, inputs=3),
    integers("and.b32 %out, %in0, %in1;", "b32", lambda a, b: a & b),
    integers("or.b64 %out, %in0, %in1;", "b64", lambda a, b: a | b),
    integers("xor.b16 %out, %in0, %in1;", "b16", lambda a, b: a ^ b),
    integers("not.b32 %out, %in0;", "b32", lambda a: ~a, inputs=1),
    integers("cnot.b32 %out, %in0;", "b32", lambda a: a == 0, inputs=1),
    Case(
        "shl.b32 %out, %in0, %in1;", ("b32", "u32"), "b32",
        lambda a, n: wrap([int(x) << int(k) if k < 32 else 0 for x, k in zip(a, n, strict=True)], "b32"),
    ),
    Case(
        "shr.s32 %out, %in0, %in1;", ("s32", "u32"), "s32",
        lambda a, n: wrap([int(x) >> min(int(k), 31) for x, k in zip(a, n, strict=True)], "s32"),
    ),
    Case(
        "shr.u64 %out, %in0, %in1;", ("u64", "u32"), "u64",
        lambda a, n: wrap([int(x) >> min(int(k), 64) for x, k in zip(a, n, strict=True)], "u64"),
    ),
    Case(
        "shr.s16 %out, %in0, %in1;", ("s16", "u32"), "s16",
        lambda a, n: wrap([int(x) >> min(int(k), 15) for x, k in zip(a, n, strict=True)], "s16"),
    ),
    integers("shf.l.wrap.b32 %out, %in0, %in1, %in2;", "b32",
             lambda a, b, n: (((b << 32) | a) << (n & 31)) >> 32, inputs=3),
    integers("shf.r.clamp.b32 %out, %in0, %in1, %in2;", "b32",
             lambda a, b, n: ((b << 32) | a) >> min(n, 32), inputs=3),
    integers("popc.b32 %out, %in0;", "b32", int.bit_count, inputs=1),
    integers("popc.b64 %out, %in0;", "b64", int.bit_count, "u32", inputs=1),
    integers("clz.b32 %out, %in0;", "b32", lambda a: 32 - a.bit_length(), inputs=1),
    integers("clz.b64 %out, %in0;", "b64", lambda a: 64 - a.bit_length(), "u32", inputs=1),
    integers("bfind.u32 %out, %in0;", "u32", lambda a: a.bit_length() - 1, inputs=1),
    integers("bfind.shiftamt.s32 %out, %in0;", "s32",
             lambda a: 32 - (~a if a < 0 else a).bit_length() if a not in (0, -1) else -1, inputs=1),
    integers("brev.b32 %out, %in0;", "b32", lambda a: int(f"{a:032b}"[::-1], 2), inputs=1),
    integers("bfe.u32 %out, %in0, 5, 9;", "u32", lambda a: bit_field(a, 5, 9), inputs=1),
    integers("bfe.s32 %out, %in0, 3, 7;", "s32", lambda a: signed_field(a, 3, 7), inputs=1),
    integers("bfi.b32 %out, %in0, %in1, 4, 11;", "b32",
             lambda a, b: (b & ~(0x7FF << 4)) | ((a & 0x7FF) << 4)),
    integers("lop3.b32 %out, %in0, %in1, %in2, 0xE8;", "b32", table, inputs=3),
    integers("lop3.b32 %out, %in0, %in1, %in2, 0x1B;", "b32",
             lambda a, b, c: (~a & ~b) & ~c | (~a & ~b & c) | (~a & b & c) | (a & ~b & ~c), inputs=3),
    integers("prmt.b32 %out, %in0, %in1, 0x5410;", "b32", lambda a, b: byte_permute(a, b, 0x5410)),
    integers("prmt.b32 %out, %in0, %in1, %in2;", "b32", byte_permute, inputs=3),
    integers("bmsk.clamp.b32 %out, 3, 5;", "b32", lambda a: 0b11111000, inputs=1),
    integers("dp4a.s32.s32 %out, %in0, %in1, %in2;", "s32", lambda a, b, c: c + sum(
        signed_field(a >> 8 * i, 0, 8) * signed_field(b >> 8 * i, 0, 8) for i in range(4)), inputs=3),
    integers("selp.b32 %out, %in0, %in1, %q;", "b32", lambda a, b: b if (a ^ b) & 1 else a),
    integers("slct.s32.s32 %out, %in0, %in1, %in2;", "s32", lambda a, b, c: a if c >= 0 else b, inputs=3),
    integers("{ .reg .b32 %lo, %hi; mov.b64 {%lo, %hi}, %in0; mov.b64 %out, {%hi, %lo}; }", "b64",
             lambda a: (a & 0xFFFFFFFF) << 32 | a >> 32, inputs=1),
    integers("{ .reg .b16 %lo, %hi; mov.b32 {%lo, %hi}, %in0; mov.b32 %out, {%hi, %lo}; }", "b32",
             lambda a: (a & 0xFFFF) << 16 | a >> 16, inputs=1),
    # --- floats
    *(floats(f"add.rn.{t} %out, %in0, %in1;", t, np.add) for t in ("f32", "f64", "f16", "bf16")),
    *(floats(f"sub.{t} %out, %in0, %in1;", t, np.subtract) for t in ("f32", "f64", "f16", "bf16")),
    *(floats(f"mul.{t} %out, %in0, %in1;", t, np.multiply) for t in ("f32", "f64", "f16", "bf16")),
    floats("div.rn.f32 %out, %in0, %in1;", "f32", np.divide),
    floats("div.approx.f32 %out, %in0, %in1;", "f32", np.divide),
    floats("div.rn.f64 %out, %in0, %in1;", "f64", np.divide),
    *(floats(f"fma.rn.{t} %out, %in0, %in1, %in2;", t, fused, 3) for t in ("f32", "f16", "bf16")),
    Case("fma.rn.f64 %out, %in0, %in1, %in2;", ("f64",) * 3, "f64", fused),
    floats("min.f32 %out, %in0, %in1;", "f32", np.fmin),
    floats("max.f32 %out, %in0, %in1;", "f32", np.fmax),
    floats("max.NaN.f32 %out, %in0, %in1;", "f32", np.maximum),
    floats("max.f16 %out, %in0, %in1;", "f16", np.fmax),
    floats("min.NaN.bf16 %out, %in0, %in1;", "bf16", np.minimum),
    floats("neg.f32 %out, %in0;", "f32", np.negative, 1),
    floats("neg.f16 %out, %in0;", "f16", np.negative, 1),
    floats("abs.f64 %out, %in0;", "f64", np.abs, 1),
    floats("sqrt.rn.f32 %out, %in0;", "f32", np.sqrt, 1),
    floats("rcp.rn.f32 %out, %in0;", "f32", np.reciprocal, 1),
    floats("rsqrt.approx.f32 %out, %in0;", "f32", lambda x: 1 / np.sqrt(x), 1),
    floats("ex2.approx.f32 %out, %in0;", "f32", np.exp2, 1, exact=False),
    floats("lg2.approx.f32 %out, %in0;", "f32", np.log2, 1, exact=False),
    floats("sin.approx.f32 %out, %in0;", "f32", np.sin, 1, exact=False),
    floats("cos.approx.f32 %out, %in0;", "f32", np.cos, 1, exact=False),
    floats("tanh.approx.f32 %out, %in0;", "f32", np.tanh, 1, exact=False),
    floats("copysign.f32 %out, %in0, %in1;", "f32", lambda a, b: np.copysign(b, a)),
    floats("add.sat.f32 %out, %in0, %in1;", "f32",
           lambda a, b: np.nan_to_num(np.clip((a + b).astype("f4"), 0, 1), nan=0)),
    floats("add.ftz.f32 %out, %in0, %in1;", "f32", np.add),
    floats("mov.f32 %out, 0f3FC00000;", "f32", lambda a: np.full_like(a, 1.5), 1),
    floats("mov.f64 %out, 0dBFF8000000000000;", "f64", lambda a: np.full_like(a, -1.5), 1),
    # --- conversions
    *(
        Case(f"cvt.{kind}.{out}.{t} %out, %in0;", (t,), out,
             lambda a, out=out, f=f: rounded_integer(a, out, f))
        for kind, f in (("rni", round), ("rzi", math.trunc), ("rmi", math.floor), ("rpi", math.ceil))
        for out, t in (("s32", "f32"), ("u8", "f32"), ("s64", "f64"), ("s16", "f16"),
                       ("s64", "f32"), ("u64", "f16"), ("s32", "f64"), ("u32", "f64"))
    ),
    Case("cvt.rni.f32.f32 %out, %in0;", ("f32",), "f32", np.rint),
    Case("cvt.rmi.f32.f32 %out, %in0;", ("f32",), "f32", np.floor),
    *(
        Case(f"cvt.rn.{out}.{t} %out, %in0;", (t,), out, lambda a, out=out: a.astype(NUMPY[out]))
        for out, t in (("f32", "s32"), ("f32", "u32"), ("f64", "s64"), ("f32", "u64"), ("f16", "s32"),
                       ("f16", "f32"), ("f32", "f64"), ("bf16", "f32"))
    ),
    Case("cvt.rz.f32.s32 %out, %in0;", ("s32",), "f32", lambda a: towards_zero(a.astype("f8"), "f4")),
    Case("cvt.rz.f32.f64 %out, %in0;", ("f64",), "f32", lambda a: towards_zero(a, "f4")),
    Case("cvt.rz.f16.f32 %out, %in0;", ("f32",), "f16", lambda a: towards_zero(a, "f2")),
    *(
        Case(f"cvt.{out}.{t} %out, %in0;", (t,), out, lambda a, out=out: a.astype(NUMPY[out]))
        for out, t in (("f32", "f16"), ("f64", "f32"), ("f32", "bf16"), ("u64", "u32"), ("s64", "s32"),
                       ("u16", "u32"), ("s32", "s16"), ("u32", "u16"))
    ),
    Case("cvt.s32.s8 %out, %in0;", ("b32",), "s32", lambda a: a.astype(np.int8).astype(np.int32)),
    Case("cvt.u32.u8 %out, %in0;", ("b32",), "u32", lambda a: a.astype(np.uint8).astype(np.uint32)),
    Case("cvt.sat.s8.s32 %cut, %in0; cvt.s32.s8 %out, %cut;", ("s32",), "s32", lambda a: a.clip(-128, 127)),
    Case("cvt.sat.u16.s32 %out, %in0;", ("s32",), "u16", lambda a: a.clip(0, 65535).astype("u2")),
    Case("cvt.rna.tf32.f32 %out, %in0;", ("f32",), "f32", lambda a: to_tf32(a), special=False),
    Case("cvt.rn.bf16x2.f32 %out, %in0, %in1;", ("f32", "f32"), "b32",
         lambda a, b: halves(a, b, ml_dtypes.bfloat16), special=False),
    Case("cvt.rn.f16x2.f32 %out, %in0, %in1;", ("f32", "f32"), "b32",
         lambda a, b: halves(a, b, np.float16), special=False),
    *(
        Case(f"cvt.rn.satfinite.{t}.f32 %out, %in0;", ("f32",), t,
             lambda a, t=t: to_finite(a, NUMPY[t]))
        for t in ("f16", "bf16")
    ),
    *(
        Case(f"cvt.rn.satfinite.{t}x2.f32 %out, %in0, %in1;", ("f32", "f32"), "b32",
             lambda a, b, t=t: halves(to_finite(a, NUMPY[t]), to_finite(b, NUMPY[t]), NUMPY[t]),
             special=False)
        for t in ("f16", "bf16")
    ),
    Case("cvt.rna.satfinite.tf32.f32 %out, 0fFF7FFFFF;", ("f32",), "b32",
         lambda a: np.full(len(a), 0xFF7FE000, "u4")),
    Case("cvt.rn.relu.f16.f32 %out, %in0;", ("f32",), "f16", lambda a: np.maximum(a, 0).astype("f2")),
    *(
        Case(f"{name}.{half}x2 %out, %in0, %in1;", ("b32", "b32"), "b32",
             lambda a, b, t=t, f=f: packed(f, a, b, t), special=False)
        for half, t in (("f16", np.float16), ("bf16", ml_dtypes.bfloat16))
        for name, f in (("add.rn", np.add), ("mul.rn", np.multiply), ("max", np.fmax))
    ),
    # --- comparisons
    *(
        Case(f"setp.{name}.{t} %p, %in0, %in1; selp.b32 %out, 1, 0, %p;", (t, t), "b32",
             lambda a, b, f=f: f(a, b).astype("u4"))
        for t in ("s32", "u32", "f32", "f16")
        for name, f in (("lt", np.less), ("ge", np.greater_equal), ("eq", np.equal))
    ),
    Case("setp.ne.f32 %p, %in0, %in1; selp.b32 %out, 1, 0, %p;", ("f32", "f32"), "b32",
         lambda a, b: ((a < b) | (a > b)).astype("u4")),
    Case("setp.gtu.f32 %p, %in0, %in1; selp.b32 %out, 1, 0, %p;", ("f32", "f32"), "b32",
         lambda a, b: (~(a <= b)).astype("u4")),
    Case("setp.nan.f32 %p, %in0, %in1; selp.b32 %out, 1, 0, %p;", ("f32", "f32"), "b32",
         lambda a, b: (np.isnan(a) | np.isnan(b)).astype("u4")),
    Case("setp.hi.u32 %p|%q, %in0, %in1; selp.b32 %out, 1, 2, %q;", ("u32", "u32"), "b32",
         lambda a, b: np.where(a > b, 2, 1).astype("u4")),
    Case("setp.lt.and.s32 %p, %in0, %in1, %q; selp.b32 %out, 1, 0, %p;", ("s32", "s32"), "b32",
         lambda a, b: ((a < b) & ((a ^ b) & 1 == 0)).astype("u4")),
    Case("set.lt.u32.s32 %out, %in0, %in1;", ("s32", "s32"), "u32",
         lambda a, b: np.where(a < b, 0xFFFFFFFF, 0).astype("u4")),
    Case("testp.subnormal.f32 %p, %in0; selp.b32 %out, 1, 0, %p;", ("f32",), "b32",
         lambda a: ((a != 0) & (abs(a) < 2.0**-126)).astype("u4")),
]  # fmt: skip


def towards_zero(a, target):
    """Rounded to nearest, and one step back where that was away from zero."""
    with np.errstate(all="ignore"):
        near = a.astype(target)
        near = np.where(
            np.isinf(near) & np.isfinite(a), np.copysign(np.finfo(target).max, a), near
        ).astype(target)
        return np.where(
            abs(near.astype("f8")) > abs(a.astype("f8")),
            np.nextafter(near, near.dtype.type(0)),
            near,
        )


def to_finite(a, target):
    """Rounded to nearest, infinities to the largest finite number; NaN stays."""
    most = ml_dtypes.finfo(target).max
    with np.errstate(all="ignore"):
        near = a.astype(target)
    return np.where(np.isinf(near.astype("f4")), np.copysign(float(most), a), near).astype(target)


def to_tf32(a):
    return ((a.view("u4") + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view("f4")


def halves(high, low, dtype):
    high, low = (v.astype(dtype).view("u2").astype("u4") for v in (high, low))
    return high << np.uint32(16) | low


def packed(function, a, b, dtype):
    a, b = (v.view(dtype).astype("f4") for v in (a, b))
    return function(a, b).astype(dtype).view("u4")


def numbers(case, ptype, rng):
    """Awkward numbers of a type in random company."""
    numpy_type = np.dtype(NUMPY[ptype])
    if numpy_type.kind in "ui":
        if "x2" in str(case):
            half = ml_dtypes.bfloat16 if "bf16" in str(case) else np.float16
            return rng.standard_normal(2 * COUNT).astype(half).view("u4")
        limits = np.iinfo(numpy_type)
        awkward = [v for x in INTEGERS for v in (x, -x) if limits.min <= v <= limits.max]
        awkward += [limits.min, limits.max, limits.max - 1]
        drawn = rng.integers(limits.min, limits.max, COUNT, numpy_type, endpoint=True)
        drawn[: COUNT // 2] = rng.choice(np.array(awkward, numpy_type), COUNT // 2)
        return drawn
    awkward = FLOATS + (SPECIAL if case.special else ())
    drawn = rng.standard_normal(COUNT) * 10.0 ** rng.integers(-4, 5, COUNT)
    drawn[: COUNT // 2] = rng.choice(awkward, COUNT // 2)
    with np.errstate(all="ignore"):
        return drawn.astype(numpy_type)


REGISTER = {1: "b16", 2: "b16", 4: "b32", 8: "b64"}


def text_of(entry, number, case):
    """A kernel that reads its inputs, executes the instruction, and writes the output."""
    lines, declared = [], [".reg .pred %p, %q;", ".reg .b16 %cut;", ".reg .b64 %at, %offset;"]
    lines.append("mov.u32 %r1, %tid.x;")
    for position, ptype in enumerate((*case.inputs, case.output)):
        size = np.dtype(NUMPY[ptype]).itemsize
        name = "%out" if position == len(case.inputs) else f"%in{position}"
        declared.append(f".reg .{REGISTER[size]} {name};")
        if position < len(case.inputs):
            lines += [
                f"ld.param.u64 %at, [x{position}];",
                f"mad.wide.u32 %at, %r1, {size}, %at;",
                f"ld.global.b{8 * size} {name}, [%at];",
            ]
    if "%q;" in case.instruction and "|%q" not in case.instruction:
        lines += [
            "xor.b32 %r2, %in0, %in1;",
            "and.b32 %r2, %r2, 1;",
            "setp.eq.u32 %q, %r2, 0;",
        ]
    size = np.dtype(NUMPY[case.output]).itemsize
    lines += [
        case.instruction,
        f"ld.param.u64 %at, [x{len(case.inputs)}];",
        f"mad.wide.u32 %at, %r1, {size}, %at;",
        f"st.global.b{8 * size} [%at], %out;",
    ]
    parameters = [f"u64 x{i}" for i in range(len(case.inputs) + 1)]
    return entry(f"case{number}", parameters, *lines, registers="\n    ".join(declared))


@pytest.fixture(scope="module")
def kernels(entry, build):
    return build(*(text_of(entry, number, case) for number, case in enumerate(CASES)))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_opcode(kernels, number):
    case, rng = CASES[number], np.random.default_rng(number)
    inputs = [numbers(case, ptype, rng) for ptype in case.inputs]
    output = np.zeros(COUNT, NUMPY[case.output])
    arrays = [*inputs, output]
    kernels[f"case{number}"](
        grid=(1,), block=(COUNT,), arguments=[a.ctypes.data for a in arrays], memory=arrays
    )
    with np.errstate(all="ignore"):
        wanted = case.expected(*inputs)
    wanted = wanted.astype(output.dtype)
    if case.output == "bf16":  # which NumPy does not know to have NaNs
        output, wanted = output.astype("f4"), wanted.astype("f4")
    if case.exact:
        np.testing.assert_array_equal(output, wanted)
    else:
        np.testing.assert_allclose(output, wanted, rtol=1e-6)


def test_these_cases_cover_the_arithmetic():
    """Every opcode of the three families of numbers has a case."""
    tested = {
        part.split(".")[0]
        for case in CASES
        for part in case.instruction.replace("{", "").split()
        if "." in part
    }
    families = {
        name
        for name in opcodes.known()
        if opcodes.family(name) in ("arithmetic", "logic", "conversion")
    }
    assert families - tested <= {"mul24", "mad24", "mad", "cvta", "isspacep", "mapa"}


@pytest.mark.parametrize(
    "line",
    [
        "cvt.rn.satfinite.f32.f64 %f1, %e1;",
        "cvt.rzi.satfinite.s32.f32 %r1, %f1;",
        "cvt.rn.satfinite.e4m3x2.f32 %h1, %f1, %f2;",
        "cvt.rn.sat.f16x2.f32 %r1, %f1, %f2;",
        "cvt.rz.tf32.f32 %r1, %f1;",
    ],
)
def test_a_clamp_that_is_not_known_is_refused(entry, line):
    with pytest.raises(UnsupportedPTX, match="cvt"):
        translate(f".version 8.0\n.target sm_90\n.address_size 64\n{entry('e', (), line)}")
