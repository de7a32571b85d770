"""PTX to C++: every function one of C++, every register a variable, every label a label."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from convforge.testing.emulator import opcodes
from convforge.testing.emulator.body import Body, ModuleNames, identifier
from convforge.testing.emulator.opcodes import (  # noqa: F401  (families register their opcodes)
    arithmetic,
    asynchronous,
    control,
    conversion,
    logic,
    matrix,
    memory,
    warp,
)
from convforge.testing.emulator.ptx import (
    Function,
    Instruction,
    Label,
    Module,
    Registers,
    Scope,
    Statement,
    Targets,
    UnsupportedPTX,
    Variable,
    parse,
    type_bytes,
)

_STACK_BYTES = 128 << 10


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an entry: bytes at an offset."""

    name: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A kernel: its number, parameters, static shared memory, and the most threads of a block."""

    number: int
    parameters: tuple[Parameter, ...]
    shared_bytes: int
    most_threads: int | None

    @property
    def parameter_bytes(self) -> int:
        """Of all parameters."""
        return max((p.offset + p.nbytes for p in self.parameters), default=0)


@dataclass(frozen=True, slots=True)
class Translation:
    """What a module became.

    Attributes:
        source: C++.
        entries: By name, in the order of the text.
        sites: PTX lines, by the numbers that the C++ uses.
    """

    source: str
    entries: Mapping[str, Entry]
    sites: tuple[int, ...]


def translate(ptx: str) -> Translation:
    """Translate a module.

    Raises:
        UnsupportedPTX: It holds something that the emulator does not know.
    """
    module = parse(ptx)
    names = ModuleNames()
    names.functions = {f.name: f for f in module.functions if f.body is not None}
    if not any(f.is_entry for f in names.functions.values()):
        raise UnsupportedPTX("a module without an entry", 1)
    variables = [v for v in module.variables if v.space in ("global", "const") and not v.external]
    names.variables = {v.name: f"g_{identifier(v.name)}" for v in variables}
    for variable in _shared(module):
        names.add_shared(variable)
    bodies = {name: _body(function, names) for name, function in names.functions.items()}
    entries: dict[str, Entry] = {}
    parts = ['#include "emulator.h"', "using namespace emulator;", "namespace {"]
    parts += [_memory(variable, names) for variable in variables]
    parts += [f"void f_{identifier(name)}({_arguments(f)});" for name, f in names.functions.items()]
    parts += [_definition(f, bodies[name]) for name, f in names.functions.items()]
    table = []
    for name, function in names.functions.items():
        if function.is_entry:
            offsets, shared_bytes = _layout(names, _reached(name, bodies))
            entry = Entry(len(entries), _parameters(function), shared_bytes, function.most_threads)
            entries[name] = entry
            parts.append(f"const u32 offsets_{entry.number}[] = {{{_list(offsets)}}};")
            table.append(
                f'{{"{name}", (void (*)(const u8*))f_{identifier(name)}, {entry.parameter_bytes}, '
                f"{shared_bytes}, offsets_{entry.number}}}"
            )
    frame = _STACK_BYTES + sum(
        32 * len(body.registers) + 2 * sum(nbytes for nbytes, _, _ in body.arrays.values())
        for body in bodies.values()
    )
    memory_table = [
        f"{{{names.variables[v.name]}, {v.nbytes}, {str(v.space == 'global').lower()}, "
        f"initial_{names.variables[v.name]}}}"
        for v in variables
    ]
    parts += [
        "}  // namespace",
        "namespace emulator {",
        f"const Site sites[] = {{{_list(names.sites)}}};",
        f"const int site_count = {len(names.sites)};",
        f"const Loop loops[] = {{{_list(f'{{{a}, {b}}}' for a, b in names.loops) or '{}'}}};",
        f"const int loop_count = {len(names.loops)};",
        f"const Entry entries[] = {{{_list(table)}}};",
        f"const Variable variables[] = {{{_list(memory_table) or '{}'}}};",
        f"const int variable_count = {len(memory_table)};",
        f"const u64 frame_bytes = {(frame + 4095) & ~4095};",
        "}  // namespace emulator",
    ]
    return Translation("\n".join(parts) + "\n", entries, tuple(names.sites))


def _shared(module: Module) -> Iterator[Variable]:
    """Shared variables; those whose size the launch gives come last."""
    found = [v for v in module.variables if v.space == "shared"]
    for function in module.functions:
        for statement in function.body or ():
            if isinstance(statement, Variable) and statement.space == "shared":
                found.append(statement)
    yield from sorted(found, key=lambda variable: variable.count == 0)


def _layout(names: ModuleNames, used: set[str]) -> tuple[list[int], int]:
    """Offsets of all shared variables in the memory of an entry, and its static bytes."""
    offsets, end = [], 0
    for variable in names.shared_variables:
        if variable.name not in used:
            offsets.append(0)
            continue
        end = -(-end // variable.alignment) * variable.alignment
        offsets.append(end)
        end += variable.nbytes
    return offsets, end


def _reached(name: str, bodies: Mapping[str, Body]) -> set[str]:
    """What a function and those that it calls name."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += bodies[current].used if current in bodies else ()
    return seen


