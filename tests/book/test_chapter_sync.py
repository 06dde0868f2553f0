"""A definition in a chapter that bears a name of the package is the package's definition; teaching versions take other
names. Compared as syntax trees, without docstrings and comments."""
import ast
import difflib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*/*.ipynb"))
Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapters_definitions_are_the_packages(chapter):
    faults = sync_faults(chapter, package_definitions(ROOT / "tutorlib"))
    assert not faults, "\n\n".join(faults)


def package_definitions(package):
    """Public name -> [(where, definition), ...] of every function and class at the top of the package's modules.

    The exercises are left out: their references are answers, not the package's interface.
    """
    found = {}
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] == "exercises":
            continue
        for node in definitions(path.read_text("utf8")):
            if not node.name.startswith("_"):
                where = f"{path.relative_to(package.parent).as_posix()}:{node.lineno}"
                found.setdefault(node.name, []).append((where, node))
    return found


def sync_faults(chapter, package):
    """What a chapter defines otherwise than the package does, each with the lines that differ."""
    cells = json.loads(chapter.read_text("utf8"))["cells"]
    faults = []
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code":
            continue
        for node in definitions("".join(cell["source"])):
            known = package.get(node.name, [])
            if known and not any(same(node, other) for _, other in known):
                faults.append(complaint(f"{chapter.name}, cell {number}", node, *known[0]))
    return faults


def complaint(place, node, where, other):
    lines = difflib.unified_diff(bare(other).splitlines(), bare(node).splitlines(), where, place, lineterm="", n=1)
    return "\n".join([f"{place}: {node.name} differs from {where}. Make it equal, or give the teaching version a name "
                      "that tutorlib does not have.", *lines])


def definitions(code):
    """Functions and classes at the top level of a module or cell, also under an if, with, for or try."""
    try:
        pending = ast.parse(code).body[::-1]
    except SyntaxError:  # nbval fails such a cell, unless it is there to show the error
        return
    while pending:
        node = pending.pop()
        if isinstance(node, Definition):
            yield node
        elif isinstance(node, (ast.If, ast.With, ast.For, ast.While, ast.Try)):
            pending.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))


def same(node, other):
    return ast.dump(without_docstrings(node)) == ast.dump(without_docstrings(other))


def bare(node):
    return ast.unparse(without_docstrings(node))


def without_docstrings(node):
    node = ast.parse(ast.unparse(node))  # a copy
    for inner in ast.walk(node):
        if isinstance(inner, Definition) and ast.get_docstring(inner, clean=False) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return node


# The rule itself, on a package and chapters of a few lines.

PACKAGE = '''
def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Normalize."""
    return x.exp() / x.exp().sum(dim)


class Layer(nn.Module):
    """A layer."""

    def forward(self, x):
        """Double."""
        return 2 * x


def _private(x):
    return x
'''


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "library"
    (folder / "inner").mkdir(parents=True)
    (folder / "exercises").mkdir()
    (folder / "inner" / "functions.py").write_text(PACKAGE)
    (folder / "exercises" / "chapter.py").write_text("def answer(x):\n    return x\n")
    return package_definitions(folder)


def write_chapter(folder, *cells):
    path = folder / "chapter.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["def softmax(x): a word"]}] + [
        {"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]}))
    return path


def test_the_packages_public_names_are_collected(package):
    assert {name: [where for where, _ in places] for name, places in package.items()} == {
        "softmax": ["library/inner/functions.py:2"], "Layer": ["library/inner/functions.py:7"]}


@pytest.mark.parametrize("cell", [
    "def softmax(x: Tensor, dim: int = -1) -> Tensor:\n    # why\n    return (x.exp() / x.exp().sum(dim))  # (T)",
    'def softmax(x: Tensor, dim: int=-1) -> Tensor:\n    """Other words."""\n    return x.exp() / x.exp().sum(dim)',
    "class Layer(nn.Module):\n    def forward(self, x):\n        return 2 * x",
    "def softmax_by_hand(x):\n    return x",
    "def _private(x):\n    return 0",
    "def answer(x):\n    return 0",
    "class Model:\n    def softmax(self, x):\n        return x",
    "softmax = torch.softmax",
    "def softmax(x)\n    return x",
])
def test_an_equal_definition_or_another_name_is_fine(package, tmp_path, cell):
    assert sync_faults(write_chapter(tmp_path, cell), package) == []


@pytest.mark.parametrize("cell, name, line", [
    ("def softmax(x: Tensor, dim: int = 0) -> Tensor:\n    return x.exp() / x.exp().sum(dim)", "softmax", "dim: int=0"),
    ("def softmax(x, dim=-1):\n    return x.exp() / x.exp().sum(dim)", "softmax", "+def softmax(x, dim=-1):"),
    ("class Layer(nn.Module):\n    def forward(self, x):\n        return x * 2", "Layer", "return x * 2"),
    ("class Layer:\n    def forward(self, x):\n        return 2 * x", "Layer", "+class Layer:"),
    ("if True:\n    def softmax(x):\n        return x", "softmax", "+    return x"),
    ("@final\nclass Layer(nn.Module):\n    def forward(self, x):\n        return 2 * x", "Layer", "+@final"),
])
def test_a_different_definition_is_shown_with_its_lines(package, tmp_path, cell, name, line):
    (fault,) = sync_faults(write_chapter(tmp_path, "x = 1", cell), package)
    assert fault.startswith(f"chapter.ipynb, cell 3: {name} differs from library/inner/functions.py:")
    assert line in fault
