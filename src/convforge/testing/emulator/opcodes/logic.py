"""Bits, comparisons and selections."""

from __future__ import annotations

from convforge.testing.emulator.body import Body, cpp_type
from convforge.testing.emulator.opcodes import Modifiers, opcode
from convforge.testing.emulator.opcodes.arithmetic import lifted
from convforge.testing.emulator.ptx import Instruction

_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu")
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_JOIN = {"and": "&&", "or": "||", "xor": "!="}


@opcode("and", "or", "xor")
def combine(body: Body, i: Instruction, m: Modifiers) -> str:
    """Bit by bit."""
    ptype = m.type()
    a, b = (body.value(operand, ptype) for operand in i.operands[1:])
    sign = {"and": "&", "or": "|", "xor": "^"}[i.opcode]
    return body.put(i.operands[0], f"({cpp_type(ptype)})({a} {sign} {b})")


@opcode("not", "cnot")
def invert(body: Body, i: Instruction, m: Modifiers) -> str:
    """All bits, or whether there are none."""
    ptype = m.type()
    a = body.value(i.operands[1], ptype)
    if ptype == "pred" or i.opcode == "cnot":
        return body.put(i.operands[0], f"({cpp_type(ptype)})!{a}")
    return body.put(i.operands[0], f"({cpp_type(ptype)})~{a}")


@opcode("shl", "shr")
def shift(body: Body, i: Instruction, m: Modifiers) -> str:
    """Shifts of the first operand by the second, which has 32 bits."""
    ptype = m.type()
    a, n = body.value(i.operands[1], ptype), body.value(i.operands[2], "u32")
    return body.put(i.operands[0], f"{i.opcode}<{cpp_type(ptype)}>({a}, {n})")


@opcode("shf")
def funnel(body: Body, i: Instruction, m: Modifiers) -> str:
    """Shifts of 64 bits out of two registers."""
    m.type()
    direction, wrap = m.one(("l", "r")), m.one(("wrap", "clamp")) == "wrap"
    values = ", ".join(body.value(operand, "u32") for operand in i.operands[1:])
    return body.put(i.operands[0], f"shf_{direction}<{str(wrap).lower()}>({values})")


@opcode("popc", "clz", "brev")
def count(body: Body, i: Instruction, m: Modifiers) -> str:
    """Ones, leading zeros, and bits in reverse."""
    ptype = m.type()
    return body.put(
        i.operands[0], f"{i.opcode}<{cpp_type(ptype)}>({body.value(i.operands[1], ptype)})"
    )


@opcode("bfind")
def bfind(body: Body, i: Instruction, m: Modifiers) -> str:
    """The highest bit."""
    ptype, amount = m.type(), str(m.flag("shiftamt")).lower()
    return body.put(i.operands[0], f"bfind<{amount}>({body.value(i.operands[1], ptype)})")


@opcode("bfe")
def bfe(body: Body, i: Instruction, m: Modifiers) -> str:
    """A field of bits."""
    ptype = m.type()
    a, start, length = _field(body, i, 1, ptype)
    return body.put(i.operands[0], f"bfe<{cpp_type(ptype)}>({a}, {start}, {length})")


@opcode("bfi")
def bfi(body: Body, i: Instruction, m: Modifiers) -> str:
    """A field of bits into others."""
    ptype = m.type()
    a = body.value(i.operands[1], ptype)
    b, start, length = _field(body, i, 2, ptype)
    return body.put(i.operands[0], f"bfi<{cpp_type(ptype)}>({a}, {b}, {start}, {length})")


def _field(body: Body, i: Instruction, first: int, ptype: str) -> tuple[str, str, str]:
    a, start, length = i.operands[first : first + 3]
    return body.value(a, ptype), body.value(start, "u32"), body.value(length, "u32")


