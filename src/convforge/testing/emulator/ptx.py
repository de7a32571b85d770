"""PTX text as data: functions of statements, and variables. Knows no opcode."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass


class UnsupportedPTX(NotImplementedError):
    """Something in the PTX that the emulator does not know; the message names it and its line."""

    def __init__(self, what: str, line: int, text: str = "") -> None:
        super().__init__(f"PTX line {line}: {what}" + (f", in {text!r}" if text else ""))


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        line: Its line in the text, from 1.
        text: Itself, on one line.
        guard: The predicate before it, without ``@`` and ``!``.
        negated: Whether there was a ``!``.
        opcode: The word before the first dot.
        modifiers: The words behind it.
        operands: As written; ``{...}``, ``[...]`` and ``(...)`` are one each.
    """

    line: int
    text: str
    guard: str | None
    negated: bool
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """A place to branch to."""

    line: int
    name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A brace: names declared within belong to it."""

    line: int
    opens: bool


@dataclass(frozen=True, slots=True)
class Registers:
    """A ``.reg`` declaration: ``%r<8>`` are the names %r0 to %r7."""

    line: int
    type: str
    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared piece of memory.

    Attributes:
        space: ``global``, ``const``, ``shared``, ``local`` or ``param``.
        type: Of an element.
        count: Elements; 0 where another module, or the launch, says how many.
        values: Initial ones; empty for zeros.
    """

    line: int
    space: str
    type: str
    name: str
    alignment: int
    count: int
    values: tuple[str, ...] = ()
    external: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.count * type_bytes(self.type)


@dataclass(frozen=True, slots=True)
class Targets:
    """A table of labels for ``brx.idx``."""

    line: int
    name: str
    labels: tuple[str, ...]


Statement = Instruction | Label | Scope | Registers | Variable | Targets


@dataclass(frozen=True, slots=True)
class Function:
    """An entry or a device function.

    Attributes:
        body: None where it is only declared.
        most_threads: Of a block, by ``.maxntid``; None where it does not say.
    """

    line: int
    name: str
    is_entry: bool
    returns: tuple[Variable, ...]
    parameters: tuple[Variable, ...]
    body: tuple[Statement, ...] | None
    most_threads: int | None = None


@dataclass(frozen=True, slots=True)
class Module:
    """What a text defines."""

    functions: tuple[Function, ...]
    variables: tuple[Variable, ...]


def type_bytes(name: str) -> int:
    """Bytes of a scalar type such as ``u32``, ``f16x2`` or ``pred``."""
    if name == "pred":
        return 1
    packed = re.fullmatch(r"[a-z]+(\d+)(?:x(\d))?", name)
    if not packed:
        raise ValueError(f"{name!r} is no PTX type")
    return int(packed[1]) * int(packed[2] or 1) // 8


def parse(text: str) -> Module:
    """Read a module."""
    return _Reader(_without_comments(text)).module()


