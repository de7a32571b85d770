"""Branches, calls and barriers."""

from __future__ import annotations

from convforge.testing.emulator.body import Body, identifier
from convforge.testing.emulator.opcodes import Modifiers, opcode
from convforge.testing.emulator.ptx import Instruction, UnsupportedPTX

_EXTERNAL = {"__assertfail": "assertion", "__assert_fail": "assertion", "vprintf": "nothing"}


def jump(body: Body, i: Instruction, label: str) -> str:
    """To a label; going back counts as an iteration."""
    target = body.label(label)
    site = body.site(i)
    number = body.loop(target, site)
    if number is None:
        return f"goto {target};"
    return f"{{ loop({site}, {number}); goto {target}; }}"


@opcode("bra")
def bra(body: Body, i: Instruction, m: Modifiers) -> str:
    """A branch."""
    m.flag("uni")
    return jump(body, i, i.operands[0])


@opcode("brx")
def brx(body: Body, i: Instruction, m: Modifiers) -> str:
    """A branch by a table."""
    m.flag("idx", "uni")
    labels = body.targets[i.operands[1]]
    cases = " ".join(f"case {n}: {jump(body, i, label)}" for n, label in enumerate(labels))
    return f"switch ({body.value(i.operands[0], 'u32')}) {{ {cases} }}"


@opcode("ret")
def ret(body: Body, i: Instruction, m: Modifiers) -> str:
    """Back to the caller, or the end of the thread."""
    m.flag("uni")
    return "return;"


@opcode("exit")
def exit_(body: Body, i: Instruction, m: Modifiers) -> str:
    """The end of the thread."""
    return "finish_now();"


@opcode("trap")
def trap(body: Body, i: Instruction, m: Modifiers) -> str:
    """An error raised by the kernel."""
    return f"assertion({body.site(i)});"


@opcode("call")
def call(body: Body, i: Instruction, m: Modifiers) -> str:
    """A device function; parameters are memory, in and out."""
    m.flag("uni")
    operands = list(i.operands)
    returned = operands.pop(0) if operands[0].startswith("(") else "()"
    name = operands.pop(0)
    given = operands.pop(0) if operands else "()"
    if operands or body.is_register(name):
        raise UnsupportedPTX("a call through a pointer", i.line, i.text)
    if name in _EXTERNAL:
        return f"{_EXTERNAL[name]}({body.site(i)});"
    function = body.names.functions.get(name)
    if function is None or function.body is None:
        raise UnsupportedPTX(f"a call of {name}, which the PTX does not define", i.line, i.text)
    body.used.add(name)
    arguments = []
    for operand in (*body.vector(f"{{{returned[1:-1]}}}"), *body.vector(f"{{{given[1:-1]}}}")):
        if operand:
            memory = body.memory(operand)
            if memory is None:
                raise UnsupportedPTX(f"argument {operand}", i.line, i.text)
            arguments.append(f"(u8*){memory[1]}")
    return f"f_{identifier(name)}({', '.join(arguments)});"


@opcode("bar", "barrier")
def bar(body: Body, i: Instruction, m: Modifiers) -> str:
    """Barriers of the block and of warps."""
    m.flag("cta")
    site = body.site(i)
    if m.flag("warp"):
        m.words.remove("sync")
        return f"warp_barrier({site}, {body.value(i.operands[0], 'u32')});"
    if m.flag("cluster"):
        # A cluster of one block: arrivals wait for nobody else.
        m.flag("release", "acquire", "relaxed")
        aligned = str(m.flag("aligned")).lower()
        waits = m.one(("arrive", "wait")) == "wait"
        return f"barrier({site}, 16, 0, {aligned});" if waits else ";"
    kind = m.one(("sync", "arrive", "red"))
    aligned = str(m.flag("aligned") or i.opcode == "bar").lower()
    if kind == "red":
        operation = {"popc": "count", "and": "all", "or": "any"}[m.one(("popc", "and", "or"))]
        m.type()
        target, number, *count, predicate = i.operands
        values = [body.value(v, "u32") for v in (number, *count)] + ["0"] * (1 - len(count))
        voted = f"barrier_{operation}({site}, {', '.join(values)}, {body.value(predicate, 'pred')})"
        return body.put(target, voted)
    values = [body.value(v, "u32") for v in i.operands] + ["0"] * (2 - len(i.operands))
    if kind == "arrive":
        return f"barrier_arrive({site}, {', '.join(values)});"
    return f"barrier({site}, {', '.join(values)}, {aligned});"
