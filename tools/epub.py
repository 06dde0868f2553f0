"""Build the book as an ePub, _build/large-models.epub, with formulas as MathML, and check it.

    python tools/epub.py

It needs the package latex2mathml, which requirements.txt pins. The ePub has every page of _toc.yml and runs nothing: the models
and widgets of the web edition are named where they stand.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(ROOT / "tools"))
from build_book import BuildError, run_jupyter_book  # noqa: E402

MADE = Path("_build", "epub", "large-models.epub")
TARGET = Path("_build", "large-models.epub")
OPF = "{http://www.idpf.org/2007/opf}"


def build(root: Path) -> None:
    """Run Jupyter Book with Sphinx's builder for ePubs. Raises BuildError if it fails."""
    shutil.rmtree(root / "_build" / "epub", ignore_errors=True)
    run_jupyter_book(root, "--builder", "custom", "--custom-builder", "epub")
    shutil.copyfile(root / MADE, root / TARGET)


def findings(path: Path) -> list[str]:
    """What a reader of ePubs would refuse or miss, a line each."""
    with zipfile.ZipFile(path) as book:
        first = book.infolist()[0]
        found = [] if (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED) else ["mimetype is not first"]
        trees = {}
        for name in book.namelist():
            if name.endswith((".xhtml", ".opf", ".ncx", ".xml", ".svg")):
                try:
                    trees[name] = ElementTree.fromstring(book.read(name))
                except ElementTree.ParseError as error:
                    found.append(f"{name}: {error}")
        names = set(book.namelist())
    for name, tree in trees.items():
        found += [f"{name}: {problem}" for problem in problems(name, tree, names)]
    return found


def problems(name: str, tree: ElementTree.Element, names: set[str]) -> Iterator[str]:
    """Dead addresses, scripts, and formulas that no one converted."""
    for element in tree.iter():
        tag = str(element.tag).rpartition("}")[2]
        if tag == "script":
            yield "a script"
        for key in ("href", "src"):
            address = urlsplit(element.get(key, ""))
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address.path)))
            if address.path and not address.scheme and not address.netloc and target not in names:
                yield f"leads to {address.path}, which is not there"
        if tag in ("mi", "mtext", "mo") and re.match(r"\\[a-zA-Z]", element.text or ""):
            yield f"an unknown command in a formula: {element.text}"
        if tag == "mi" and element.text == "&":
            yield "an alignment in a formula that was not understood"


def main() -> int:
    if find_spec("latex2mathml") is None:
        print("The ePub was not built: it needs the package latex2mathml; run: pip install latex2mathml.", file=sys.stderr)
        return 1
    try:
        build(ROOT)
    except BuildError as error:
        print(f"\nThe ePub was not built: {error}.", file=sys.stderr)
        return 1
    found = findings(ROOT / TARGET)
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    print(f"{ROOT / TARGET}: {(ROOT / TARGET).stat().st_size / 1e6:.1f} MB, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
