"""The body of one function on its way to C++: names, operands, and where things stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from convforge.testing.emulator.accumulators import Accumulators
from convforge.testing.emulator.ptx import (
    Function,
    Instruction,
    Registers,
    UnsupportedPTX,
    Variable,
    type_bytes,
)

_INTEGER = re.compile(r"(-?)(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?")
_SPECIAL = {
    **{
        f"%{name}.{axis}": f"{variable}.{axis}"
        for name, variable in {
            "tid": "thread_index",
            "ntid": "block_size",
            "ctaid": "block_index",
            "nctaid": "grid_size",
        }.items()
        for axis in "xyz"
    },
    # A cluster of one block.
    **{f"%cluster_ctaid.{axis}": "0" for axis in "xyz"},
    **{f"%cluster_nctaid.{axis}": "1" for axis in "xyz"},
    **{f"%clusterid.{axis}": f"block_index.{axis}" for axis in "xyz"},
    **{f"%nclusterid.{axis}": f"grid_size.{axis}" for axis in "xyz"},
    "%cluster_ctarank": "0",
    "%cluster_nctarank": "1",
    "%is_explicit_cluster": "0",
    "%laneid": "lane()",
    "%warpid": "warp()",
    "%nwarpid": "((block_size.x * block_size.y * block_size.z + 31) / 32)",
    "%smid": "0",
    "%nsmid": "1",
    "%gridid": "0",
    "%clock": "clock()",
    "%clock64": "clock()",
    "%clock_hi": "(clock() >> 32)",
    "%globaltimer": "clock()",
    "%lanemask_eq": "(1u << lane())",
    "%lanemask_lt": "((1u << lane()) - 1)",
    "%lanemask_le": "((2u << lane()) - 1)",
    "%lanemask_gt": "~((2u << lane()) - 1)",
    "%lanemask_ge": "~((1u << lane()) - 1)",
    "%total_smem_size": "shared_bytes",
}


def cpp_type(name: str) -> str:
    """The C++ name of a scalar type: untyped bits are unsigned integers."""
    return f"u{name[1:]}" if name[0] == "b" and name[1:].isdigit() else name


def identifier(name: str) -> str:
    """A PTX name as part of a C++ one: different names stay different."""
    return re.sub(
        r"[^a-zA-Z0-9]",
        lambda found: {"$": "_S", "%": "_P", "_": "_U"}.get(found[0], f"_x{ord(found[0]):x}_"),
        name,
    )


class ModuleNames:
    """What all functions of a module share.

    Attributes:
        shared: Numbers of the shared variables.
        variables: C++ names of global and constant variables.
        functions: Functions that may be called.
        sites: PTX lines of the instructions that touch memory or wait.
        loops: First and last site of each loop.
    """

    def __init__(self) -> None:
        self.shared: dict[str, int] = {}
        self.shared_variables: list[Variable] = []
        self.variables: dict[str, str] = {}
        self.functions: dict[str, Function] = {}
        self.sites: list[int] = []
        self.loops: list[tuple[int, int]] = []

    def add_shared(self, variable: Variable) -> None:
        """Give a shared variable its number."""
        if variable.name not in self.shared:
            self.shared[variable.name] = len(self.shared_variables)
            self.shared_variables.append(variable)


class Body:
    """Collects the C++ of a function.

    Attributes:
        used: Shared variables and functions that it names.
    """

    def __init__(self, function: Function, names: ModuleNames) -> None:
        self.function = function
        self.names = names
        self.lines: list[str] = []
        self.registers: dict[str, str] = {}  # C++ name to C++ type
        self.arrays: dict[str, tuple[int, int, bool]] = {}  # to bytes, alignment, whether local
        self.used: set[str] = set()
        self.targets: dict[str, tuple[str, ...]] = {}
        self._heads: dict[str, int] = {}  # labels already written, and the site that came next
        self._loops: dict[str, int] = {}
        self.line = function.line
        self.accumulators = Accumulators(
            statement for statement in function.body or () if isinstance(statement, Instruction)
        )
        self._scopes: list[_Names] = [_Names(0)]
        self._scope_count = 0
        for variable in (*function.returns, *function.parameters):
            self._scopes[0].memory[variable.name] = ("param", f"p_{identifier(variable.name)}")

    # --- names
    def open_scope(self) -> None:
        """Enter a brace."""
        self._scope_count += 1
        self._scopes.append(_Names(self._scope_count))

    def close_scope(self) -> None:
        """Leave a brace."""
        self._scopes.pop()

    def declare_registers(self, registers: Registers) -> None:
        """Take note of registers; those never used cost nothing."""
        scope = self._scopes[-1]
        ctype = "bool" if registers.type == "pred" else f"u{8 * type_bytes(registers.type)}"
        for name, count in registers.names:
            if count is None:
                scope.registers[name] = ctype
            else:
                scope.ranges[name] = (count, ctype)

    def declare_memory(self, variable: Variable) -> None:
        """A local array, a parameter of a call, or a variable of the module declared within."""
        if variable.space in ("global", "const"):
            raise UnsupportedPTX(f".{variable.space} within a function", variable.line)
        scope = self._scopes[-1]
        name = f"m{scope.number}_{identifier(variable.name)}"
        scope.memory[variable.name] = (variable.space, name)
        self.arrays[name] = (
            max(variable.nbytes, 1),
            max(variable.alignment, 8),
            variable.space == "local",
        )

    def label(self, name: str) -> str:
        """The C++ label: that of the innermost scope which has it."""
        for scope in reversed(self._scopes):
            if name in scope.labels:
                return f"L{scope.number}_{identifier(name)}"
        raise UnsupportedPTX(f"no label {name}", self.line)

    def place_label(self, name: str) -> None:
        """Write a label; branches to it that come later go back."""
        label = self.label(name)
        self._heads[label] = len(self.names.sites)
        self.lines.append(f"{label}:;")

    def loop(self, label: str, site: int) -> int | None:
        """The number of the loop that a branch to a C++ label closes; None if it goes forward."""
        if label not in self._heads:
            return None
        number = self._loops.setdefault(label, len(self.names.loops))
        self.names.loops[number:] = [(self._heads[label], site), *self.names.loops[number + 1 :]]
        return number

    def know_labels(self, labels: Sequence[str]) -> None:
        """Labels of the scope just entered, which may be branched to before they come."""
        self._scopes[-1].labels.update(labels)

    def register(self, name: str) -> str:
        """The C++ variable of a register."""
        for scope in reversed(self._scopes):
            ctype = scope.type_of(name)
            if ctype:
                found = f"r{scope.number}_{identifier(name)}"
                self.registers[found] = ctype
                return found
        raise UnsupportedPTX(f"no register {name}", self.line)

    def memory(self, name: str) -> tuple[str, str] | None:
        """State space and address of a named piece of memory."""
        for scope in reversed(self._scopes):
            if name in scope.memory:
                space, variable = scope.memory[name]
                return space, f"(u64){variable}"
        if name in self.names.shared:
            self.used.add(name)
            return "shared", f"shared_variable({self.names.shared[name]})"
        if name in self.names.variables:
            return "global", f"(u64){self.names.variables[name]}"
        return None

    def accumulator(self, register: str) -> int:
        """The number of the accumulator that a ``wgmma`` writes."""
        return self.accumulators.number(register)

    # --- operands
    def is_register(self, operand: str) -> bool:
        """Whether an operand is a declared register."""
        return any(scope.type_of(operand) for scope in self._scopes)

    def registers_type(self, operand: str) -> str | None:
        """The C++ type of a register: ``bool`` for predicates."""
        return next(filter(None, (s.type_of(operand) for s in reversed(self._scopes))), None)

    def value(self, operand: str, ptype: str) -> str:
        """The C++ expression of an operand read as a type."""
        ctype = cpp_type(ptype)
        if operand.startswith("!"):
            return f"!{self.value(operand[1:], ptype)}"
        if self.is_register(operand):
            return f"as<{ctype}>({self.register(operand)})"
        if found := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", operand):
            return _literal(f"0x{found[1]}u", "u32", "f32", ctype)
        if found := re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", operand):
            return _literal(f"0x{found[1]}ull", "u64", "f64", ctype)
        if found := _INTEGER.fullmatch(operand):
            digits = found[2]
            if re.fullmatch(r"0\d+", digits):
                digits = f"0{digits}"  # octal in both languages
            if ctype in ("f32", "f64"):
                return f"bits<{ctype}>((u{ctype[1:]}){found[1]}{digits}ull)"
            if ctype in ("f16", "bf16"):
                return f"bits<{ctype}>((u16){digits}ull)"
            return f"({ctype})({found[1]}{digits}ull)"
        if operand in _SPECIAL:
            return f"({ctype}){_SPECIAL[operand]}"
        if operand == "WARP_SZ":
            return f"({ctype})32"
        symbol, _, offset = map(str.strip, operand.partition("+"))
        found_memory = self.memory(symbol)
        if found_memory and _INTEGER.fullmatch(offset or "0"):
            return f"({ctype})({found_memory[1]} + {offset or 0})"
        raise UnsupportedPTX(f"operand {operand}", self.line)

    def address(self, operand: str) -> tuple[str | None, str]:
        """State space (where the operand says it) and address of ``[base+offset]``."""
        inner = operand.strip()[1:-1].strip()
        found = re.fullmatch(r"([^+\s]+)\s*(?:\+\s*(-?\w+))?", inner)
        if not found or not _INTEGER.fullmatch(found[2] or "0"):
            raise UnsupportedPTX(f"address {operand}", self.line)
        base, offset = found[1], found[2] or "0"
        if self.registers_type(base) == "u32":  # of shared memory: computed in 32 bits
            return None, f"(u64)(u32)({self.register(base)} + (u32)({offset}))"
        if self.is_register(base):
            return None, f"as<u64>((u64){self.register(base)}) + (s64)({offset})"
        if memory := self.memory(base):
            return memory[0], f"{memory[1]} + (s64)({offset})"
        if _INTEGER.fullmatch(base):
            return None, f"(u64){base} + (s64)({offset})"
        raise UnsupportedPTX(f"address {operand}", self.line)

    def vector(self, operand: str) -> list[str]:
        """The elements of ``{a, b}``; of anything else itself."""
        if not operand.startswith("{"):
            return [operand]
        return [part.strip() for part in operand[1:-1].split(",")]

    def put(self, operand: str, expression: str) -> str:
        """Write an expression to a register; ``_`` takes nothing."""
        if operand == "_":
            return f"(void)({expression});"
        return f"put({self.register(operand)}, {expression});"

    def site(self, instruction: Instruction) -> int:
        """The number of an instruction that may be named in a finding."""
        if not self.names.sites or self.names.sites[-1] != instruction.line:
            self.names.sites.append(instruction.line)
        return len(self.names.sites) - 1


class _Names:
    """What one scope declares."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.registers: dict[str, str] = {}
        self.ranges: dict[str, tuple[int, str]] = {}
        self.memory: dict[str, tuple[str, str]] = {}
        self.labels: set[str] = set()

    def type_of(self, name: str) -> str | None:
        if name in self.registers:
            return self.registers[name]
        found = re.fullmatch(r"(.*?)(0|[1-9]\d*)", name)
        if found and found[1] in self.ranges:
            count, ctype = self.ranges[found[1]]
            if int(found[2]) < count:
                return ctype
        return None


def _literal(pattern: str, integer: str, own: str, wanted: str) -> str:
    """A floating-point literal for an operation of floats, or of bits."""
    if wanted in ("f32", "f64"):
        return f"({wanted})bits<{own}>(({integer}){pattern})"
    return f"({wanted}){pattern}"
