"""Build the book into _build/html, strictly, and check what was built.

    python tools/build_book.py

Any warning fails the build, and so does a page of _toc.yml that is missing, or anything that tools/check_site.py
reports. Notebooks are not executed: the book shows the committed outputs, and the tests compare them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
MATHJAX = Path("static", "mathjax", "es5", "tex-svg-full.js")

sys.path.insert(0, str(ROOT / "tools"))
import check_site  # noqa: E402
from chinese_font import chinese_characters, write_subset  # noqa: E402

INDEX = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="refresh" content="0; url={address}">
    <title>Large Models, Line by Line</title>
  </head>
  <body>
    <main><h1>Large Models, Line by Line</h1><p>The book begins with the <a href="{address}">preface</a>.</p></main>
  </body>
</html>
"""


class BuildError(Exception):
    """The book could not be built; the message says why."""


def copy_mathjax() -> None:
    """The one file that renders the formulas, from the installed package into the book's static files."""
    package = find_spec("mathjax")
    if package is None or not package.submodule_search_locations:
        raise BuildError("the package django-static-mathjax is not installed; run: pip install -r requirements.txt")
    source = Path(package.submodule_search_locations[0]) / MATHJAX
    target = ROOT / "book" / "_static" / "mathjax" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def toc_parts() -> list[tuple[str, list[str]]]:
    """The caption and the pages of each part of _toc.yml, in its order; the first page is a part without caption."""
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def files(node) -> list[str]:
        if isinstance(node, list):
            return [name for child in node for name in files(child)]
        if isinstance(node, dict):
            own = [node["file"]] if "file" in node else []
            return own + [name for key in ("chapters", "sections") for name in files(node.get(key, []))]
        return []

    return [("", [toc["root"]]), *((part.get("caption", ""), files(part)) for part in toc["parts"])]


def toc_pages() -> list[str]:
    """Every page that _toc.yml names, in its order."""
    return [page for _, pages in toc_parts() for page in pages]


def build() -> None:
    """Run Jupyter Book on a clean folder: a page that is not read again would keep its warnings to itself."""
    shutil.rmtree(ROOT / "_build" / "html", ignore_errors=True)
    shutil.rmtree(ROOT / "_build" / ".doctrees", ignore_errors=True)
    run_jupyter_book(ROOT, "-W", "-n", "--keep-going")


def run_jupyter_book(root: Path, *options: str) -> None:
    """`jupyter-book build` in the folder `root`, with its package and extensions. Raises BuildError where it fails."""
    command = Path(sys.executable).with_name("jupyter-book" + (".exe" if os.name == "nt" else ""))
    paths = os.pathsep.join([str(root), str(root / "tools" / "sphinx_ext")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUTF8": "1"}
    if subprocess.run([str(command), "build", ".", *options], cwd=root, env=environment, check=False).returncode:
        raise BuildError("jupyter-book found a problem; it is named above")


def add_chinese_font() -> None:
    """The glyphs of the Chinese characters that the built pages use; custom.css names the file."""
    try:
        write_subset(chinese_characters(SITE), SITE / "_static" / "chinese.woff")
    except (FileNotFoundError, ValueError) as error:
        raise BuildError(str(error)) from error


def main() -> int:
    start = time.perf_counter()
    try:
        copy_mathjax()
        build()
        pages = toc_pages()
        missing = [page for page in pages if not (SITE / f"{page}.html").exists()]
        if missing:
            raise BuildError(f"these pages of _toc.yml were not built: {', '.join(missing)}")
        add_chinese_font()
        (SITE / "index.html").write_text(INDEX.format(address=f"{pages[0]}.html"), encoding="utf-8")
        if check_site.main([str(SITE)]):
            raise BuildError("the site check found the problems listed above")
    except BuildError as error:
        print(f"\nThe book was not built: {error}.", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - start
    print(f"\nThe book is whole: {len(pages)} pages in {seconds:.0f} s. Open {(SITE / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