def _without_comments(text: str) -> str:
    """The text with blanks for comments, line by line the same."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    text = re.sub(r"/\*.*?\*/", blank, text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


_DIRECTIVE_LINE = re.compile(r"\.(?:version|target|address_size|file|loc)\b[^\n;]*(?:\n|;)")
_SECTION = re.compile(r"\.section\b[^{]*\{[^}]*\}")
_FUNCTION = re.compile(r"(?:\.(?:visible|extern|weak|common)\s+)*\.(entry|func)\b")
_LABEL = re.compile(r"([$%\w]+)\s*:(?!:)")
_TARGETS = re.compile(r"([$%\w]+)\s*:\s*\.branchtargets\s+([^;]*);")
_PROTOTYPE = re.compile(r"[$%\w]+\s*:\s*\.callprototype")
_VARIABLE = re.compile(
    r"(?P<linkage>(?:\.(?:visible|extern|weak|common)\s+)*)\.(?P<space>global|const|shared|local|param)\s+"
    r"(?P<attributes>(?:\.(?:align\s+\d+|ptr|global|shared|const|local|attribute\([^)]*\))\s+)*)"
    r"\.(?P<type>\w+)\s+(?P<more>(?:\.(?:ptr|global|shared|const|local|align\s+\d+)\s+)*)"
    r"(?P<name>[$%\w]+)\s*(?P<extent>(?:\[\s*\d*\s*\]\s*)*)(?:=\s*(?P<values>.*))?$",
    re.S,
)


class _Reader:
    """Goes through the text once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._counted = 0
        self._line = 1

    def line(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def until(self, end: str) -> str:
        """The text before the next ``end``, which is passed too."""
        stop = self.text.find(end, self.at)
        if stop < 0:
            raise UnsupportedPTX(f"no {end!r} to the end of the text", self.line())
        found = self.text[self.at : stop]
        self.at = stop + 1
        return found

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self.text, self.at)

    def module(self) -> Module:
        functions: list[Function] = []
        variables: list[Variable] = []
        while True:
            self.skip_space()
            if self.at == len(self.text):
                return Module(tuple(functions), tuple(variables))
            if found := self.match(_DIRECTIVE_LINE) or self.match(_SECTION):
                self.at = found.end()
            elif self.match(_FUNCTION):
                functions.append(self.function())
            else:
                line = self.line()
                statement = self.until(";").strip()
                if not statement.startswith((".pragma", ".alias")):
                    variables.append(_variable(statement, line))

    def function(self) -> Function:
        line = self.line()
        stop = min(i for i in (self.text.find(c, self.at) for c in "{;") if i >= 0)
        head, declared_only = self.text[self.at : stop], self.text[stop] == ";"
        self.at = stop + 1
        found = re.fullmatch(
            r"(?:\.\w+\s+)*?\.(entry|func)\s*(?:\.noreturn\s*)?(?:\(([^)]*)\)\s*)?([$%\w]+)\s*"
            r"(?:\((.*?)\))?\s*((?:\.[^()]*)?)\s*",
            head,
            re.S,
        )
        if not found:
            raise UnsupportedPTX("a function head", line, " ".join(head.split()))
        kind, returns, name, parameters, directives = found.groups()
        limit = re.search(r"\.maxntid\s+(\d+(?:\s*,\s*\d+)*)", directives)
        body = None if declared_only else tuple(self.body())
        return Function(
            line,
            name,
            kind == "entry",
            _parameters(returns, line),
            _parameters(parameters, line),
            body,
            math.prod(int(n) for n in limit[1].split(",")) if limit else None,
        )

    def body(self) -> Iterator[Statement]:
        depth = 1
        while True:
            self.skip_space()
            character, line = self.text[self.at], self.line()
            if character in "{}":
                self.at += 1
                depth += 1 if character == "{" else -1
                if depth == 0:
                    return
                yield Scope(line, character == "{")
            elif found := self.match(_TARGETS):
                self.at = found.end()
                yield Targets(line, found[1], tuple(_split(found[2])))
            elif self.match(_PROTOTYPE):
                raise UnsupportedPTX("a call through a pointer", line)
            elif found := self.match(_LABEL):
                self.at = found.end()
                yield Label(line, found[1])
            elif found := self.match(_DIRECTIVE_LINE):
                self.at = found.end()
            else:
                statement = " ".join(self.until(";").split())
                if not statement.startswith("."):
                    yield _instruction(statement, line)
                elif statement.startswith(".reg"):
                    yield _registers(statement, line)
                elif not statement.startswith(".pragma"):
                    yield _variable(statement, line)


def _instruction(text: str, line: int) -> Instruction:
    guard, negated, rest = None, False, text
    if found := re.match(r"@(!?)([%$\w]+)\s+", text):
        guard, negated, rest = found[2], bool(found[1]), text[found.end() :]
    word, _, operands = rest.partition(" ")
    opcode, *modifiers = word.replace("::", "_").split(".")
    return Instruction(
        line, text, guard, negated, opcode, tuple(modifiers), tuple(_split(operands))
    )


def _split(text: str) -> list[str]:
    """At the commas that no bracket holds; ``a|b`` stays together."""
    parts, depth, current = [], 0, ""
    for character in text:
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    if current.strip():
        parts.append(current.strip())
    return parts


def _registers(text: str, line: int) -> Registers:
    found = re.match(r"\.reg\s+(?:\.v[24]\s+)?\.(\w+)\s+(.*)$", text)
    if not found:
        raise UnsupportedPTX("a declaration of registers", line, text)
    names: list[tuple[str, int | None]] = []
    for name in _split(found[2]):
        many = re.fullmatch(r"([%$\w]+)<(\d+)>", name)
        names.append((many[1], int(many[2])) if many else (name, None))
    return Registers(line, found[1], tuple(names))


def _variable(text: str, line: int) -> Variable:
    found = _VARIABLE.match(text.strip())
    if not found:
        raise UnsupportedPTX("a declaration", line, " ".join(text.split())[:200])
    alignment = re.search(r"\.align\s+(\d+)", found["attributes"])
    count = 1
    external = "extern" in found["linkage"]
    for extent in re.findall(r"\[\s*(\d*)\s*\]", found["extent"]):
        count *= int(extent or 0)
    values: tuple[str, ...] = ()
    if found["values"]:
        values = tuple(re.findall(r"[^\s{},]+", found["values"]))
        count = max(count, len(values))
    element = type_bytes(found["type"])
    return Variable(
        line,
        found["space"],
        found["type"],
        found["name"],
        int(alignment[1]) if alignment else element,
        count,
        values,
        external,
    )


def _parameters(text: str | None, line: int) -> tuple[Variable, ...]:
    return tuple(_variable(part, line) for part in _split(text or ""))
