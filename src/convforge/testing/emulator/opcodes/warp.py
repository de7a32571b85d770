"""What the lanes of a warp do together."""

from __future__ import annotations

from convforge.testing.emulator.body import Body
from convforge.testing.emulator.opcodes import Modifiers, opcode
from convforge.testing.emulator.ptx import Instruction

_SHUFFLES = {"up": "up", "down": "down", "bfly": "butterfly", "idx": "index"}
_REDUCTIONS = {
    **{f"{name}.u32": f"{name}_u" for name in ("min", "max")},
    **{f"{name}.s32": f"{name}_s" for name in ("min", "max")},
    **{f"add.{t}": "add" for t in ("u32", "s32")},
    **{f"{name}.b32": f"bit_{name}" for name in ("and", "or", "xor")},
}


@opcode("shfl")
def shfl(body: Body, i: Instruction, m: Modifiers) -> str:
    """A value of another lane."""
    m.type()
    m.words.remove("sync")
    mode = _SHUFFLES[m.one(tuple(_SHUFFLES))]
    target, _, predicate = i.operands[0].partition("|")
    values = ", ".join(body.value(operand, "u32") for operand in i.operands[1:])
    into = f" {body.put(predicate, 'valid')}" if predicate else ""
    called = f"shuffle({body.site(i)}, Shuffle::{mode}, {values}, valid)"
    return f"{{ bool valid; u32 got = {called}; {body.put(target, 'got')}{into} }}"


@opcode("vote")
def vote(body: Body, i: Instruction, m: Modifiers) -> str:
    """Predicates of all lanes."""
    m.type()
    m.words.remove("sync")
    kind = m.one(("ballot", "all", "any", "uni"))
    function = {"ballot": "ballot", "all": "vote_all", "any": "vote_any", "uni": "vote_uniform"}[
        kind
    ]
    voted = f"{body.value(i.operands[1], 'pred')}, {body.value(i.operands[2], 'u32')}"
    return body.put(i.operands[0], f"{function}({body.site(i)}, {voted})")


@opcode("match")
def match(body: Body, i: Instruction, m: Modifiers) -> str:
    """Lanes that hold the same value."""
    ptype = m.type()
    m.words.remove("sync")
    value = f"{body.value(i.operands[1], ptype)}, {body.value(i.operands[2], 'u32')}"
    if m.one(("any", "all")) == "any":
        return body.put(i.operands[0], f"match_any({body.site(i)}, {value})")
    target, _, predicate = i.operands[0].partition("|")
    into = f" {body.put(predicate, 'all')}" if predicate else ""
    called = f"match_all({body.site(i)}, {value}, all)"
    return f"{{ bool all; u32 got = {called}; {body.put(target, 'got')}{into} }}"


@opcode("redux")
def redux(body: Body, i: Instruction, m: Modifiers) -> str:
    """A reduction over integers of all lanes."""
    ptype = m.type()
    m.words.remove("sync")
    operation = m.one(("add", "min", "max", "and", "or", "xor"))
    reduction = _REDUCTIONS[f"{operation}.{ptype}"]
    value, mask = (body.value(operand, "u32") for operand in i.operands[1:])
    return body.put(i.operands[0], f"reduce({body.site(i)}, Reduce::{reduction}, {value}, {mask})")


@opcode("activemask")
def activemask(body: Body, i: Instruction, m: Modifiers) -> str:
    """Lanes that have not finished."""
    m.type()
    return body.put(i.operands[0], "active_mask()")


@opcode("elect")
def elect(body: Body, i: Instruction, m: Modifiers) -> str:
    """One lane of many: the lowest."""
    m.words.remove("sync")
    target, _, predicate = i.operands[0].partition("|")
    called = f"elect({body.site(i)}, {body.value(i.operands[1], 'u32')}, leader)"
    puts = f"{body.put(target, 'leader')} {body.put(predicate, 'me')}"
    return f"{{ u32 leader; bool me = {called}; {puts} }}"
