"""The source of a sheet's references: what ``check.solution(number)`` shows under an exercise.

A solution is written once, as the reference that the sheet compares answers with. Shown is what the expression behind
``reference=`` names: the functions, classes and values of the sheet that it needs, in their order there, each with the
comments directly above it. ``reference=softmax`` shows the function alone; any other expression follows as
``answer = ...``, such as ``answer = (split, join)`` under the two functions.
"""
import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Solution", "reference_source"]

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign


@dataclass(frozen=True, repr=False)
class Solution:
    """The source of an answer: a notebook shows it as code, ``print`` as plain text."""

    source: str

    def __repr__(self) -> str:
        return self.source

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.source}\n```"


def reference_source(checker: Callable[[Any], Any]) -> str:
    """The source of the reference in the ``@sheet.exercise(...)`` that decorates a checker, with what it needs."""
    sheet = inspect.getsource(inspect.getmodule(checker))
    declaration = textwrap.dedent(inspect.getsource(checker))
    expression = _reference(declaration)
    defined = dict(_definitions(sheet))
    parts = [_with_comments(definition, sheet) for definition in _needed(expression, defined)]
    if not (isinstance(expression, ast.Name) and expression.id in defined):
        parts.append(f"answer = {ast.get_source_segment(declaration, expression)}")
    return "\n".join(parts).strip("\n")


def _reference(declaration: str) -> ast.expr:
    """The expression that a checker's decorator is given as ``reference``."""
    decorator = ast.parse(declaration).body[0].decorator_list[0]
    return next(keyword.value for keyword in decorator.keywords if keyword.arg == "reference")


def _definitions(sheet: str) -> Iterator[tuple[str, Definition]]:
    """The names that the source of a sheet defines, each with its definition."""
    for node in ast.parse(sheet).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((name, node) for target in node.targets for name in _names(target, ast.Store))


def _needed(expression: ast.expr, defined: dict[str, Definition]) -> list[Definition]:
    """The definitions that an expression uses, directly or through one another, in the order of the sheet."""
    found, unread = [], [expression]
    while unread:
        node = unread.pop()
        own = _names(node, ast.Store) | {argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)}
        used = [defined[name] for name in _names(node, ast.Load) - own if name in defined]
        fresh = [definition for definition in dict.fromkeys(used) if definition not in found]
        found, unread = found + fresh, unread + fresh
    return sorted(found, key=lambda definition: definition.lineno)


def _names(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, context)}


def _with_comments(definition: Definition, sheet: str) -> str:
    """The lines of a definition and of the comments directly above it; around a function or class, an empty line."""
    lines = sheet.splitlines()
    start = min([definition.lineno, *(line.lineno for line in getattr(definition, "decorator_list", []))]) - 1
    while start and lines[start - 1].startswith("#"):
        start -= 1
    source = "\n".join(lines[start:definition.end_lineno])
    return source if isinstance(definition, ast.Assign) else f"\n{source}\n"
