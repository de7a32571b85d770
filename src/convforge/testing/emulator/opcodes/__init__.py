"""Opcodes by family: each turns an instruction into C++ statements.

A family registers its functions under the opcodes that they translate. A function takes the
modifiers that it knows; one that is left over is an error, as is an opcode that nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from convforge.testing.emulator.body import Body
from convforge.testing.emulator.ptx import Instruction, UnsupportedPTX, type_bytes


class Modifiers:
    """The words behind an opcode, taken one by one."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = list(words)

    def flag(self, *names: str) -> bool:
        """Whether one of these words is there; takes all of them."""
        found = [word for word in self.words if word in names]
        self.words = [word for word in self.words if word not in names]
        return bool(found)

    def one(self, names: tuple[str, ...], default: str = "") -> str:
        """The first of the words that is one of ``names``."""
        for i, word in enumerate(self.words):
            if word in names:
                return self.words.pop(i)
        return default

    def drop(self, *prefixes: str) -> None:
        """Take words that mean nothing here, such as cache hints."""
        self.words = [word for word in self.words if not word.startswith(prefixes)]

    def type(self) -> str:
        """The last word, as a type."""
        if not self.words:
            raise ValueError("no type")
        type_bytes(self.words[-1])
        return self.words.pop()


Translate = Callable[[Body, Instruction, Modifiers], str]
_OPCODES: dict[str, Translate] = {}

ROUNDING: Mapping[str, str] = {
    "rn": "FE_TONEAREST",
    "rz": "FE_TOWARDZERO",
    "rm": "FE_DOWNWARD",
    "rp": "FE_UPWARD",
}
"""PTX's rounding modes in C's words."""


def expect(form: bool) -> None:
    """Refuse an instruction that has not this form."""
    if not form:
        raise ValueError("another form")


def opcode(*names: str) -> Callable[[Translate], Translate]:
    """Register a function for these opcodes."""

    def register(function: Translate) -> Translate:
        for name in names:
            _OPCODES[name] = function
        return function

    return register


def known() -> frozenset[str]:
    """All opcodes that can be translated."""
    return frozenset(_OPCODES)


def family(name: str) -> str:
    """The file that translates an opcode."""
    return _OPCODES[name].__module__.rpartition(".")[2]


def translate(body: Body, instruction: Instruction) -> str:
    """The C++ statements of an instruction, without its guard.

    Raises:
        UnsupportedPTX: The opcode, a modifier or an operand is not known.
    """
    function = _OPCODES.get(instruction.opcode)
    line, text = instruction.line, instruction.text
    if function is None:
        raise UnsupportedPTX(f"unknown opcode {instruction.opcode}", line, text)
    modifiers = Modifiers(instruction.modifiers)
    try:
        statements = function(body, instruction, modifiers)
    except (IndexError, KeyError, ValueError) as error:
        raise UnsupportedPTX(f"unknown form of {instruction.opcode}", line, text) from error
    if modifiers.words:
        unknown = ", ".join(f".{word}" for word in modifiers.words)
        raise UnsupportedPTX(f"unknown modifier {unknown} of {instruction.opcode}", line, text)
    return statements
