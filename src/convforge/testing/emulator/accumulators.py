"""Which registers hold what a ``wgmma`` computes in the background."""

from __future__ import annotations

import re
from collections.abc import Iterable

from convforge.testing.emulator.ptx import Instruction

_REGISTER = re.compile(r"%[\w$]+")


class Accumulators:
    """Registers of one function by accumulator: results of ``wgmma``, and copies of these.

    Compilers copy accumulators between registers while products are in flight, and the assembler
    renames the copies away; anything else that reads one must come after the wait.
    """

    def __init__(self, instructions: Iterable[Instruction]) -> None:
        self._numbers: dict[str, str] = {}
        moves = []
        for i in instructions:
            if i.opcode == "wgmma" and i.modifiers[0] == "mma_async":
                names = _REGISTER.findall(i.operands[0])
                for name in names:
                    self._join(names[0], name)
            elif i.opcode == "mov" and i.operands and not i.operands[0].startswith("{"):
                moves.append(i.operands)
        changed = bool(self._numbers)
        while changed:
            changed = False
            for to, source in moves:
                if source in self._numbers and self._root(to) != self._root(source):
                    self._join(source, to)
                    changed = True

    def number(self, register: str) -> int:
        """The accumulator's number."""
        return sorted({self._root(name) for name in self._numbers}).index(self._root(register))

    def read_by(self, i: Instruction) -> set[int]:
        """Accumulators that an instruction reads, other than to copy or to add to them."""
        if not self._numbers or i.opcode in ("mov", "wgmma"):
            return set()
        first = 0 if i.opcode in ("st", "red") else 1
        names = _REGISTER.findall(" ".join(i.operands[first:]))
        return {self.number(name) for name in names if name in self._numbers}

    def _root(self, name: str) -> str:
        while self._numbers.get(name, name) != name:
            name = self._numbers[name]
        return name

    def _join(self, a: str, b: str) -> None:
        self._numbers.setdefault(a, a)
        self._numbers.setdefault(b, b)
        self._numbers[self._root(b)] = self._root(a)
