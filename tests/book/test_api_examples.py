"""The examples on the interface pages, book/api/*.md: each runs as a doctest, and none of the package's names is without one.

The rule: below each automodule the page has a block of examples, complete in itself with its imports. Every public function
and class that the page documents is used in one of them: its name stands in the code, and not in an import alone. The one
exception is a NamedTuple, which holds what a function returns: that function's example shows it.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

PAGES = sorted((Path(__file__).resolve().parents[2] / "book" / "api").glob("*.md"))
BLOCK = re.compile(r"^```pycon\n(.*?)^```$", re.M | re.S)
DIRECTIVE = re.compile(r"^\.\. automodule:: (\S+)\n((?:   :.*\n)*)", re.M)
OPTION = re.compile(r"^   :([a-z-]+):(.*)$", re.M)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WIDTH = 72  # what a telephone shows without scrolling far

SLOW = {"pretrained", "training", "distributed"}  # all weights of SmolLM2; processes beside this one

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
every_page_run = pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in PAGES]
)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Each block of examples, with the number of the line before it."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found.group(1)) for found in BLOCK.finditer(text)]


def failures(source: str, name: str, line: int) -> str:
    """What doctest reports of a block; nothing where all is as printed."""
    test = doctest.DocTestParser().get_doctest(source, {"__name__": "__main__"}, name, name, line)
    assert test.examples, f"{name}:{line + 1}: a block without an example"
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.append)
    return "".join(report)


def documented(page: Path) -> dict[str, list[str]]:
    """The functions and classes of each automodule, as autodoc lists them: the module's `__all__`, else what it defines."""
    found: dict[str, list[str]] = {}
    for name, given in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
        module = importlib.import_module(name)
        options = {option: re.split(r",\s*", text.strip()) for option, text in OPTION.findall(given)}
        chosen = set(options["members"]) - {""}  # empty: all of them
        public = getattr(module, "__all__", None)
        names = public if public is not None else [n for n, m in vars(module).items() if inspect.getmodule(m) is module]
        found[name] = [
            member
            for member in names
            if not member.startswith("_")
            and (inspect.isfunction(item := getattr(module, member)) or inspect.isclass(item))
            and inspect.getdoc(item)
            and member not in options.get("exclude-members", [])
            and (not chosen or member in chosen)
        ]
    return found


def is_result(item: object) -> bool:
    """Whether it is a NamedTuple: a class that holds what a function returns."""
    return inspect.isclass(item) and issubclass(item, tuple) and hasattr(item, "_fields")


def used(source: str) -> set[str]:
    """The names in the code of a block, those of its imports left out."""
    code = "".join(example.source for example in doctest.DocTestParser().get_examples(source))
    nodes = list(ast.walk(ast.parse(code)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def without_example(page: Path) -> list[str]:
    shown = set().union(*(used(source) for _, source in blocks(page)))
    return [
        f"{module}.{name}"
        for module, names in documented(page).items()
        for name in names
        if name not in shown and not is_result(getattr(importlib.import_module(module), name))
    ]


@pytest.fixture
def left_as_it_was() -> Iterator[None]:
    """The environment, matplotlib's style and figures, torch's random numbers: what examples may change."""
    with patch.dict(os.environ), matplotlib.rc_context(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
        plt.close("all")


@every_page_run
def test_examples_print_what_they_say(page: Path, left_as_it_was: None) -> None:
    report = "".join(failures(source, f"book/api/{page.name}", line) for line, source in blocks(page))
    if report:
        pytest.fail(report, pytrace=False)


@every_page
def test_every_name_has_an_example(page: Path) -> None:
    assert without_example(page) == []


@every_page
def test_a_block_below_each_automodule(page: Path) -> None:
    """One automodule a directive, and its examples before the next: `eval-rst`, perhaps a sentence, `pycon`."""
    kinds = re.findall(r"^```(\{eval-rst\}|pycon)$", page.read_text(encoding="utf-8"), re.M)
    assert kinds == ["{eval-rst}", "pycon"] * len(DIRECTIVE.findall(page.read_text(encoding="utf-8")))


@every_page
def test_lines_are_short(page: Path) -> None:
    long = [line for _, source in blocks(page) for line in source.splitlines() if len(line) > WIDTH]
    assert long == []


def test_a_wrong_result_is_found() -> None:
    assert failures(">>> 1 + 1\n2\n", "page", 0) == ""
    assert "Got:\n    2" in failures(">>> 1 + 1\n3\n", "page", 0)


def test_a_name_in_an_import_is_no_example() -> None:
    assert used(">>> from math import pi, tau\n>>> tau / 2\n3.14...\n") == {"tau"}


def test_a_name_without_example_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```{eval-rst}\n.. automodule:: tutorlib.layers.compiled\n   :members:\n```\n\n"
                    "```pycon\n>>> from tutorlib.layers.compiled import plain_name, unwrapped\n>>> plain_name('x')\n'x'\n```\n")
    assert without_example(page) == ["tutorlib.layers.compiled.unwrapped"]
