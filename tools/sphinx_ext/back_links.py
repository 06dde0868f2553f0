"""Links back to the chapters, computed when the book is built, so that they follow what the chapters say.

Behind each term of the glossary stands the chapter that introduces it: the first that prints it in bold, or else the first that
uses it. Below each heading of an interface page stand the chapters that import from the module.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml
from sphinx.application import Sphinx

SHOWN = 6  # chapters behind a module


class Chapter(NamedTuple):
    path: str  # from the root, with its suffix
    title: str
    text: str  # its Markdown
    modules: frozenset[str]  # of tutorlib, from which its cells import


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_links(app: Sphinx, page: str, source: list[str]) -> None:
    root = Path(app.srcdir)
    if page == "book/glossary":
        source[0] = with_first_uses(source[0], chapters(root))
    elif page.startswith("book/api/"):
        source[0] = with_users(source[0], chapters(root))


@cache
def chapters(root: Path) -> tuple[Chapter, ...]:
    """The chapters in the book's order."""
    parts = yaml.safe_load((root / "_toc.yml").read_text("utf8"))["parts"]
    files = [entry["file"] for part in parts for entry in part["chapters"] if entry["file"].startswith("chapters/")]
    return tuple(read(root, f"{file}.ipynb") for file in files)


def read(root: Path, path: str) -> Chapter:
    cells = json.loads((root / path).read_text("utf8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    code = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return Chapter(path, re.search(r"^# (.+)$", text, re.M)[1], text, frozenset(imported(root, code)))


def imported(root: Path, codes: Iterable[str]) -> Iterator[str]:
    """The modules of tutorlib that define what the cells import; a name of a room counts for the file that it comes from."""
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tutorlib"):
                for alias in node.names:
                    yield home(root, node.module).get(alias.name, node.module)


@cache
def home(root: Path, module: str) -> dict[str, str]:
    """Where the names come from that the room `module` passes on; nothing for a file."""
    room = root.joinpath(*module.split("."), "__init__.py")
    if not room.exists():
        return {}
    tree = ast.parse(room.read_text("utf8"))
    return {alias.asname or alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom)
            for alias in node.names}


def with_first_uses(text: str, book: tuple[Chapter, ...]) -> str:
    """The glossary; each entry is its terms, one a line, and an indented definition."""
    def linked(entry: re.Match) -> str:
        chapter = first_use(entry["term"], book)
        return entry[0] if chapter is None else f"{entry[0]} ({link(chapter)})"
    return re.sub(r"^(?P<term>\S.*)\n(?:\S.*\n)*(?:  \S.*(?:\n|\Z))*  \S.*$", linked, text, flags=re.M)


def first_use(term: str, book: tuple[Chapter, ...]) -> Chapter | None:
    """The first chapter with the term in bold, or else the first with it at all; an s may follow."""
    term = spelled(term)
    for pattern in (rf"\*\*{term}s?\*\*", rf"(?<!\w){term}s?(?!\w)"):
        for chapter in book:
            if re.search(pattern, chapter.text, re.I):
                return chapter
    return None


def spelled(term: str) -> str:
    """The pattern of a term in running text: blanks and hyphens alike; what is in brackets may be missing."""
    return r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", term.partition(" (")[0])))


def with_users(text: str, book: tuple[Chapter, ...]) -> str:
    """An interface page; above what a module documents stand the chapters that use it."""
    def linked(block: re.Match) -> str:
        users = [link(chapter, up=2) for chapter in book if block["module"] in chapter.modules]
        more = len(users) - SHOWN
        names = ", ".join(users[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"*Used in* {names}.\n\n{block[0]}" if users else block[0]
    return re.sub(r"^```\{eval-rst\}\n\.\. automodule:: (?P<module>\S+)", linked, text, flags=re.M)


def link(chapter: Chapter, up: int = 1) -> str:
    return f"[{chapter.title}]({'../' * up}{chapter.path})"
