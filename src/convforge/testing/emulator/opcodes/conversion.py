"""Moves, and conversions between types and between address spaces."""

from __future__ import annotations

from convforge.testing.emulator.body import Body, cpp_type
from convforge.testing.emulator.opcodes import ROUNDING, Modifiers, expect, opcode
from convforge.testing.emulator.opcodes.arithmetic import FLOATS
from convforge.testing.emulator.ptx import Instruction, type_bytes

_TO_INTEGER = {
    "rni": "std::nearbyint",
    "rzi": "std::trunc",
    "rmi": "std::floor",
    "rpi": "std::ceil",
}


@opcode("mov")
def mov(body: Body, i: Instruction, m: Modifiers) -> str:
    """A copy; ``{a, b}`` is a wide value by its parts, the lowest first."""
    ptype = m.type()
    target, source = i.operands
    if target.startswith("{"):
        parts = body.vector(target)
        width = 8 * type_bytes(ptype) // len(parts)
        wide = f"u{8 * type_bytes(ptype)}"
        puts = " ".join(
            body.put(part, f"(u{width})(x >> {n * width})")
            for n, part in enumerate(parts)
            if part != "_"
        )
        return f"{{ {wide} x = {body.value(source, wide)}; {puts} }}"
    if source.startswith("{"):
        parts = body.vector(source)
        width = 8 * type_bytes(ptype) // len(parts)
        wide = f"u{8 * type_bytes(ptype)}"
        joined = " | ".join(
            f"({wide})(({wide}){body.value(part, f'b{width}')} << {n * width})"
            for n, part in enumerate(parts)
        )
        return body.put(target, f"({wide})({joined})")
    return body.put(target, body.value(source, ptype))


@opcode("cvt")
def cvt(body: Body, i: Instruction, m: Modifiers) -> str:
    """Conversions of numbers."""
    if m.flag("pack"):
        return _pack(body, i, m)
    source, target = m.words.pop(), m.words.pop()
    saturate, finite = m.flag("sat"), m.flag("satfinite")
    flush, relu = m.flag("ftz"), m.flag("relu")
    rounding = m.one((*ROUNDING, *_TO_INTEGER, "rna"))
    if finite or target in ("tf32", "f16x2", "bf16x2"):
        expect(source == "f32" and not saturate and not flush)
    if target == "tf32":
        result = _tf32(body.value(i.operands[1], "f32"), rounding, relu)
        return body.put(i.operands[0], f"finite({result})" if finite else result)
    if finite:
        expect(target in ("f16", "bf16", "f16x2", "bf16x2"))
    if target in ("f16x2", "bf16x2"):
        half = target.removesuffix("x2")
        high, low = (
            _half(body.value(v, "f32"), half, rounding, relu, finite) for v in i.operands[1:3]
        )
        return body.put(i.operands[0], f"{target}{{{low}, {high}}}")
    value = body.value(i.operands[1], source)
    if flush and source == "f32":
        value = f"ftz({value})"
    if source in FLOATS and target in FLOATS:
        result = _float_to_float(value, source, target, rounding, saturate, relu)
        if flush and target == "f32":
            result = f"ftz({result})"
        if finite:
            result = f"finite({result})"
    elif source in FLOATS:
        whole = f"{_TO_INTEGER[rounding]}(number({value}))"
        result = f"clamped<{cpp_type(target)}, {source}>({whole})"
    elif target in FLOATS:
        result = _integer_to_float(value, target, rounding)
        if saturate:
            result = f"saturated<{target}>({result})"
    elif saturate:
        result = f"clamped_integer<{cpp_type(target)}>({value})"
    else:
        result = f"({cpp_type(target)}){value}"
    return body.put(i.operands[0], result)


def _tf32(value: str, rounding: str, relu: bool) -> str:
    if rounding not in ("rn", "rna"):
        raise ValueError(rounding)
    value = f"relu<f32>({value})" if relu else value
    return f"tf32_{'away' if rounding == 'rna' else 'even'}({value})"


def _half(value: str, half: str, rounding: str, relu: bool, finite: bool) -> str:
    if rounding not in ("rn", "rz"):
        raise ValueError(rounding)
    value = f"relu<f32>({value})" if relu else value
    result = f"{half}({value}, {str(rounding == 'rz').lower()})"
    return f"finite({result})" if finite else result


def _float_to_float(
    value: str, source: str, target: str, rounding: str, saturate: bool, relu: bool
) -> str:
    number = f"number({value})"
    if rounding in _TO_INTEGER:
        number = f"{_TO_INTEGER[rounding]}({number})"
    if target == "f64":
        result = number
    elif target == "f32":
        result = f"to_f32({number}, {ROUNDING.get(rounding, 'FE_TONEAREST')})"
    else:
        result = f"{target}({number}, {str(rounding == 'rz').lower()})"
        if rounding in ("rm", "rp"):
            raise ValueError(rounding)
    if saturate:
        result = f"saturated<{target}>({result})"
    return f"relu<{target}>({result})" if relu else result


def _integer_to_float(value: str, target: str, rounding: str) -> str:
    mode = ROUNDING[rounding or "rn"]
    if target == "f32":
        return f"integer_to_f32({mode}, {value})"
    wide = f"integer_to({mode}, {value})"
    if target == "f64":
        return wide
    return f"{target}({wide}, {str(rounding == 'rz').lower()})"


def _pack(body: Body, i: Instruction, m: Modifiers) -> str:
    """Two integers, saturated, into the low bits; the others come from a third operand."""
    m.words.remove("sat")
    if len(i.operands) == 4:
        m.type()
    source, target = m.type(), m.type()
    width = 8 * type_bytes(target)
    if width not in (8, 16):
        raise ValueError(target)
    mask = hex((1 << width) - 1)
    high, low = (
        f"((u32)clamped_integer<{cpp_type(target)}>({body.value(v, source)}) & {mask})"
        for v in i.operands[1:3]
    )
    packed = f"({high} << {width} | {low})"
    if width == 8:
        rest = body.value(i.operands[3], "u32") if len(i.operands) == 4 else "0u"
        packed = f"({rest} << 16 | {packed})"
    return body.put(i.operands[0], packed)


@opcode("cvta")
def cvta(body: Body, i: Instruction, m: Modifiers) -> str:
    """Addresses of a space to generic ones, and back."""
    ptype = m.type()
    back = m.flag("to")
    space = m.one(("shared", "shared_cta", "global", "local", "const", "param"))
    value = body.value(i.operands[1], ptype)
    if space.startswith("shared"):
        value = f"{'generic_to_shared' if back else 'shared_to_generic'}((u64){value})"
    return body.put(i.operands[0], f"({cpp_type(ptype)}){value}")


@opcode("isspacep")
def isspacep(body: Body, i: Instruction, m: Modifiers) -> str:
    """Whether a generic address is of a space."""
    space = m.one(("shared", "shared_cta", "global", "local"))
    address = body.value(i.operands[1], "u64")
    tests = {
        "local": f"is_local({address})",
        "global": f"!is_shared({address}) && !is_local({address})",
    }
    return body.put(i.operands[0], f"(bool)({tests.get(space, f'is_shared({address})')})")


@opcode("mapa")
def mapa(body: Body, i: Instruction, m: Modifiers) -> str:
    """An address in another block's shared memory: the cluster is the block itself."""
    m.flag("shared_cluster")
    return body.put(i.operands[0], body.value(i.operands[1], m.type()))
