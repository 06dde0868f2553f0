"""A drawing of book/drawings becomes part of the page, so that its text and lines take the colours of the theme.

Sphinx would show the file as a picture, which knows nothing of light and dark. In the page, the drawing's styles find the
theme's variables; in Jupyter the same file is a picture, and the styles fall back to ink on white.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

FOLDER = "book/drawings/"


def inlined(svg: str, alt: str, *, width: int | None = None) -> str:
    """The element that stands in the page for a drawing: its root named as an image and described by `alt`."""
    root = svg[svg.index("<svg") :].strip()
    label = f'<svg role="img" aria-label="{escape(alt, quote=True)}"'
    if width:
        label += f' style="max-width:{width}px"'
    return root.replace("<svg", label, 1)


def view_width(svg: str) -> float:
    """The width of a drawing in its own units, which are those of its text.

    Raises ValueError if the root has no viewBox of four numbers.
    """
    found = re.search(r'<svg[^>]*\bviewBox="\s*[-\d.]+[ ,]+[-\d.]+[ ,]+([\d.]+)[ ,]+[\d.]+\s*"', svg)
    if not found:
        raise ValueError("a drawing needs a viewBox of four numbers on its root")
    return float(found[1])


class InlineDrawings(SphinxPostTransform):
    """Replaces the picture by the file's text; runs before the builder collects its images."""

    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for node in list(self.document.findall(nodes.image)):
            name = node["uri"]
            if not (name.startswith(FOLDER) and name.endswith(".svg")):
                continue
            svg = Path(self.env.srcdir, name).read_text(encoding="utf-8")
            text = inlined(svg, node.get("alt", ""), width=round(1.35 * view_width(svg)))
            node.replace_self(nodes.raw("", f'<div class="drawn">{text}</div>', format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(InlineDrawings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