@opcode("bmsk")
def bmsk(body: Body, i: Instruction, m: Modifiers) -> str:
    """Ones in a row."""
    m.type()
    wrap = str(m.one(("wrap", "clamp")) == "wrap").lower()
    values = ", ".join(body.value(operand, "u32") for operand in i.operands[1:])
    return body.put(i.operands[0], f"bmsk<{wrap}>({values})")


@opcode("lop3", "prmt")
def bits_of_three(body: Body, i: Instruction, m: Modifiers) -> str:
    """Any function of three bits; bytes by a selector."""
    m.type()
    values = ", ".join(body.value(operand, "u32") for operand in i.operands[1:])
    return body.put(i.operands[0], f"{i.opcode}({values})")


def _condition(body: Body, i: Instruction, m: Modifiers) -> tuple[str, str]:
    """A comparison, and its opposite, each joined with a predicate where one is given."""
    ptype = m.type()
    flush = m.flag("ftz")
    name = m.one((*_COMPARISONS, *_UNSIGNED, "num", "nan"))
    join = m.one(tuple(_JOIN))
    arguments = [body.value(operand, ptype) for operand in i.operands[1:3]]
    if flush:
        arguments = [lifted("ftz", ptype, [argument]) for argument in arguments]
    if ptype.endswith("x2"):
        raise ValueError(ptype)
    compared = f"compare_{_UNSIGNED.get(name, name)}<{cpp_type(ptype)}>({', '.join(arguments)})"
    if not join:
        return compared, f"!{compared}"
    other = body.value(i.operands[3], "pred")
    return f"({compared} {_JOIN[join]} {other})", f"((!{compared}) {_JOIN[join]} {other})"


@opcode("setp")
def setp(body: Body, i: Instruction, m: Modifiers) -> str:
    """A comparison into a predicate, and its opposite into a second one."""
    is_so, is_not = _condition(body, i, m)
    first, _, second = i.operands[0].partition("|")
    if not second:
        return body.put(first, is_so)
    return f"{{ bool p = {is_so}, q = {is_not}; {body.put(first, 'p')} {body.put(second, 'q')} }}"


@opcode("set")
def set_value(body: Body, i: Instruction, m: Modifiers) -> str:
    """A comparison into a register: 1.0, or all ones in an integer."""
    types = (m.words[-2], m.words[-1])
    del m.words[-2]
    is_so, _ = _condition(body, i, m)
    one = "bits<u32>(1.0f)" if types[0] == "f32" else "(u32)-1"
    return body.put(i.operands[0], f"{is_so} ? {one} : 0u")


@opcode("selp")
def selp(body: Body, i: Instruction, m: Modifiers) -> str:
    """One of two by a predicate."""
    ptype = m.type()
    a, b = (body.value(operand, ptype) for operand in i.operands[1:3])
    return body.put(i.operands[0], f"{body.value(i.operands[3], 'pred')} ? {a} : {b}")


@opcode("slct")
def slct(body: Body, i: Instruction, m: Modifiers) -> str:
    """One of two by a sign."""
    sign_type, ptype = m.type(), m.type()
    m.flag("ftz")
    a, b = (body.value(operand, ptype) for operand in i.operands[1:3])
    return body.put(i.operands[0], f"{body.value(i.operands[3], sign_type)} >= 0 ? {a} : {b}")


@opcode("testp")
def testp(body: Body, i: Instruction, m: Modifiers) -> str:
    """What sort of number."""
    ptype = m.type()
    name = m.one(("finite", "infinite", "number", "notanumber", "normal", "subnormal"))
    a = body.value(i.operands[1], ptype)
    tests = {
        "finite": f"std::isfinite({a})",
        "infinite": f"std::isinf({a})",
        "number": f"!std::isnan({a})",
        "notanumber": f"std::isnan({a})",
        "normal": f"std::isnormal({a})",
        "subnormal": f"std::fpclassify({a}) == FP_SUBNORMAL",
    }
    return body.put(i.operands[0], f"(bool)({tests[name]})")
