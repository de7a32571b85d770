"""Integer and floating-point arithmetic."""

from __future__ import annotations

from convforge.testing.emulator.body import Body, cpp_type
from convforge.testing.emulator.opcodes import ROUNDING, Modifiers, opcode
from convforge.testing.emulator.ptx import Instruction, type_bytes

HALVES = ("f16", "bf16", "f16x2", "bf16x2")
FLOATS = (*HALVES, "f32", "f64")


def lifted(function: str, ptype: str, arguments: list[str]) -> str:
    """A call of ``function<type>``, of both halves where the type is packed."""
    scalar = ptype.removesuffix("x2")
    if scalar == ptype:
        return f"{function.format(cpp_type(ptype))}({', '.join(arguments)})"
    call = f"[](auto... x) {{ return {function.format(scalar)}(x...); }}"
    return f"both({call}, {', '.join(arguments)})"


def _floats(body: Body, i: Instruction, m: Modifiers, ptype: str, function: str) -> str:
    """An operation of floats with what may be asked of its operands and its result."""
    rounding = m.one(tuple(ROUNDING), "rn")
    flush, saturate, relu = m.flag("ftz"), m.flag("sat"), m.flag("relu")
    arguments = [body.value(operand, ptype) for operand in i.operands[1:]]
    if flush:
        arguments = [lifted("ftz", ptype, [argument]) for argument in arguments]
    if rounding != "rn":
        if ptype not in ("f32", "f64"):
            raise ValueError(rounding)
        names = ", ".join("xyz"[: len(arguments)])
        arguments_of = ", ".join(f"{ptype} {name}" for name in "xyz")
        call = (
            f"[]({arguments_of}) {{ (void)y, (void)z; return {function.format(ptype)}({names}); }}"
        )
        padded = [*arguments, f"{ptype}(0)"][: max(len(arguments), 2)]
        result = f"rounded({ROUNDING[rounding]}, {call}, {', '.join(padded)})"
    else:
        result = lifted(function, ptype, arguments)
    for wanted, change in ((flush, "ftz"), (saturate, "saturated"), (relu, "relu")):
        if wanted:
            result = lifted(change, ptype, [result])
    return body.put(i.operands[0], result)


@opcode("add", "sub")
def add(body: Body, i: Instruction, m: Modifiers) -> str:
    """Sums and differences."""
    ptype = m.type()
    if ptype in FLOATS:
        return _floats(body, i, m, ptype, i.opcode + "<{}>")
    function = i.opcode + ("_sat" if m.flag("sat") else "") + "<{}>"
    if ptype.endswith("x2"):
        raise ValueError(ptype)
    return body.put(i.operands[0], lifted(function, ptype, _values(body, i, ptype)))


@opcode("mul")
def mul(body: Body, i: Instruction, m: Modifiers) -> str:
    """Products: the low or high half, or all of them."""
    ptype = m.type()
    if ptype in FLOATS:
        return _floats(body, i, m, ptype, "mul<{}>")
    return body.put(i.operands[0], _product(body, i, m, ptype))


@opcode("mad")
def mad(body: Body, i: Instruction, m: Modifiers) -> str:
    """Products and a sum, of integers."""
    ptype = m.type()
    if ptype in FLOATS:
        return _floats(body, i, m, ptype, "fma<{}>")
    wide = "wide" in m.words
    product = _product(body, i, m, ptype)
    sum_type = f"{ptype[0]}{2 * int(ptype[1:])}" if wide else ptype
    addend = body.value(i.operands[3], sum_type)
    return body.put(i.operands[0], f"add<{cpp_type(sum_type)}>({product}, {addend})")


def _product(body: Body, i: Instruction, m: Modifiers, ptype: str) -> str:
    part = m.one(("lo", "hi", "wide"), "lo")
    function = {"lo": "mul", "hi": "mul_hi", "wide": "mul_wide"}[part]
    arguments = ", ".join(body.value(operand, ptype) for operand in i.operands[1:3])
    return f"{function}<{cpp_type(ptype)}>({arguments})"


@opcode("mul24", "mad24")
def mul24(body: Body, i: Instruction, m: Modifiers) -> str:
    """Products of 24-bit integers, low half."""
    ptype = m.type()
    m.words.remove("lo")
    values = _values(body, i, ptype)
    product = f"mul24<{cpp_type(ptype)}>({values[0]}, {values[1]})"
    return body.put(i.operands[0], product if len(values) == 2 else f"{product} + {values[2]}")


@opcode("fma")
def fma(body: Body, i: Instruction, m: Modifiers) -> str:
    """Products and a sum, rounded once."""
    ptype = m.type()
    return _floats(body, i, m, ptype, "fma<{}>")


@opcode("div")
def div(body: Body, i: Instruction, m: Modifiers) -> str:
    """Quotients; approximate ones are rounded rightly."""
    ptype = m.type()
    m.flag("approx", "full")
    if ptype in FLOATS:
        return _floats(body, i, m, ptype, "div<{}>")
    return body.put(i.operands[0], lifted("div<{}>", ptype, _values(body, i, ptype)))


@opcode("rem", "sad")
def rem(body: Body, i: Instruction, m: Modifiers) -> str:
    """Remainders; sums of absolute differences."""
    ptype = m.type()
    return body.put(i.operands[0], lifted(i.opcode + "<{}>", ptype, _values(body, i, ptype)))


@opcode("neg", "abs")
def neg(body: Body, i: Instruction, m: Modifiers) -> str:
    """Signs."""
    ptype = m.type()
    if ptype in FLOATS:
        return _floats(body, i, m, ptype, i.opcode + "<{}>")
    return body.put(i.operands[0], lifted(i.opcode + "<{}>", ptype, _values(body, i, ptype)))


@opcode("min", "max")
def least(body: Body, i: Instruction, m: Modifiers) -> str:
    """The smaller or the larger; of a number and a NaN the number, unless ``.NaN``."""
    ptype = m.type()
    name = {"min": "least", "max": "most"}[i.opcode]
    nan = "true" if m.flag("NaN") else "false"
    function = f"{name}<{nan}, {{}}>"
    if ptype in FLOATS:
        if len(i.operands) == 4:
            raise ValueError("three inputs")
        return _floats(body, i, m, ptype, function)
    result = lifted(function, ptype, _values(body, i, ptype))
    return body.put(i.operands[0], f"most<false, s32>({result}, 0)" if m.flag("relu") else result)


@opcode("sqrt", "rsqrt", "rcp", "ex2", "lg2", "sin", "cos", "tanh")
def function(body: Body, i: Instruction, m: Modifiers) -> str:
    """Functions of one number, computed in double precision and rounded."""
    ptype = m.type()
    m.flag("approx")
    return _floats(body, i, m, ptype, i.opcode + "<{}>")


@opcode("copysign")
def copysign(body: Body, i: Instruction, m: Modifiers) -> str:
    """The sign of the first, the magnitude of the second."""
    return _floats(body, i, m, m.type(), "copysign<{}>")


@opcode("dp4a")
def dp4a(body: Body, i: Instruction, m: Modifiers) -> str:
    """Dot products of four bytes."""
    second, first = m.type(), m.type()
    bytes_of = {"u32": "u8", "s32": "s8"}
    values = ", ".join(body.value(operand, "u32") for operand in i.operands[1:])
    return body.put(i.operands[0], f"dp4a<{bytes_of[first]}, {bytes_of[second]}>({values})")


def _values(body: Body, i: Instruction, ptype: str) -> list[str]:
    type_bytes(ptype)
    return [body.value(operand, ptype) for operand in i.operands[1:]]