def _parameters(function: Function) -> tuple[Parameter, ...]:
    found, end = [], 0
    for variable in function.parameters:
        end = -(-end // variable.alignment) * variable.alignment
        found.append(Parameter(variable.name, end, variable.nbytes))
        end += variable.nbytes
    return tuple(found)


def _arguments(function: Function) -> str:
    if function.is_entry:
        return "u8* parameters"
    variables = (*function.returns, *function.parameters)
    return ", ".join(f"u8* p_{identifier(v.name)}" for v in variables)


def _body(function: Function, names: ModuleNames) -> Body:
    """Translate every statement of a function."""
    body = Body(function, names)
    statements = function.body or ()
    body.know_labels(_labels(statements, 0))
    body.targets = {s.name: s.labels for s in statements if isinstance(s, Targets)}
    for number, statement in enumerate(statements):
        body.line = statement.line
        match statement:
            case Instruction():
                _instruction(body, statement)
            case Label():
                body.place_label(statement.name)
            case Scope(opens=True):
                body.open_scope()
                body.know_labels(_labels(statements, number + 1))
            case Scope():
                body.close_scope()
            case Registers():
                body.declare_registers(statement)
            case Variable() if statement.space != "shared":
                body.declare_memory(statement)
    return body


def _labels(statements: tuple[Statement, ...], first: int) -> list[str]:
    """Labels of the scope that begins at a statement, not those of scopes within."""
    found, depth = [], 0
    for statement in statements[first:]:
        if isinstance(statement, Scope):
            depth += 1 if statement.opens else -1
            if depth < 0:
                break
        elif isinstance(statement, Label) and depth == 0:
            found.append(statement.name)
    return found


def _instruction(body: Body, instruction: Instruction) -> None:
    statements = opcodes.translate(body, instruction)
    for number in body.accumulators.read_by(instruction):
        statements = f"accumulator_read({body.site(instruction)}, {number}); {statements}"
    if instruction.guard:
        guard = body.value(instruction.guard, "pred")
        statements = f"if ({'!' if instruction.negated else ''}{guard}) {{ {statements} }}"
    body.lines.append(f"  {statements}  // {instruction.line}")


def _definition(function: Function, body: Body) -> str:
    lines = [f"void f_{identifier(function.name)}({_arguments(function)}) {{"]
    if function.is_entry:
        lines += [
            f"  u8* p_{identifier(p.name)} = parameters + {p.offset}; (void)p_{identifier(p.name)};"
            for p in _parameters(function)
        ]
    # Registers hold garbage before they are written, and the same garbage every time.
    lines += [
        f"  {ctype} {name} = ({ctype})0xBAD0BAD0BAD0BAD0ull;"
        for name, ctype in sorted(body.registers.items())
    ]
    for name, (nbytes, alignment, local) in body.arrays.items():
        lines.append(f"  alignas({alignment}) u8 {name}[{nbytes}];")
        if local:
            lines.append(f"  Local local_{name}({name}, {nbytes});")
    return "\n".join([*lines, *body.lines, "}"])


def _memory(variable: Variable, names: ModuleNames) -> str:
    name = names.variables[variable.name]
    initial = b"".join(_bytes(value, variable) for value in variable.values)
    initial = initial.ljust(max(variable.nbytes, 1), b"\0")
    return (
        f"alignas({max(variable.alignment, 16)}) u8 {name}[{len(initial)}];\n"
        f"const u8 initial_{name}[] = {{{_list(initial)}}};"
    )


def _bytes(value: str, variable: Variable) -> bytes:
    size = type_bytes(variable.type)
    if found := re.fullmatch(r"0[fFdD]([0-9a-fA-F]+)", value):
        if size == 8 and len(found[1]) == 8:
            return struct.pack("<d", struct.unpack("<f", bytes.fromhex(found[1])[::-1])[0])
        return int(found[1], 16).to_bytes(size, "little")
    try:
        return (int(value.rstrip("U"), 0) % (1 << (8 * size))).to_bytes(size, "little")
    except ValueError:
        raise UnsupportedPTX(f"initial value {value}", variable.line) from None


def _list(items: Iterable[object]) -> str:
    return ", ".join(map(str, items))
