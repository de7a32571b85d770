"""ldmatrix, stmatrix, mma.sync and wgmma."""

from __future__ import annotations

import re

from convforge.testing.emulator.body import Body
from convforge.testing.emulator.opcodes import Modifiers, expect, opcode
from convforge.testing.emulator.ptx import Instruction

_ELEMENTS = {
    "f16": "f16",
    "bf16": "bf16",
    "tf32": "tf32",
    "s8": "s8",
    "u8": "u8_",
    "e4m3": "e4m3",
    "e5m2": "e5m2",
}
_SUMS = ("f32", "f16", "s32")


@opcode("ldmatrix", "stmatrix")
def matrices(body: Body, i: Instruction, m: Modifiers) -> str:
    """8x8 matrices of 16 bits between shared memory and the registers of a warp."""
    for word in ("sync", "aligned", "m8n8", "b16"):
        m.words.remove(word)
    m.one(("shared", "shared_cta"))
    count = int(m.one(("x1", "x2", "x4"))[1:])
    transposed = str(m.flag("trans")).lower()
    loads = i.opcode == "ldmatrix"
    registers, address = i.operands if loads else reversed(i.operands)
    parts = body.vector(registers)
    expect(len(parts) == count)
    _, at = body.address(address)
    site = body.site(i)
    if loads:
        puts = " ".join(body.put(part, f"x[{n}]") for n, part in enumerate(parts))
        return (
            f"{{ u32 x[{count}]; load_matrices({site}, x, {at}, {count}, {transposed}); {puts} }}"
        )
    values = ", ".join(body.value(part, "u32") for part in parts)
    call = f"store_matrices({site}, {at}, x, {count}, {transposed});"
    return f"{{ const u32 x[{count}] = {{{values}}}; {call} }}"


@opcode("mma")
def mma(body: Body, i: Instruction, m: Modifiers) -> str:
    """A product of the matrices that a warp holds."""
    for word in ("sync", "aligned", "row", "col"):
        m.words.remove(word)
    saturate = str(m.flag("satfinite")).lower()
    shape = m.words.pop(0)
    to, a, b, sum_ = m.words
    m.words.clear()
    d, ra, rb, c = (body.vector(operand) for operand in i.operands)
    site = body.site(i)
    if shape == "m8n8k4" and a == "f64":
        values = [", ".join(body.value(v, "f64") for v in part) for part in (ra, rb, c)]
        puts = " ".join(body.put(part, f"d[{n}]") for n, part in enumerate(d))
        return (
            f"{{ f64 d[2], a[1] = {{{values[0]}}}, b[1] = {{{values[1]}}}, c[2] = {{{values[2]}}}; "
            f"multiply_f64({site}, d, a, b, c); {puts} }}"
        )
    k = int(re.fullmatch(r"m16n8k(\d+)", shape)[1])  # type: ignore[index]
    if to != sum_ or sum_ not in _SUMS:
        raise ValueError(sum_)
    width = {"f16": 16, "bf16": 16, "tf32": 32}.get(a, 8)
    groups = k * width // 128
    wanted = (2 if sum_ == "f16" else 4, 2 * groups, groups, 2 if sum_ == "f16" else 4)
    expect(tuple(map(len, (d, ra, rb, c))) == wanted)
    values = [", ".join(body.value(v, "b32") for v in part) for part in (ra, rb, c)]
    puts = " ".join(body.put(part, f"d[{n}]") for n, part in enumerate(d))
    kinds = f"Element::{_ELEMENTS[a]}, Element::{_ELEMENTS[b]}, Accumulator::{sum_}"
    return (
        f"{{ u32 d[4]; const u32 a[] = {{{values[0]}}}, b[] = {{{values[1]}}}; "
        f"const u32 c[] = {{{values[2]}}}; "
        f"multiply({site}, {k}, {kinds}, d, a, b, c, {saturate}); {puts} }}"
    )


@opcode("wgmma")
def wgmma(body: Body, i: Instruction, m: Modifiers) -> str:
    """A product of a warpgroup, in the background, and its synchronisation."""
    for word in ("sync", "aligned"):
        m.words.remove(word)
    site = body.site(i)
    match m.words.pop(0):
        case "fence":
            return f"wgmma_fence({site});"
        case "commit_group":
            return f"wgmma_commit({site});"
        case "wait_group":
            return f"wgmma_wait({site}, {body.value(i.operands[0], 'u32')});"
        case "mma_async":
            return _issue(body, i, m, site)
    raise ValueError("wgmma")


def _issue(body: Body, i: Instruction, m: Modifiers, site: int) -> str:
    shape, sum_, a, b = m.words
    m.words.clear()
    found = re.fullmatch(r"m64n(\d+)k(\d+)", shape)
    if not found or sum_ not in _SUMS:
        raise ValueError(shape)
    n, k = int(found[1]), int(found[2])
    d = body.vector(i.operands[0])
    expect(len(d) == n // (4 if sum_ == "f16" else 2))
    fragment = i.operands[1].startswith("{")
    add, *flags = i.operands[3:]
    negate = [*flags[:2], "1", "1"][:2]
    transpose = [flag != "0" for flag in flags[2:]]
    transpose_b = transpose.pop() if transpose else False
    transpose_a = transpose.pop() if transpose else False
    values = ", ".join(body.value(v, "b32") for v in d)
    puts = " ".join(body.put(v, f"d[{number}]") for number, v in enumerate(d))
    fragments = [body.value(v, "b32") for v in body.vector(i.operands[1])] if fragment else []
    first = (
        f"const u32 a[] = {{{', '.join(fragments)}}};"
        if fragment
        else f"const u64 a = {body.value(i.operands[1], 'u64')};"
    )
    is_added = body.value(add, "pred") if body.is_register(add) else str(add != "0").lower()
    fields = (
        f"{n}, {k}, Element::{_ELEMENTS[a]}, Element::{_ELEMENTS[b]}, Accumulator::{sum_}, "
        f"{is_added}, {negate[0]}, {negate[1]}, {str(transpose_a).lower()}, "
        f"{str(transpose_b).lower()}, {'a, 0' if fragment else 'nullptr, a'}, "
        f"{body.value(i.operands[2], 'u64')}, d, {body.accumulator(d[0])}"
    )
    return f"{{ u32 d[] = {{{values}}}; {first} wgmma({site}, Wgmma{{{fields}}}); {puts} }}"
