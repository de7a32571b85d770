"""docs/env.md lists exactly the environment variables that the code reads."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = re.compile(r"CONVFORGE_[A-Z0-9_]+")


def is_environ(node: ast.expr) -> bool:
    return ast.unparse(node) in ("os.environ", "environ")


def read_by(tree: ast.AST) -> set[str]:
    """Names that a module reads through ``os.environ`` or ``os.getenv``, and any of ours."""
    found = set()
    for node in ast.walk(tree):
        key = None
        if isinstance(node, ast.Subscript) and is_environ(node.value):
            key = node.slice if isinstance(node.ctx, ast.Load) else None
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            on_environ = isinstance(function, ast.Attribute) and is_environ(function.value)
            if on_environ or ast.unparse(function) in ("os.getenv", "getenv"):
                key = node.args[0]
        elif isinstance(node, ast.Compare) and any(map(is_environ, node.comparators)):
            key = node.left
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if OURS.fullmatch(node.value) else set()
        if key is not None:
            assert isinstance(key, ast.Constant), f"not a literal name: {ast.unparse(node)}"
            found.add(key.value)
    return found


def test_the_reader_sees_every_form():
    code = """
import os
os.environ["A"]; os.environ["SET"] = "1"
os.environ.get("B", "1"); os.getenv("C"); "D" in os.environ
NAME = "CONVFORGE_E"
"""
    assert read_by(ast.parse(code)) == {"A", "B", "C", "D", "CONVFORGE_E"}


def test_documented_and_read_variables_are_the_same():
    page = (ROOT / "docs/env.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", page, flags=re.MULTILINE))
    read = set()
    for folder in ("src", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= read_by(ast.parse(path.read_text(encoding="utf-8")))
    assert documented == read
