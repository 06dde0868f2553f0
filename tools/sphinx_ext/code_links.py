"""In the cells of a chapter, a name that comes from tutorlib leads to its entry in the interface: its first use in each cell.

sphinx-codeautolink does this for any package, but parses and writes every page anew with BeautifulSoup, which took more than a
quarter of the time of the whole build. Here the names are read from the imports, and the page is left as it is around them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from back_links import home
from sphinx.application import Sphinx

CELL = re.compile(r'(?s)(?<=<div class="highlight-ipython3 notranslate"><div class="highlight"><pre>).*?(?=</pre>)')
NAME = re.compile(r'(?<!<span class="o">\.</span>)<span class="n">(?P<name>\w+)</span>(?!<span class="o">=</span>)')


def from_package(root: Path, codes: Iterable[str]) -> dict[str, str]:
    """The names that cells import from tutorlib and never give away again, with the full names of what they mean."""
    found, taken = {}, set()
    for node in (node for code in codes for node in ast.walk(ast.parse(code))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tutorlib"):
            for alias in node.names:
                module = home(root, node.module).get(alias.name, node.module)
                found[alias.asname or alias.name] = f"{module}.{alias.name}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            taken.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            taken.add(node.name)
        elif isinstance(node, ast.arg):
            taken.add(node.arg)
    return {name: meant for name, meant in found.items() if name not in taken}


def with_links(html: str, addresses: dict[str, tuple[str, str]]) -> str:
    """A page whose cells lead from names to (address, full name)."""
    def cell(found: re.Match) -> str:
        left = dict(addresses)

        def name(found: re.Match) -> str:
            if found["name"] not in left:
                return found[0]
            address, title = left.pop(found["name"])
            return f'<a class="code-name" href="{escape(address)}" title="{escape(title)}">{found[0]}</a>'
        return NAME.sub(name, found[0])
    return CELL.sub(cell, html)


def add_links(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    if not page.startswith("chapters/") or doctree is None:
        return
    root = Path(app.srcdir)
    cells = json.loads((root / f"{page}.ipynb").read_text("utf8"))["cells"]
    names = from_package(root, ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    objects = app.env.get_domain("py").objects
    addresses = {name: (f"{app.builder.get_relative_uri(page, entry.docname)}#{entry.node_id}", meant)
                 for name, meant in names.items() if (entry := objects.get(meant))}
    context["body"] = with_links(context["body"], addresses)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
