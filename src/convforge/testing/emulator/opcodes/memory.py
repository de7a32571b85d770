"""Loads, stores and atomic operations, by state space."""

from __future__ import annotations

from convforge.testing.emulator.body import Body, cpp_type
from convforge.testing.emulator.opcodes import Modifiers, expect, opcode
from convforge.testing.emulator.opcodes.arithmetic import FLOATS, lifted
from convforge.testing.emulator.ptx import Instruction, type_bytes

_SPACES = {
    "shared": "shared",
    "shared_cta": "shared",
    "shared_cluster": "shared",
    "global": "global",
    "local": "local",
    "const": "global",
    "param": "param",
    "param_entry": "param",
    "param_func": "param",
}
# Orders and scopes hold anyway, where threads take turns; caches are not modelled.
_ORDER = (
    "weak",
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "mmio",
    "cta",
    "cluster",
    "gpu",
    "sys",
)
_CACHE = ("ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc")


def place(body: Body, i: Instruction, operand: str, space: str, bytes_: int, write: bool) -> str:
    """A pointer to what an address operand names, checked."""
    own, address = body.address(operand)
    where = (
        "param" if own == "param" else space or {"const": "global"}.get(own or "", own) or "generic"
    )
    use = "write" if write else "read"
    return f"at_{where}({body.site(i)}, {address}, {bytes_}, {bytes_}, {use})"


def _space(m: Modifiers) -> str:
    m.flag(*_ORDER)
    m.flag(*_CACHE)
    m.drop("L1_", "L2_", "level")
    return _SPACES.get(m.one(tuple(_SPACES)), "")


@opcode("ld", "ldu")
def load(body: Body, i: Instruction, m: Modifiers) -> str:
    """Loads; narrow values are extended into wide registers."""
    ptype = m.type()
    space = _space(m)
    vector = int(m.one(("v2", "v4", "v8"), "v1")[1:])
    size = type_bytes(ptype)
    targets = body.vector(i.operands[0])
    expect(len(targets) == vector)
    puts = " ".join(
        body.put(target, f"load<{cpp_type(ptype)}>(at + {n * size})")
        for n, target in enumerate(targets)
        if target != "_"
    )
    m.flag("L2_cache_hint")
    return (
        f"{{ const u8* at = {place(body, i, i.operands[1], space, size * vector, False)}; {puts} }}"
    )


@opcode("st")
def store(body: Body, i: Instruction, m: Modifiers) -> str:
    """Stores of the low bits of registers."""
    ptype = m.type()
    space = _space(m)
    vector = int(m.one(("v2", "v4", "v8"), "v1")[1:])
    size = type_bytes(ptype)
    sources = body.vector(i.operands[1])
    expect(len(sources) == vector)
    stores = " ".join(
        f"store(at + {n * size}, {body.value(source, ptype)});" for n, source in enumerate(sources)
    )
    return f"{{ u8* at = {place(body, i, i.operands[0], space, size * vector, True)}; {stores} }}"


_ATOMICS = ("add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas")


@opcode("atom", "red")
def atomic(body: Body, i: Instruction, m: Modifiers) -> str:
    """Read, change and write without anybody in between."""
    ptype = m.type()
    space = _space(m)
    m.flag("noftz", "async")
    operation = m.one(_ATOMICS)
    vector = int(m.one(("v2", "v4", "v8"), "v1")[1:])
    returns = i.opcode == "atom"
    operands = list(i.operands)
    targets = body.vector(operands.pop(0)) if returns else ["_"] * vector
    address, *values = operands
    ctype, size = cpp_type(ptype), type_bytes(ptype)
    steps = []
    for n, target in enumerate(targets):
        given = [
            body.value(body.vector(value)[n], ptype)
            for value in values[: 2 if operation == "cas" else 1]
        ]
        changed = _changed(operation, ptype, given)
        steps.append(
            f"{{ u8* to = at + {n * size}; auto old = load<{ctype}>(to); store(to, {changed});"
        )
        steps.append(f"{body.put(target, 'old')} }}")
    where = place(body, i, address, space, size * vector, True)
    return f"{{ u8* at = {where}; {' '.join(steps)} }}"


def _changed(operation: str, ptype: str, given: list[str]) -> str:
    ctype = cpp_type(ptype)
    match operation:
        case "add":
            return lifted("add<{}>", ptype, ["old", given[0]])
        case "min" | "max":
            name = {"min": "least", "max": "most"}[operation]
            return lifted(f"{name}<false, {{}}>", ptype, ["old", given[0]])
        case "and" | "or" | "xor":
            sign = {"and": "&", "or": "|", "xor": "^"}[operation]
            return f"({ctype})(old {sign} {given[0]})"
        case "inc" | "dec":
            return f"{operation}rement<{ctype}>(old, {given[0]})"
        case "exch":
            return given[0]
        case "cas":
            if ptype in FLOATS:
                raise ValueError(ptype)
            return f"old == {given[0]} ? {given[1]} : old"
    raise ValueError(operation)


@opcode(
    "prefetch",
    "prefetchu",
    "discard",
    "applypriority",
    "createpolicy",
    "fence",
    "membar",
    "nanosleep",
)
@opcode("griddepcontrol", "setmaxnreg", "pmevent")
def hint(body: Body, i: Instruction, m: Modifiers) -> str:
    """Caches, memory order and timing: nothing to do here."""
    m.words.clear()
    return body.put(i.operands[0], "(u64)0") if i.opcode == "createpolicy" else ";"
