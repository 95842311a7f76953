"""The repository as the tidy tests see it: files, syntax trees, and the ratchets agreed in pyproject.toml."""

import ast
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).parents[2]
TOPS = ("gateway", "tests", "bench")
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """A Python file: its path from the root, its text, its tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def functions(self) -> Iterator[Function]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def calls(self) -> Iterator[ast.Call]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node

    def code_lines(self, function: Function) -> int:
        """Lines with code of the function's own: no docstring, no comment, no blank, no function within."""
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if not body:
            return 0
        first, last = body[0].lineno, function.end_lineno or 0
        inner = {line for node in ast.walk(function) if node is not function and _is_function(node)
                 for line in range(node.lineno + 1, (node.end_lineno or 0) + 1)}  # fmt: skip
        return sum(first <= line <= last and line not in inner for line in _code_lines(self.name))


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


@cache
def _code_lines(name: str) -> frozenset[int]:
    """Lines on which a token stands that is not a comment; lines within a text of several lines count."""
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with (ROOT / name).open("rb") as file:
        return frozenset(
            line
            for token in tokenize.tokenize(file.readline)
            if token.type not in quiet and token.type != tokenize.ENCODING
            for line in range(token.start[0], token.end[0] + 1)
        )


@cache
def modules(*tops: str) -> tuple[Module, ...]:
    """The Python files below these folders; of all three when none is named."""
    paths = sorted(path for top in tops or TOPS for path in (ROOT / top).rglob("*.py"))
    return tuple(_read(path) for path in paths if "__pycache__" not in path.parts)


def _read(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    return Module(str(path.relative_to(ROOT)), text, ast.parse(text))


@cache
def agreed() -> dict[str, Any]:
    """`[tool.tidy]` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tidy"]
    return table
